"""Statistics of each input in the training part: its range, its categories and an example value.

Categories are sorted by frequency (ties by text), so that a cap keeps the most frequent ones. An example is a median
or the most frequent value; it is never copied from a single row.
"""

import base64
import io
from collections import Counter
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt
from PIL import Image

from dle_bundle.drift.features import table_columns
from dle_bundle.groups import Groups
from dle_bundle.schema import Field, ImageShape, Schema
from dle_bundle.values.dates import iso

_EXAMPLE_WORDS = 8


def complete(schema: Schema, training: Groups, max_categories: int) -> tuple[Schema, dict[str, str], tuple[str, ...]]:
    """Return the schema with the statistics of `training`, the dropped columns with the reason, and notes.

    A column that is empty in the training part is dropped, because a model cannot learn from it.
    """
    fields: list[Field] = []
    dropped: dict[str, str] = {}
    notes: list[str] = []
    tabular = {feature.name: feature.values for feature in table_columns(training, schema)}
    for field in schema.inputs:
        if field.name not in tabular:
            fields.append(_described(field, training, schema))
            continue
        values = tabular[field.name]
        known = values[values != ""] if field.kind == "categorical" else values[~np.isnan(values)]
        if not len(known):
            dropped[field.name] = "no value in the training part"
            continue
        if field.kind == "categorical":
            ranked = sorted(Counter(known).items(), key=lambda item: (-item[1], item[0]))
            kept = tuple(text for text, _ in ranked[:max_categories])
            if rare := len(ranked) - len(kept):
                verb = "counts" if rare == 1 else "count"
                notes.append(f"{field.name}: the rarest {rare:,} of {len(ranked):,} categories {verb} as unseen")
            facts: dict[str, Any] = {"categories": kept, "example": _category_example(kept[0], field)}
        else:
            facts = _number_facts(field, known)
        fields.append(msgspec.structs.replace(field, **facts))
    return msgspec.structs.replace(schema, inputs=tuple(fields)), dropped, tuple(notes)


def _described(field: Field, training: Groups, schema: Schema) -> Field:
    """Add an example that a service accepts to an image, series or text field; it copies no single row."""
    if field.image is not None:
        return msgspec.structs.replace(field, example=_grey_image(field.image))
    if field.sequence is not None:
        if field in schema.known:
            assert training.known is not None
            ahead = np.full(len(training), training.known.shape[1])
            return msgspec.structs.replace(field, example=_median_series(training.known, ahead))
        assert training.sequence is not None
        assert training.lengths is not None
        first = sum(
            len(other.sequence.channels) for other in schema.sequence[: schema.sequence.index(field)] if other.sequence
        )
        own = training.sequence[..., first : first + len(field.sequence.channels)]
        seen = (int(training.lengths.min()), int(training.lengths.max()))
        shape = msgspec.structs.replace(field.sequence, observed_steps=seen)
        return msgspec.structs.replace(field, sequence=shape, example=_median_series(own, training.lengths))
    assert training.text is not None
    return msgspec.structs.replace(field, example=_frequent_words(training.text[:, schema.text.index(field)]))


def _grey_image(shape: ImageShape) -> str:
    """Return a uniformly grey PNG in Base64."""
    out = io.BytesIO()
    mode = "L" if shape.channels == 1 else "RGB"
    Image.new(mode, (shape.width, shape.height), 128 if shape.channels == 1 else (128, 128, 128)).save(out, "png")
    return base64.b64encode(out.getvalue()).decode()


def _median_series(sequence: npt.NDArray[np.float64], lengths: npt.NDArray[np.int64]) -> list[Any]:
    """Return the median of each step and channel, with the median length; one channel gives a flat list."""
    steps = max(int(np.median(lengths)), 1)
    within = sequence[lengths >= steps, :steps]
    gaps = np.isnan(within).all(axis=0)
    medians = np.nanmedian(np.where(gaps, 0.0, within), axis=0)
    rounded = [[_short(value) for value in step] for step in medians.tolist()]
    return [step[0] for step in rounded] if sequence.shape[2] == 1 else rounded


def _frequent_words(texts: npt.NDArray[np.object_]) -> str:
    """Return the most frequent words of all rows together."""
    counts = Counter(word for text in texts for word in text.lower().split())
    return " ".join(word for word, _ in counts.most_common(_EXAMPLE_WORDS))


def _category_example(text: str, field: Field) -> str | int:
    return int(text) if field.json_type == "integer" else text


def _number_facts(field: Field, known: npt.NDArray[Any]) -> dict[str, Any]:
    if field.kind == "boolean":
        return {"example": bool(known.mean() > 0.5)}
    low, high, middle = float(known.min()), float(known.max()), float(np.median(known))
    if field.kind == "datetime":
        return {"observed_range": (iso(low), iso(high)), "example": iso(middle)}
    whole = bool(np.all(known == np.floor(known)))
    return {"observed_range": (low, high), "example": int(middle) if whole else _short(middle)}


def _short(value: float) -> float:
    """The number without the last digit of float64, in which sums and products differ."""
    return float(f"{value:.15g}")
