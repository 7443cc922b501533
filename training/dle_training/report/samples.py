"""The training examples that a report shows: rows as they are, and as augmentation varied them.

They come from the training sample that the run keeps, and are spread over the targets. The module that varies them is
the one that the training loop calls.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from dle_bundle import series
from dle_bundle.groups import Groups
from dle_bundle.schema import Label, Schema
from dle_training.augmentation import augment
from dle_training.augmentation.images import ImageAugmentation
from dle_training.augmentation.series import SeriesAugmentation
from dle_training.config.run_config import RunConfig
from dle_training.data.rows import row_samples
from dle_training.data.target import Values, class_index
from dle_training.preprocessing.pipeline import Preprocessing

IMAGES, SERIES = 8, 6
"""Number of examples of each kind."""
VERSIONS = 3
"""Variations of each example. Without augmentation, the report shows more images instead."""
CHANNELS = 3
"""Largest number of channels that are drawn of a series."""

Shown = str | float | None
"""A target for people: the class's name, or a value; None for the many values of a forecast."""
Tiles = npt.NDArray[np.uint8]


@dataclass(frozen=True, slots=True, eq=False)
class TrainingImages:
    """Images `plain` (M, H, W, 1 or 3) with their targets, and their variations `varied` (V, M, H, W, 1 or 3).

    `varied` is None without augmentation. `column` is the column of the images, or None if there is only one.
    """

    plain: Tiles
    targets: tuple[Shown, ...]
    varied: Tiles | None
    column: str | None = None


@dataclass(frozen=True, slots=True, eq=False)
class TrainingSeries:
    """Standardised series `plain` (M, T, C), NaN = missing or beyond the end, and variations `varied` (V, M, T, C).

    `varied` is None without augmentation. `channels` are the names of the C channels, the first of `total`. The windows
    of a forecast are in the units of their columns, the target comes first, and `ahead` (M, horizon) are its next
    values; None for other series.
    """

    plain: npt.NDArray[np.floating]
    targets: tuple[Shown, ...]
    varied: npt.NDArray[np.floating] | None
    channels: tuple[str, ...]
    total: int
    ahead: npt.NDArray[np.floating] | None = None


@dataclass(frozen=True, slots=True, eq=False)
class TextLengths:
    """Tokens (N,) of some training texts before the cut; `truncated` is the share of all texts above `max_tokens`."""

    tokens: npt.NDArray[np.int64]
    max_tokens: int
    truncated: float
    vocabulary: int


@dataclass(frozen=True, slots=True)
class Samples:
    """Examples of the training part, for each kind of input."""

    images: TrainingImages | None = None
    series: TrainingSeries | None = None
    texts: TextLengths | None = None


@dataclass(frozen=True, slots=True)
class _TrainingRows:
    """Training rows to choose from."""

    groups: Groups
    target: Values
    schema: Schema
    seed: int

    def places(self, most: int) -> npt.NDArray[np.int64]:
        """The positions of at most this many rows, spread over the targets."""
        return row_samples.spread(self.target, self.schema.outputs.classes, most, self.seed)

    def spread(self, most: int) -> tuple[Groups, tuple[Shown, ...]]:
        """Return at most this many rows, spread over the targets, and their targets."""
        outputs, places = self.schema.outputs, self.places(most)
        return self.groups.take(places), shown(self.target[places], outputs.classes, outputs.class_names)


def choose(
    training: Groups, target: Values, schema: Schema, preprocessing: Preprocessing, config: RunConfig
) -> Samples:
    """Return examples of the `training` rows, and their variations. PyTorch's random generators keep their states."""
    varied = augment.build(config.augmentation, preprocessing.shape(frequencies=False))
    rows = _TrainingRows(training, target, schema, config.seed)
    return Samples(
        images=_images(rows, None if varied is None else varied.images) if schema.image else None,
        series=_series(rows, preprocessing, None if varied is None else varied.series) if schema.sequence else None,
        texts=_texts(preprocessing) if schema.text else None,
    )


