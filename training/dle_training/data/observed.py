"""What training saw of each input: range, categories and an example, from the training part alone.

Categories stand with the most frequent first (equal ones by their text), so that a cap keeps the ones that matter.
An example is a median or the most frequent value, never one row's.
"""

from collections import Counter
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt

from dle_bundle.groups import FIRST_TIME, LAST_TIME, Groups
from dle_bundle.reference import columns
from dle_bundle.schema import Field, Schema

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def complete(schema: Schema, training: Groups, max_categories: int) -> tuple[Schema, dict[str, str], tuple[str, ...]]:
    """The schema with what `training` shows, the columns to leave out with the reason, and notes.

    A column that is empty in the training part cannot be learnt from, so it is left out of the schema.
    """
    fields: list[Field] = []
    dropped: dict[str, str] = {}
    notes: list[str] = []
    for field, values in columns(training, schema):
        known = values[values != ""] if field.kind == "categorical" else values[~np.isnan(values)]
        if not len(known):
            dropped[field.name] = "no value in the training part"
            continue
        if field.kind == "categorical":
            ranked = sorted(Counter(known).items(), key=lambda item: (-item[1], item[0]))
            kept = tuple(text for text, _ in ranked[:max_categories])
            if rare := len(ranked) - len(kept):
                notes.append(f"{field.name}: the rarest {rare:,} of {len(ranked):,} categories count as unseen")
            facts: dict[str, Any] = {"categories": kept, "example": _category_example(kept[0], field)}
        else:
            facts = _number_facts(field, known)
        fields.append(msgspec.structs.replace(field, **facts))
    return msgspec.structs.replace(schema, inputs=tuple(fields)), dropped, tuple(notes)


def _category_example(text: str, field: Field) -> str | int:
    return int(text) if field.json_type == "integer" else text


def _number_facts(field: Field, known: npt.NDArray[Any]) -> dict[str, Any]:
    if field.kind == "boolean":
        return {"example": bool(known.mean() > 0.5)}
    low, high, middle = float(known.min()), float(known.max()), float(np.median(known))
    if field.kind == "datetime":
        return {"observed_range": (_iso(low), _iso(high)), "example": _iso(middle)}
    whole = bool(np.all(known == np.floor(known)))
    return {"observed_range": (_short(low), _short(high)), "example": int(middle) if whole else _short(middle)}


def _short(value: float) -> float:
    """The shortest number that is this float32."""
    return float(str(np.float32(value)))


def _iso(seconds: float) -> str:
    moment = _EPOCH + timedelta(seconds=int(min(max(seconds, FIRST_TIME), LAST_TIME)))
    return moment.isoformat().replace("+00:00", "Z")
