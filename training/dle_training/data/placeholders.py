"""Numbers that stand for a missing value, such as -999 and 9999: far from all other values of their column."""

import re

import numpy as np
import numpy.typing as npt

_NINES = re.compile(r"-?99+")
_LEAST_OTHERS = 3


def find(values: npt.NDArray[np.float64]) -> str | None:
    """Return a number of nines at an end of the `values` (N,), further from the others than these lie apart; or None.

    Missing and infinite values are not looked at.
    """
    known = values[np.isfinite(values)]
    if not len(known):
        return None
    for end in (known.min(), known.max()):
        text = repr(float(end)).removesuffix(".0")
        if not _NINES.fullmatch(text):
            continue
        others = np.unique(known[known != end])
        if len(others) >= _LEAST_OTHERS and np.abs(others - end).min() > others[-1] - others[0]:
            return text
    return None
