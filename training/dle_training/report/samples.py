"""Which training examples a report shows: what the loop drew its batches from, and what it made of them.

They are picked by a fixed seed, spread over the targets, and varied by the very module that the loop calls. Of images
that are still in files, only those that are shown are read.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from tokenizers import Tokenizer as Model
from torch import Tensor

from dle_bundle.groups import Groups
from dle_bundle.schema import Label, Schema
from dle_training.augmentation import augment
from dle_training.augmentation.images import ImageAugmentation
from dle_training.augmentation.series import SeriesAugmentation
from dle_training.config.run_config import RunConfig
from dle_training.data.dataset import Dataset
from dle_training.data.target import Values, class_index
from dle_training.preprocessing.pipeline import Preprocessing

IMAGES, SERIES = 8, 6
"""How many examples are shown of each kind."""
VERSIONS = 3
"""Variations of each; where training varied nothing, more images are shown instead."""
CHANNELS = 3
"""Channels of a series that are drawn."""
_MEASURED = 5_000
"""Texts whose tokens are counted, evenly spaced."""

Shown = str | float | None
"""A target for people: the class's name, or a value; None for the many values of a forecast."""
Tiles = npt.NDArray[np.uint8]


@dataclass(frozen=True, slots=True, eq=False)
class TrainingImages:
    """`plain` (M, H, W, 1 or 3) with their targets; `varied` (V, M, H, W, 1 or 3), None where training varies nothing.

    `column` is the image column that they are of, where there are several.
    """

    plain: Tiles
    targets: tuple[Shown, ...]
    varied: Tiles | None
    column: str | None = None


@dataclass(frozen=True, slots=True, eq=False)
class TrainingSeries:
    """Standardised `plain` (M, T, C), NaN = missing or beyond the end; `varied` (V, M, T, C), None as of images.

    `channels` are the names of these C, the first of `total`.
    """

    plain: npt.NDArray[np.floating]
    targets: tuple[Shown, ...]
    varied: npt.NDArray[np.floating] | None
    channels: tuple[str, ...]
    total: int


@dataclass(frozen=True, slots=True, eq=False)
class TextLengths:
    """Tokens (N,) of training texts, uncut; `truncated` is the share of all texts that had more than `max_tokens`."""

    tokens: npt.NDArray[np.int64]
    max_tokens: int
    truncated: float
    vocabulary: int


@dataclass(frozen=True, slots=True)
class Samples:
    """Examples of the training part, of each kind of input that there is."""

    images: TrainingImages | None = None
    series: TrainingSeries | None = None
    texts: TextLengths | None = None


def choose(dataset: Dataset, preprocessing: Preprocessing, config: RunConfig) -> Samples:
    """Examples of the training part, and of what the loop makes of them; torch's random numbers stay as they are."""
    varied = augment.build(config.augmentation, preprocessing.shape(frequencies=False))
    schema, seed = dataset.schema, config.seed
    return Samples(
        images=_images(dataset, None if varied is None else varied.images, seed) if schema.image else None,
        series=_series(dataset, preprocessing, None if varied is None else varied.series, seed)
        if schema.sequence
        else None,
        texts=_texts(dataset.groups, dataset.split.train, preprocessing) if schema.text else None,
    )


def one_of_each(kinds: npt.NDArray[np.int64], most: int) -> npt.NDArray[np.int64]:
    """At most so many positions in `kinds` (N,): the first of each kind, then the second of each; sorted by kind."""
    turn = np.empty(len(kinds), dtype=np.int64)
    for kind in np.unique(kinds):
        where = np.flatnonzero(kinds == kind)
        turn[where] = np.arange(len(where))
    first = np.argsort(turn, kind="stable")[:most]
    return first[np.argsort(kinds[first], kind="stable")]


def tiles(images: Any, schema: Schema) -> Tiles:
    """The first image of each row of the `image` group (N, columns · channels, H, W), as (N, H, W, channels)."""
    form = schema.image[0].image
    assert form is not None
    return np.asarray(images)[:, : form.channels].transpose(0, 2, 3, 1)


