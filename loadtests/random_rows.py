"""Draws random rows for a model from its schema alone.

Each value lies within the training range, mostly near the example. These rows cost the service as much work as real
ones, but the predictions are meaningless, since the columns are drawn independently of each other.
"""

import base64
import struct
import zlib
from datetime import datetime, timedelta
from random import Random
from typing import Any

from dle_bundle.schema import Field, ImageShape, Outputs, Schema, SequenceShape

Value = bool | int | float | str | list[Any] | None
MISSING = 0.05
"""Share of the values of optional inputs that are missing."""
SURPRISES = 0.2
"""Share of the predictions whose feedback says that they are wrong."""
NOISE = 0.1
"""Standard deviation of actual values, relative to the predicted value."""
_STEPS = 100
"""Number of steps when the schema does not contain the observed ones."""
_SHADES = 16
"""Number of levels per pixel, chosen so that the files are about as large as PNGs of photographs."""


def row(schema: Schema, random: Random) -> dict[str, Value]:
    """One row, with values of JSON types."""
    return {
        field.name: None if not field.required and random.random() < MISSING else _value(field, random)
        for field in schema.inputs
    }


def actual(outputs: Outputs, predicted: Any, random: Random) -> Value:
    """The actual value for feedback on `predicted`: mostly the same class, sometimes another; a number close to it."""
    if isinstance(predicted, list):
        return [float(value) * random.gauss(1, NOISE) for value in predicted]
    if outputs.classes is None:
        return float(predicted) * random.gauss(1, NOISE)
    others = [label for label in outputs.classes if label != predicted]
    found: Value = random.choice(others) if others and random.random() < SURPRISES else predicted
    return found


def png(shape: ImageShape, random: Random) -> bytes:
    """A PNG file of the model's image size with random pixels."""
    width = shape.width * shape.channels
    shades = random.randbytes(shape.height * width).translate(bytes(level // _SHADES * _SHADES for level in range(256)))
    lines = b"".join(b"\0" + shades[start : start + width] for start in range(0, len(shades), width))
    header = struct.pack(">IIBBBBB", shape.width, shape.height, 8, 0 if shape.channels == 1 else 2, 0, 0, 0)
    chunks = ((b"IHDR", header), (b"IDAT", zlib.compress(lines, 1)), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data)) for kind, data in chunks
    )


def _value(field: Field, random: Random) -> Value:
    if field.image is not None:
        return base64.b64encode(png(field.image, random)).decode()
    if field.sequence is not None:
        return _series(field.sequence, field.example, random)
    if field.kind == "text":
        return _text(str(field.example or "a text"), random)
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


def _series(shape: SequenceShape, example: Any, random: Random) -> list[Any]:
    """Random steps around those of the example, as many as training saw."""
    low, high = shape.observed_steps or (min(_STEPS, shape.max_steps),) * 2
    typical = example if isinstance(example, list) and example else [0.0]
    steps = []
    for place in range(random.randint(low, high)):
        step = typical[place % len(typical)]
        values = step if isinstance(step, list) else [step] * len(shape.channels)
        steps.append([(value or 0.0) + random.gauss(0, 1) for value in values])
    return steps if len(shape.channels) > 1 else [step[0] for step in steps]


def _text(example: str, random: Random) -> str:
    """Random words of the example, from one word to twice as many as it has."""
    words = example.split() or ["text"]
    return " ".join(random.choices(words, k=random.randint(1, 2 * len(words))))
