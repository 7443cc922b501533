"""Numbers mapped to a normal distribution by their quantiles, for networks that embed each number.

A heavy tail, or a value that most rows share, leaves little of the range of a scaled number for the others. The map
sends each value to the normal score of its rank in the training part, and is linear between a limited number of knots.
Equal values have the mean of their ranks, so no noise is needed to separate them. Values beyond the training part get
the score of its nearest value.
"""

import msgspec
import numpy as np
import numpy.typing as npt
import torch
from scipy.special import ndtri
from torch import Tensor

from dle_bundle.values.numbers import differ
from dle_training.preprocessing._base import LARGEST, Step

MOST_KNOTS, ROWS_FOR_KNOT, LEAST_KNOTS = 1000, 30, 10
"""Knots of a column: one for 30 training rows, at least 10 and at most 1,000 (Gorishniy et al., "TabM", 2024)."""
ROWS_FOR_VALUE = 200
"""A column is discrete if it has so many training rows for each distinct value, or more."""
_MOST_TOGETHER = 4096
"""Most knots of all columns, because each prediction computes its place between all of them."""


class QuantileFit(msgspec.Struct, frozen=True, kw_only=True):
    """One entry per range between two knots: its column, its start, 1 / width and the difference of the normal scores.

    `numbers` lists the columns that have knots, and `lows` their lowest score. `discrete` tells which of these columns
    have few distinct values: one for 200 training rows at most. `medians` (F,) replace missing values.
    """

    medians: tuple[float, ...]
    numbers: tuple[int, ...] = ()
    lows: tuple[float, ...] = ()
    discrete: tuple[bool, ...] = ()
    columns: tuple[int, ...] = ()
    starts: tuple[float, ...] = ()
    factors: tuple[float, ...] = ()
    rises: tuple[float, ...] = ()


def fit(
    values: npt.NDArray[np.float64], boolean: npt.NDArray[np.bool_], medians: tuple[float, ...], *, wanted: bool
) -> QuantileFit:
    """Fit the map of each column of the training part's `values` (N, F) that is a number, not a truth value.

    A column has no map if all its values are one number with rounding errors, or if no map is `wanted`.
    """
    numbers = np.flatnonzero(~boolean).tolist() if wanted else []
    count = min(
        max(len(values) // ROWS_FOR_KNOT, LEAST_KNOTS), MOST_KNOTS, max(_MOST_TOGETHER // max(len(numbers), 1), 2)
    )
    kept: list[int] = []
    lows: list[float] = []
    discrete: list[bool] = []
    columns: list[int] = []
    starts: list[float] = []
    factors: list[float] = []
    rises: list[float] = []
    for column in numbers:
        known = values[:, column]
        known = np.sort(np.clip(known[~np.isnan(known)], -LARGEST, LARGEST))
        distinct = np.unique(known)
        knots, scores = _knots(known, distinct, count)
        if len(knots) < 2:
            continue
        kept.append(column)
        lows.append(float(scores[0]))
        discrete.append(len(distinct) * ROWS_FOR_VALUE <= len(known))
        columns += [column] * (len(knots) - 1)
        starts += knots[:-1].tolist()
        factors += (1 / np.diff(knots)).tolist()
        rises += np.diff(scores).tolist()
    return QuantileFit(
        medians=medians,
        numbers=tuple(kept),
        lows=tuple(lows),
        discrete=tuple(discrete),
        columns=tuple(columns),
        starts=tuple(starts),
        factors=tuple(factors),
        rises=tuple(rises),
    )


def _knots(
    known: npt.NDArray[np.float64], distinct: npt.NDArray[np.float64], count: int
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Return at most `count` of the sorted values `known` (N,) as knots, ascending, and their normal scores."""
    if not len(known):
        return known, known
    knots = distinct
    if len(distinct) > count:
        knots = np.unique(known[np.linspace(0, len(known) - 1, count).round().astype(np.int64)])
    wide = differ(knots[:-1], knots[1:], float(np.abs(known).max()))
    knots = knots[np.concatenate([[True], wide])]
    ranks = (np.searchsorted(known, knots, "left") + np.searchsorted(known, knots, "right")) / 2
    return knots, ndtri(ranks / len(known))


class Quantiles(Step):
    """Maps each number to its normal score.

    Shape: (N, F) float64, NaN = missing → (N, numbers) float32.

    Example:
        >>> fitted = fit(np.array([[0.0], [1.0], [8.0]]), np.array([False]), (1.0,), wanted=True)
        >>> Quantiles(fitted)(torch.tensor([[1.0], [8.0], [9.0]]).double()).round(decimals=2).flatten().tolist()
        [0.0, 0.9700000286102295, 0.9700000286102295]
    """

    medians: Tensor
    columns: Tensor
    starts: Tensor
    factors: Tensor
    rises: Tensor
    lows: Tensor

    def __init__(self, fitted: QuantileFit) -> None:
        super().__init__()
        self.width, self.discrete = len(fitted.numbers), fitted.discrete
        place = {column: index for index, column in enumerate(fitted.numbers)}
        rises = torch.zeros(len(fitted.columns), self.width, dtype=torch.float64)
        for row, (column, rise) in enumerate(zip(fitted.columns, fitted.rises, strict=True)):
            rises[row, place[column]] = rise
        self.register_buffer("medians", torch.tensor(fitted.medians, dtype=torch.float64), persistent=False)
        self.register_buffer("columns", torch.tensor(fitted.columns, dtype=torch.int64), persistent=False)
        self.register_buffer("starts", torch.tensor(fitted.starts, dtype=torch.float64), persistent=False)
        self.register_buffer("factors", torch.tensor(fitted.factors, dtype=torch.float64), persistent=False)
        self.register_buffer("rises", rises, persistent=False)  # (ranges, numbers)
        self.register_buffer("lows", torch.tensor(fitted.lows, dtype=torch.float64), persistent=False)

    def forward(self, values: Tensor) -> Tensor:
        filled = torch.where(torch.isnan(values), self.medians, values)
        above = torch.index_select(filled, 1, self.columns) - self.starts  # (N, ranges)
        passed = torch.clamp(above * self.factors, 0.0, 1.0)
        return (self.lows + passed @ self.rises).to(torch.float32)
