"""From text and plain values to numbers, truth values, date-times and categories: one rule for every way in.

The functions here take one value; `rows` applies them to JSON and `columns` to the distinct values of a table, so a
value means the same in training, in a file given to `dle-predict` and in a request.
"""

import binascii
import re
from datetime import UTC, datetime
from functools import lru_cache

import numpy as np
import numpy.typing as npt

NA_VALUES = (
    "", "#N/A", "#NA", "<NA>", "N/A", "NA", "NULL", "NaN", "None", "n/a", "nan", "null", "?",
)  # fmt: skip
"""Spellings of a missing value in text, after trimming white space."""

TRUE = frozenset({"true", "t", "yes", "y", "1"})
FALSE = frozenset({"false", "f", "no", "n", "0"})

_NUMBER = re.compile(r"[+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]+)?|[+-]?(?:inf(?:inity)?)", re.IGNORECASE)
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_FLOAT32_MAX = float(np.finfo(np.float32).max)


def number(text: str) -> float:
    """A decimal number, possibly infinite; ValueError for anything else (no thousands separators, no `1_000`)."""
    if not _NUMBER.fullmatch(text):
        raise ValueError(f"expected a number, got {text!r}")
    return float(text)


@lru_cache
def missing_numbers(na_values: tuple[str, ...]) -> tuple[float, ...]:
    """The spellings that are numbers, such as -999: they mean missing in columns of numbers, however written."""
    return tuple(float(text) for text in na_values if _NUMBER.fullmatch(text))


def boolean(text: str) -> float:
    """1.0 or 0.0 for the usual spellings; ValueError otherwise."""
    folded = text.casefold()
    if folded in TRUE:
        return 1.0
    if folded in FALSE:
        return 0.0
    raise ValueError(f"expected true or false, got {text!r}")


def epoch_seconds(text: str, date_format: str | None = None) -> int:
    """UTC epoch seconds of ISO 8601 text, or of text in `date_format`; no zone means UTC.

    Fractions of a second are cut off towards the past. ValueError for anything else.
    """
    try:
        moment = datetime.strptime(text, date_format) if date_format else datetime.fromisoformat(text)
    except ValueError:
        if date_format:  # ISO 8601 is always understood
            return epoch_seconds(text)
        raise ValueError(f"expected an ISO 8601 date or date-time, got {text!r}") from None
    since = (moment if moment.tzinfo else moment.replace(tzinfo=UTC)) - _EPOCH
    return since.days * 86_400 + since.seconds


def category(value: str | int | float | bool) -> str:
    """The text by which a category is known: trimmed text, `true`/`false`, whole numbers without a point."""
    if isinstance(value, str):
        return value.strip()
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float) and value.is_integer() and abs(value) < 2**53:
        return str(int(value))
    return str(value)


def content(text: str) -> bytes:
    """The bytes that base64 text stands for, with or without the head of a data URI; ValueError for anything else."""
    body = text.partition(",")[2] if text[:5].lower() == "data:" else text
    try:
        return binascii.a2b_base64("".join(body.split()), strict_mode=True)
    except (binascii.Error, ValueError):
        raise ValueError(f"expected base64, got {text!r:.40}") from None


def float32(values: npt.NDArray[np.float64]) -> npt.NDArray[np.float32]:
    """Round to float32; finite values beyond its range become its largest, so that finite stays finite."""
    return np.minimum(np.maximum(values, -_FLOAT32_MAX), _FLOAT32_MAX).astype(np.float32)
