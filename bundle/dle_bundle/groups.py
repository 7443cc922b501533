"""Rows as the graph takes them: one array a kind of input, not one a column.

A grouped input costs one tensor a kind; one tensor a column is dearer at every batch size.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

MISSING_TIME = np.iinfo(np.int64).min
"""A missing date-time, in the `datetime` group."""

FIRST_TIME, LAST_TIME = -62_135_596_800, 253_402_300_799
"""The years 1 to 9999, which a calendar holds; far within what int64 and float64 count."""


@dataclass(frozen=True, slots=True)
class Groups:
    """N rows in schema order within each group.

    `numeric` float32 (N, F), NaN = missing; booleans are 0 and 1 here.
    `categorical` object array of str (N, C), `""` = missing.
    `datetime` int64 (N, D), UTC epoch seconds, `MISSING_TIME` = missing.
    """

    numeric: npt.NDArray[np.float32]
    categorical: npt.NDArray[np.object_]
    datetime: npt.NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.numeric)

    def take(self, rows: npt.NDArray[Any] | slice) -> "Groups":
        """The rows at the positions, mask or slice given."""
        return Groups(self.numeric[rows], self.categorical[rows], self.datetime[rows])

    def feeds(self) -> dict[str, npt.NDArray[Any]]:
        """Inputs for the graph: the groups that have columns, by name."""
        arrays: dict[str, npt.NDArray[Any]] = {
            "numeric": self.numeric,
            "categorical": self.categorical,
            "datetime": self.datetime,
        }
        return {name: array for name, array in arrays.items() if array.shape[1]}


def concatenate(parts: Sequence[Groups]) -> Groups:
    """All rows of all parts, in order; at least one part."""
    if len(parts) == 1:
        return parts[0]
    return Groups(
        np.concatenate([part.numeric for part in parts]),
        np.concatenate([part.categorical for part in parts]),
        np.concatenate([part.datetime for part in parts]),
    )