def shown(target: Values, classes: tuple[Label, ...] | None, names: tuple[str, ...]) -> tuple[Shown, ...]:
    """Labels or values (N,) as people read them; of several values (N, horizon) none."""
    if classes is not None:
        return tuple(names[index] for index in class_index(target, classes))
    return tuple(map(float, target)) if target.ndim == 1 else (None,) * len(target)


def _spread(target: Values, classes: tuple[Label, ...] | None, most: int, seed: int) -> npt.NDArray[np.int64]:
    """At most so many positions in `target`: of as many classes as there can be, or from the lowest value up."""
    order = np.random.default_rng(seed).permutation(len(target))
    if classes is not None:
        return order[one_of_each(class_index(target[order], classes), most)]
    if target.ndim > 1:
        return np.sort(order[:most])
    ranked = order[np.argsort(target[order], kind="stable")]
    return ranked[np.unique(np.linspace(0, len(ranked) - 1, most).round().astype(np.int64))]


def _chosen(dataset: Dataset, most: int, seed: int) -> tuple[npt.NDArray[np.int64], tuple[Shown, ...]]:
    """Rows of the training part, and their targets."""
    train, outputs = dataset.split.train, dataset.schema.outputs
    rows = train[_spread(dataset.target[train], outputs.classes, most, seed)]
    return rows, shown(dataset.target[rows], outputs.classes, outputs.class_names)


def _versions(vary: Callable[[], Tensor], seed: int) -> list[Tensor]:
    """What `vary` makes in a few goes with random numbers from `seed`; the generator is left as it was."""
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        return [vary() for _ in range(VERSIONS)]


def _images(dataset: Dataset, vary: ImageAugmentation | None, seed: int) -> TrainingImages:
    schema = dataset.schema
    rows, targets = _chosen(dataset, IMAGES * (1 if vary is not None else 2), seed)
    pixels = np.asarray(dataset.groups.image[rows])
    column = schema.image[0].name if len(schema.image) > 1 else None
    if vary is None:
        return TrainingImages(tiles(pixels, schema), targets, None, column)
    drawn = _versions(lambda: vary(torch.from_numpy(pixels)), seed)
    varied = [tiles(one.clamp(0, 255).round().byte().numpy(), schema) for one in drawn]
    return TrainingImages(tiles(pixels, schema), targets, np.stack(varied), column)


def _series(
    dataset: Dataset, preprocessing: Preprocessing, vary: SeriesAugmentation | None, seed: int
) -> TrainingSeries:
    rows, targets = _chosen(dataset, SERIES, seed)
    groups = dataset.groups.take(rows)
    assert groups.sequence is not None
    names = [name for field in dataset.schema.sequence if field.sequence for name in field.sequence.channels]
    inputs = preprocessing.prepare(groups)
    standard, lengths = inputs["sequence"], inputs["lengths"]
    # what is missing stays so through every variation, at the steps that it is moved to
    standard[..., : len(names)][torch.from_numpy(np.isnan(groups.sequence))] = torch.nan
    kept = slice(0, CHANNELS)
    varied = None
    if vary is not None:
        versions = torch.stack(_versions(lambda: vary(standard, lengths)[0], seed))  # (V, M, T, C')
        versions[:, torch.arange(standard.shape[1]) >= lengths[:, None]] = torch.nan
        varied = versions[..., : len(names)][..., kept].numpy()
    plain = standard[..., : len(names)][..., kept].numpy()
    return TrainingSeries(plain, targets, varied, tuple(names[kept]), len(names))


def _texts(groups: Groups, train: npt.NDArray[np.int64], preprocessing: Preprocessing) -> TextLengths | None:
    fitted, tokenizer = preprocessing.fitted.tokens, preprocessing.tokenizer
    assert groups.text is not None
    assert fitted is not None
    assert tokenizer is not None
    model = Model.from_str(tokenizer.content.decode())
    model.no_truncation()
    texts = [one for one in groups.text[train[:: -(-len(train) // _MEASURED)]].ravel().tolist() if one]
    counts = np.array([len(encoding.ids) for encoding in model.encode_batch_fast(texts)], dtype=np.int64)
    return TextLengths(counts, fitted.max_tokens, fitted.truncated, fitted.vocabulary)
