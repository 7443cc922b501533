"""Parses numbers and booleans written as text, and rounds numbers to float32."""

import re

import numpy as np
import numpy.typing as npt

TRUE = frozenset({"true", "t", "yes", "y", "1"})
FALSE = frozenset({"false", "f", "no", "n", "0"})

NUMBER = re.compile(r"[+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]+)?|[+-]?(?:inf(?:inity)?)", re.IGNORECASE)
_FLOAT32_MAX = float(np.finfo(np.float32).max)
_ROUNDING = 8
"""Rounding errors of a short calculation, in machine epsilons: together a millionth of a float32."""

Floats = npt.NDArray[np.float32] | npt.NDArray[np.float64] | np.float32 | np.float64


def parse_number(text: str) -> float:
    """Parse a decimal number, possibly infinite; raises ValueError for anything else, such as `1,000` or `1_000`."""
    if not NUMBER.fullmatch(text):
        raise ValueError(f"expected a number, got {text!r}")
    return float(text)


def parse_boolean(text: str) -> float:
    """Parse the usual spellings of a boolean into 1.0 or 0.0; raises ValueError for anything else."""
    folded = text.casefold()
    if folded in TRUE:
        return 1.0
    if folded in FALSE:
        return 0.0
    raise ValueError(f"expected true or false, got {text!r}")


def float32(values: npt.NDArray[np.float64]) -> npt.NDArray[np.float32]:
    """Round to float32; finite values beyond its range become its largest, so they stay finite."""
    return np.minimum(np.maximum(values, -_FLOAT32_MAX), _FLOAT32_MAX).astype(np.float32)


def differ(low: Floats, high: Floats, largest: float = 0.0) -> npt.NDArray[np.bool_]:
    """Whether the numbers from `low` to `high`, elementwise, are more than one number with rounding errors.

    The bound has no unit, so a column means the same in metres and in nanometres: 8 machine epsilons of the type of
    `low` and `high` (float32 or float64), times the larger magnitude of the two. `largest` is the largest magnitude of
    the whole column, where `low` and `high` are a part of it: differences of such numbers leave rounding errors of
    float64 around zero. A range of less than 8 times the smallest normal number has no inverse that is sure to be
    finite, and counts as one number.
    """
    ends, info = np.maximum(np.abs(low), np.abs(high)).astype(np.float64), np.finfo(low.dtype)
    step = np.maximum(float(info.eps) * ends, max(float(info.tiny), np.finfo(np.float64).eps * largest))
    wide: npt.NDArray[np.bool_] = high.astype(np.float64) - low > _ROUNDING * step
    return wide
