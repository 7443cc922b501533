"""Categories: one-hot for columns with few categories, codes for an embedding for columns with many.

The codes are those of the exported graph: 0 = unseen, 1 = missing, 2 + i = category i of the schema. An unseen value
becomes the average of the training rows. A missing value does so too if none was missing in training. At any other
point, the answer would depend on weights that no training row has shaped.
"""

import msgspec
import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn import functional as F

from dle_training.preprocessing._base import Step

UNSEEN, MISSING, FIRST = 0, 1, 2


class CategoryFit(msgspec.Struct, frozen=True, kw_only=True):
    """`frequencies`: for each column, how often each code occurs in the training part (unseen and missing included).

    `one_hot` and `embedded` are the positions of the columns with each encoding. With `signs`, a one-hot column of two
    categories is a single feature: -1 or 1, and 0 if the value is missing or unseen.
    """

    frequencies: tuple[tuple[int, ...], ...]
    one_hot: tuple[int, ...]
    embedded: tuple[int, ...]
    signs: bool = False


def encode(values: npt.NDArray[np.object_], vocabularies: tuple[tuple[str, ...], ...]) -> npt.NDArray[np.int64]:
    """Return the codes (N, C) of the texts (N, C), `""` = missing, by each column's vocabulary."""
    import pandas as pd

    codes = np.empty(values.shape, dtype=np.int64)
    for column, vocabulary in enumerate(vocabularies):
        places = pd.Index(["", *vocabulary], dtype=object).get_indexer(pd.Index(values[:, column], dtype=object))
        codes[:, column] = places + 1  # not found is -1
    return codes


def fit(
    codes: npt.NDArray[np.int64],
    cardinalities: tuple[int, ...],
    one_hot_limit: int,
    apart: int | None = None,
    *,
    signs: bool = False,
) -> CategoryFit:
    """Fit on the training part's `codes` (N, C).

    `cardinalities` (C,) count each column's codes, unseen and missing included. The column `apart` is no feature.
    `signs` is the setting.
    """
    small = [cardinality - FIRST <= one_hot_limit for cardinality in cardinalities]
    return CategoryFit(
        frequencies=tuple(
            tuple(np.bincount(codes[:, column], minlength=cardinality).tolist())
            for column, cardinality in enumerate(cardinalities)
        ),
        one_hot=tuple(column for column, is_small in enumerate(small) if is_small and column != apart),
        embedded=tuple(column for column, is_small in enumerate(small) if not is_small and column != apart),
        signs=signs,
    )


class OneHot(Step):
    """Turns codes into one-hot features, with a feature for missing values if the column had some in training.

    With `signs`, two categories are one feature.

    Shape: (N, C) int64 codes of all columns → (N, width) float32.

    Example:
        >>> fitted = fit(np.array([[2], [2], [3], [3]]), (4,), one_hot_limit=9)
        >>> OneHot(fitted)(torch.tensor([[2], [3], [0]])).tolist()
        [[1.0, 0.0], [0.0, 1.0], [0.5, 0.5]]
    """

    columns: Tensor
    offsets: Tensor
    table: Tensor
    used: Tensor

    def __init__(self, fitted: CategoryFit) -> None:
        super().__init__()
        rows = [_rows(fitted.frequencies[column], signs=fitted.signs) for column in fitted.one_hot]
        widest = max((len(table[0]) for table in rows), default=0)
        # the columns' tables are stacked into one and padded to one width, so one gather serves all columns
        padded = [F.pad(table, (0, widest - table.shape[1])) for table in rows]
        heights = torch.tensor([len(table) for table in rows], dtype=torch.int64)
        used = [column * widest + slot for column, table in enumerate(rows) for slot in range(table.shape[1])]
        self.width = len(used)
        self.register_buffer("columns", torch.tensor(fitted.one_hot, dtype=torch.int64), persistent=False)
        self.register_buffer("offsets", heights.cumsum(0) - heights, persistent=False)
        self.register_buffer("table", torch.cat(padded) if padded else torch.zeros(0, 0), persistent=False)
        self.register_buffer("used", torch.tensor(used, dtype=torch.int64), persistent=False)

    def forward(self, values: Tensor) -> Tensor:
        places = torch.index_select(values, 1, self.columns) + self.offsets  # (N, C')
        rows = F.embedding(places, self.table).flatten(1)  # (N, C' · widest)
        return torch.index_select(rows, 1, self.used)


def _rows(frequencies: tuple[int, ...], *, signs: bool) -> Tensor:
    """Return the features of each code of one column: (codes, slots)."""
    if signs and len(frequencies) == FIRST + 2:
        return torch.tensor([[0.0], [0.0], [-1.0], [1.0]])
    counts = torch.tensor(frequencies, dtype=torch.float64)
    slots = [code for code in range(MISSING, len(frequencies)) if code >= FIRST or frequencies[MISSING]]
    rows = torch.eye(len(frequencies), dtype=torch.float64)[:, slots]
    seen = counts[slots]
    average = seen / seen.sum().clamp(min=1)
    rows[UNSEEN] = average
    if not frequencies[MISSING]:
        rows[MISSING] = average
    return rows.float()
