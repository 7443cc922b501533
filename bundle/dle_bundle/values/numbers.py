"""From text and plain values to numbers, truth values, date-times and categories: one rule for every way in.

The functions here take one value; `rows` applies them to JSON and `columns` to the distinct values of a table, so a
value means the same in training, in a file given to `dle-predict` and in a request.
"""

import re

import numpy as np
import numpy.typing as npt

TRUE = frozenset({"true", "t", "yes", "y", "1"})
FALSE = frozenset({"false", "f", "no", "n", "0"})

NUMBER = re.compile(r"[+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]+)?|[+-]?(?:inf(?:inity)?)", re.IGNORECASE)
_FLOAT32_MAX = float(np.finfo(np.float32).max)


def parse_number(text: str) -> float:
    """A decimal number, possibly infinite; ValueError for anything else (no thousands separators, no `1_000`)."""
    if not NUMBER.fullmatch(text):
        raise ValueError(f"expected a number, got {text!r}")
    return float(text)


def parse_boolean(text: str) -> float:
    """1.0 or 0.0 for the usual spellings; ValueError otherwise."""
    folded = text.casefold()
    if folded in TRUE:
        return 1.0
    if folded in FALSE:
        return 0.0
    raise ValueError(f"expected true or false, got {text!r}")


def float32(values: npt.NDArray[np.float64]) -> npt.NDArray[np.float32]:
    """Round to float32; finite values beyond its range become its largest, so that finite stays finite."""
    return np.minimum(np.maximum(values, -_FLOAT32_MAX), _FLOAT32_MAX).astype(np.float32)
