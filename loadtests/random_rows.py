"""Rows such as the clients of a model send, drawn from its schema alone.

Each value lies within what training saw, near the typical one more often than not. The service has the same work with
such rows as with real ones; what it answers means nothing, for the columns are drawn independently of each other.
"""

from datetime import datetime, timedelta
from random import Random

from dle_bundle.schema import Field, Outputs, Schema

Value = bool | int | float | str | None
MISSING = 0.05
"""Share of the values of optional inputs that are left out."""
SURPRISES = 0.2
"""Share of the predictions that turn out to be wrong."""
NOISE = 0.1
"""Standard deviation of the actual from the predicted value, as a share of it."""


def row(schema: Schema, random: Random) -> dict[str, Value]:
    """One row, in JSON's types."""
    return {
        field.name: None if not field.required and random.random() < MISSING else _value(field, random)
        for field in schema.inputs
    }


def actual(outputs: Outputs, predicted: bool | int | float | str, random: Random) -> Value:
    """What turns out to be true after the answer `predicted`: mostly that, else another class; a value near it."""
    if outputs.classes is None:
        return float(predicted) * random.gauss(1, NOISE)
    others = [label for label in outputs.classes if label != predicted]
    return random.choice(others) if others and random.random() < SURPRISES else predicted


def _value(field: Field, random: Random) -> Value:
    if field.kind == "boolean":
        return random.random() < 0.5
    if field.kind == "categorical" and field.categories:
        category = random.choice(field.categories)
        return int(category) if field.json_type == "integer" else category
    if field.observed_range is None:
        return field.example
    low, high = field.observed_range
    if field.kind == "datetime":
        first, last = datetime.fromisoformat(str(low)), datetime.fromisoformat(str(high))
        seconds = (last - first).total_seconds()
        return (first + timedelta(seconds=random.randint(0, int(seconds)))).isoformat()
    typical = field.example if isinstance(field.example, int | float) else None
    number = random.triangular(float(low), float(high), typical)
    return round(number) if isinstance(field.example, int) else number
