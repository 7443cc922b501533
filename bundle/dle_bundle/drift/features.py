"""The features that drift monitoring compares: the values of table columns, and statistics of other inputs.

Images: brightness, contrast, sharpness. Series: level and spread of each channel, length up to the last known step;
values that are known in advance always have the same length.
Text: length in characters, and the share of words that are not in the tokenizer's vocabulary as a whole.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from dle_bundle import series
from dle_bundle.groups import MISSING_TIME, Groups
from dle_bundle.images import pixels as images
from dle_bundle.schema import Field, Schema, SequenceShape
from dle_bundle.text import Tokenizer

_CELLS_AT_ONCE = 1 << 20
_PIXELS_AT_ONCE = 1 << 22


@dataclass(frozen=True, slots=True)
class Feature:
    """A monitored feature: its name, its input, and values (N,): text (`""` = missing) or numbers (NaN = missing)."""

    name: str
    field: Field
    values: npt.NDArray[Any]

    @property
    def is_category(self) -> bool:
        """Whether the values are texts."""
        return self.field.kind == "categorical"


def table_columns(groups: Groups, schema: Schema) -> list[Feature]:
    """The table columns, in column order, whose values are monitored directly; missing date-times are NaN."""
    by_name: dict[str, npt.NDArray[Any]] = {}
    for index, field in enumerate(schema.numeric):
        by_name[field.name] = groups.numeric[:, index]
    for index, field in enumerate(schema.categorical):
        by_name[field.name] = groups.categorical[:, index]
    for index, field in enumerate(schema.datetime):
        stamps = groups.datetime[:, index]
        by_name[field.name] = np.where(stamps == MISSING_TIME, np.nan, stamps.astype(np.float64))
    return [Feature(field.name, field, by_name[field.name]) for field in schema.inputs if field.name in by_name]


def monitored_features(groups: Groups, schema: Schema, tokenizer: Tokenizer | None = None) -> list[Feature]:
    """Every monitored feature of these rows, in the order of the inputs; text must be tokenised."""
    described: dict[str, list[Feature]] = {}
    for feature in (*table_columns(groups, schema), *_described(groups, schema, tokenizer)):
        described.setdefault(feature.field.name, []).append(feature)
    return [feature for field in schema.inputs for feature in described.get(field.name, ())]


def feature_names(schema: Schema) -> dict[str, bool]:
    """The name of every monitored feature, and whether it is a category."""
    found: dict[str, bool] = {}
    for field in schema.inputs:
        if field.image is not None:
            found |= {f"{field.name}.{what}": False for what in images.STATISTICS}
        elif field.sequence is not None:
            found |= {f"{field.name}.{what}": False for what in _statistics_of(field.sequence)}
        elif field.kind == "text":
            found |= {f"{field.name}.{what}": False for what in ("length", "unknown")}
        else:
            found[field.name] = field.kind == "categorical"
    return found


def _statistics_of(shape: SequenceShape) -> tuple[str, ...]:
    names = series.statistics_of(shape.channels)
    return names if shape.ahead is None else names[:-1]


def _known_steps(sequence: npt.NDArray[np.float64]) -> npt.NDArray[np.int64]:
    """The number of steps (N,) of series (N, T, C) up to the last one with a value, at least 1.

    `Groups.lengths` is no substitute: it holds the length of a row's longest series.
    """
    counts = np.ones(len(sequence), dtype=np.int64)
    rows = max(1, _CELLS_AT_ONCE // max(1, int(np.prod(sequence.shape[1:]))))
    for start in range(0, len(sequence), rows):
        unknown: npt.NDArray[np.bool_] = np.isnan(sequence[start : start + rows])
        blank = np.logical_and.reduce(unknown, axis=2)
        last = blank.shape[1] - blank[:, ::-1].argmin(axis=1)
        counts[start : start + rows] = np.where(blank.all(axis=1), 1, last)
    return counts


def _image_statistics(stacked: Any, channels: slice, *, required: bool) -> dict[str, npt.NDArray[np.float32]]:
    """The statistics of these `channels` of `Groups.image`, some rows at a time: the images may still be in files.

    A missing image is black and has none. If the input is `required`, a black image is a real one.
    """
    found: list[dict[str, npt.NDArray[np.float32]]] = []
    rows = max(1, _PIXELS_AT_ONCE // max(1, int(np.prod(stacked.shape[1:]))))
    for start in range(0, max(len(stacked), 1), rows):
        pixels = np.asarray(stacked[start : start + rows])[:, channels]
        missing = np.zeros(len(pixels), dtype=bool) if required else ~pixels.any(axis=(1, 2, 3))
        values = images.statistics(pixels)
        found.append({what: np.where(missing, np.float32(np.nan), each) for what, each in values.items()})
    return {what: np.concatenate([part[what] for part in found]) for what in found[0]}


def _described(groups: Groups, schema: Schema, tokenizer: Tokenizer | None) -> Iterator[Feature]:
    for index, field in enumerate(schema.image):
        assert field.image is not None
        first = index * field.image.channels
        channels = slice(first, first + field.image.channels)
        for what, values in _image_statistics(groups.image, channels, required=field.required).items():
            yield Feature(f"{field.name}.{what}", field, values)
    for fields, whole in ((schema.sequence, groups.sequence), (schema.known, groups.known)):
        first = 0
        for field in fields:
            assert field.sequence is not None
            assert whole is not None
            own = whole[..., first : first + len(field.sequence.channels)]
            first += len(field.sequence.channels)
            found = series.statistics(own, _known_steps(own), field.sequence.channels)
            for what in _statistics_of(field.sequence):
                yield Feature(f"{field.name}.{what}", field, found[what])
    if schema.text:
        assert tokenizer is not None
        assert groups.text is not None
        assert groups.tokens is not None
        pairs = tokenizer.statistics(groups.text, groups.tokens)
        for field, (length, unknown) in zip(schema.text, pairs, strict=True):
            yield Feature(f"{field.name}.length", field, length)
            yield Feature(f"{field.name}.unknown", field, unknown)
