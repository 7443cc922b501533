"""Numbers and dates that stand for a missing value, such as -999 and 9999-12-31: far from all others in a column."""

import re

import numpy as np
import numpy.typing as npt

from dle_training.data.columns import column_settings
from dle_training.data.columns.column_settings import ColumnSettings

_NINES = re.compile(r"-?99+(\.9+)?")
_LIMITS = frozenset({-(2.0**31), 2.0**31 - 1, -(2.0**15), 2.0**15 - 1})
"""The lowest and the highest whole numbers of databases and sensors."""
_LEAST_OTHERS = 3
_OFTEN = 5
_SHARE = 0.02
_MANY_OTHERS = 10
"""Distinct values beside one that occurs often; fewer values are more likely codes."""


def find(values: npt.NDArray[np.float64]) -> str | None:
    """Return a number that is far from all other `values` (N,), if it may mean missing; or None.

    It is a number of nines, a limit of whole numbers, or in many rows beside many other values. Missing and infinite
    values are not looked at.
    """
    known = values[np.isfinite(values)]
    for end in _far_ends(known):
        text = repr(float(end)).removesuffix(".0")
        often = (known == end).sum() >= max(_OFTEN, _SHARE * len(known))
        if _NINES.fullmatch(text) or end in _LIMITS or (often and len(np.unique(known)) > _MANY_OTHERS):
            return text
    return None


def note(name: str, values: npt.NDArray[np.float64], wanted: ColumnSettings) -> str | None:
    """Return a note on a number that may mean missing in the column `name`, with the setting, or None."""
    number = find(values)
    if number is None:
        return None
    cure = column_settings.with_missing(name, wanted, [number])
    return f"{number} is far from all other values; if it means missing, set {cure}"


def find_date(moments: npt.NDArray[np.int64]) -> int | None:
    """Return a moment that several rows have, and that is far from all other `moments` (M,) in seconds; or None."""
    return next((int(end) for end in _far_ends(moments) if (moments == end).sum() > 1), None)


def _far_ends(known: npt.NDArray[np.float64] | npt.NDArray[np.int64]) -> list[float]:
    """The lowest and the highest value, if they are further from the others than these lie apart."""
    distinct = np.unique(known).astype(np.float64)
    if len(distinct) <= _LEAST_OTHERS:
        return []
    low = [distinct[0]] if distinct[1] - distinct[0] > distinct[-1] - distinct[1] else []
    return [*low, distinct[-1]] if distinct[-1] - distinct[-2] > distinct[-2] - distinct[0] else low
