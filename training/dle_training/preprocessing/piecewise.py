"""Piecewise-linear encoding of numbers: one feature for each quantile bin, which says how much of it is filled.

A network of few layers learns smooth functions of a scaled number and misses changes within a narrow range. So a column
is also cut at its quantiles, and each bin gives the share of it that lies below the value: 0, 1, or a fraction in the
bin that contains the value (Gorishniy et al., "On Embeddings for Numerical Features in Tabular Deep Learning",
2022). With few rows the encoding does not help, because the network only memorises them.
"""

import msgspec
import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from dle_bundle.values.numbers import differ
from dle_training.preprocessing._base import LARGEST, Step


class PiecewiseFit(msgspec.Struct, frozen=True, kw_only=True):
    """One entry per bin: its column, its start, and 1 / width. `medians` (F,) replace missing values."""

    medians: tuple[float, ...]
    columns: tuple[int, ...] = ()
    starts: tuple[float, ...] = ()
    factors: tuple[float, ...] = ()


def fit(
    values: npt.NDArray[np.float64], boolean: npt.NDArray[np.bool_], medians: tuple[float, ...], count: int
) -> PiecewiseFit:
    """Fit `count` bins to each column of the training part's `values` (N, F) that is a number, not a truth value.

    Equal quantiles make one bin. Quantiles that differ only by rounding make no bin. A column with a single bin gets
    none, because that bin says no more than the scaled number.
    """
    columns: list[int] = []
    starts: list[float] = []
    factors: list[float] = []
    for column in np.flatnonzero(~boolean).tolist() if count else []:
        known = values[:, column]
        known = np.clip(known[~np.isnan(known)], -LARGEST, LARGEST)
        edges = np.unique(np.quantile(known, np.linspace(0, 1, count + 1))) if len(known) else known
        widths = np.diff(edges)
        wide = differ(edges[:-1], edges[1:], np.abs(edges).max(initial=0))
        if wide.sum() >= 2:
            columns += [column] * int(wide.sum())
            starts += edges[:-1][wide].tolist()
            factors += (1 / widths[wide]).tolist()
    return PiecewiseFit(medians=medians, columns=tuple(columns), starts=tuple(starts), factors=tuple(factors))


class Piecewise(Step):
    """Computes how far each bin is filled.

    Shape: (N, F) float64, NaN = missing → (N, bins of all columns) float32 in [0, 1].

    Example:
        >>> fitted = fit(np.array([[0.0], [1.0], [3.0]]), np.array([False]), (1.0,), 2)
        >>> Piecewise(fitted)(torch.tensor([[2.0], [-1.0]])).tolist()
        [[1.0, 0.5], [0.0, 0.0]]
    """

    medians: Tensor
    columns: Tensor
    starts: Tensor
    factors: Tensor

    def __init__(self, fitted: PiecewiseFit) -> None:
        super().__init__()
        self.width = len(fitted.columns)
        self.register_buffer("medians", torch.tensor(fitted.medians, dtype=torch.float64), persistent=False)
        self.register_buffer("columns", torch.tensor(fitted.columns, dtype=torch.int64), persistent=False)
        self.register_buffer("starts", torch.tensor(fitted.starts, dtype=torch.float64), persistent=False)
        self.register_buffer("factors", torch.tensor(fitted.factors, dtype=torch.float64), persistent=False)

    def forward(self, values: Tensor) -> Tensor:
        filled = torch.where(torch.isnan(values), self.medians, values)
        above = torch.index_select(filled, 1, self.columns) - self.starts  # (N, bins)
        return torch.clamp(above * self.factors, 0.0, 1.0).to(torch.float32)