def tiles(images: Any, schema: Schema) -> Tiles:
    """The first image of each row of the `image` group (N, columns · channels, H, W), as (N, H, W, channels)."""
    form = schema.image[0].image
    assert form is not None
    return np.asarray(images)[:, : form.channels].transpose(0, 2, 3, 1)


def shown(target: Values, classes: tuple[Label, ...] | None, names: tuple[str, ...]) -> tuple[Shown, ...]:
    """Labels or values (N,) as text; None for several values (N, horizon)."""
    if classes is not None:
        return tuple(names[index] for index in class_index(target, classes))
    return tuple(map(float, target)) if target.ndim == 1 else (None,) * len(target)


def _versions(vary: Callable[[], Tensor], seed: int) -> list[Tensor]:
    """Return a few results of `vary` with random numbers from `seed`. The random generator keeps its state."""
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        return [vary() for _ in range(VERSIONS)]


def _images(rows: _TrainingRows, vary: ImageAugmentation | None) -> TrainingImages:
    chosen, targets = rows.spread(IMAGES * (1 if vary is not None else 2))
    schema, pixels = rows.schema, np.asarray(chosen.image)
    column = schema.image[0].name if len(schema.image) > 1 else None
    if vary is None:
        return TrainingImages(tiles(pixels, schema), targets, None, column)
    drawn = _versions(lambda: vary(torch.from_numpy(pixels)), rows.seed)
    varied = [tiles(one.clamp(0, 255).round().byte().numpy(), schema) for one in drawn]
    return TrainingImages(tiles(pixels, schema), targets, np.stack(varied), column)


def _series(rows: _TrainingRows, preprocessing: Preprocessing, vary: SeriesAugmentation | None) -> TrainingSeries:
    chosen, targets = rows.spread(SERIES)
    assert chosen.sequence is not None
    names = [name for field in rows.schema.sequence if field.sequence for name in field.sequence.channels]
    inputs = preprocessing.prepare(chosen)
    standard, lengths = inputs["sequence"], inputs["lengths"]
    # missing steps stay missing in every variation, wherever augmentation moves them
    standard[..., : len(names)][torch.from_numpy(np.isnan(chosen.sequence))] = torch.nan
    layout, kept = rows.schema.layout, list(range(min(CHANNELS, len(names))))
    forecast = layout is not None and layout.window is not None
    if forecast:  # the target first
        first = names.index(rows.schema.outputs.target)
        kept = [first, *(each for each in range(len(names)) if each != first)][:CHANNELS]
    varied = None
    if vary is not None:
        versions = torch.stack(_versions(lambda: vary(standard, lengths)[0], rows.seed))  # (V, M, T, C')
        versions[:, torch.arange(standard.shape[1]) >= lengths[:, None]] = torch.nan
        varied = versions[..., kept].numpy()
    plain, shown_names = standard[..., kept].numpy(), tuple(names[each] for each in kept)
    if not forecast:
        return TrainingSeries(plain, targets, varied, shown_names, len(names))
    own = chosen.sequence[..., kept]
    ahead = rows.target[rows.places(SERIES)].reshape(len(own), -1).astype(np.float64)
    if varied is not None:
        varied = _in_units(varied, plain, own)
    return TrainingSeries(own, targets, varied, shown_names, len(names), ahead)


def _in_units(
    varied: npt.NDArray[np.floating], plain: npt.NDArray[np.floating], own: npt.NDArray[np.float64]
) -> npt.NDArray[np.floating]:
    """Scale variations (V, M, T, C) as the standardised windows `plain` (M, T, C) scale to their `own` values."""
    level, spread = series.moments(own)  # (M, C)
    middle, width = series.moments(plain)
    factor = np.divide(spread, width, out=np.zeros_like(spread), where=width > 0)
    scaled: npt.NDArray[np.floating] = (varied - middle[:, None]) * factor[:, None] + level[:, None]
    return scaled


def _texts(preprocessing: Preprocessing) -> TextLengths:
    fitted = preprocessing.fitted.tokens
    assert fitted is not None
    return TextLengths(np.array(fitted.lengths, dtype=np.int64), fitted.max_tokens, fitted.truncated, fitted.vocabulary)
