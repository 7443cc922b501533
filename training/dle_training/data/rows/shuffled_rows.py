"""Rows with shuffled columns: likely rows that do not exist, for which a model's answers can be asked."""

from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt

from dle_bundle.groups import Groups

SHARE = 0.25
"""The probability that a value is replaced by that of another row."""


def make(rows: Groups, count: int, generator: np.random.Generator) -> Groups:
    """Return `count` rows of a table, in which about a quarter of the values are those of other rows.

    Each column keeps its distribution.
    """
    whole, rest = divmod(count, len(rows))
    order = np.concatenate([generator.permutation(len(rows)) for _ in range(whole + 1)])[: whole * len(rows) + rest]
    found = rows.take(order)

    def mixed(values: npt.NDArray[Any], source: npt.NDArray[Any]) -> npt.NDArray[Any]:
        replaced = generator.random(values.shape) < SHARE
        others = generator.integers(len(rows), size=values.shape)
        return np.where(replaced, np.take_along_axis(source, others, axis=0), values)

    return replace(
        found,
        numeric=mixed(found.numeric, rows.numeric),
        categorical=mixed(found.categorical, rows.categorical),
        datetime=mixed(found.datetime, rows.datetime),
    )
