"""Numbers and truth values: imputed by the median, with an indicator for missing values, on a common scale.

They are centred and scaled in float64 and become float32 only then. A float32 holds seven digits, so of epoch seconds,
or of small differences of large numbers, nothing would be left to centre.
"""

import msgspec
import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from dle_bundle.values.numbers import differ
from dle_training.preprocessing._base import CLIP, LARGEST, Step, bounded, factors
from dle_training.preprocessing.settings import NumericScaling

_BENT = 3.0
"""The robust scaling bends numbers smoothly so that they stay within ±_BENT."""


class NumericFit(msgspec.Struct, frozen=True, kw_only=True):
    """One entry per column: `medians` replace missing values, then numbers become (x − shift) · factor.

    A factor of 0 marks a column that was constant in training. `indicators` are the columns that had missing values,
    and `normed` the columns that unit norm scales together (truth values stay 0 and 1; empty for other scalings).
    """

    scaling: NumericScaling
    medians: tuple[float, ...]
    shifts: tuple[float, ...]
    factors: tuple[float, ...]
    indicators: tuple[int, ...]
    normed: tuple[int, ...]


def fit(values: npt.NDArray[np.float64], boolean: npt.NDArray[np.bool_], scaling: NumericScaling) -> NumericFit:
    """Fit on the training part's `values` (N, F), NaN = missing; `boolean` (F,) marks truth values.

    Statistics are computed after imputation, in float64, so that the scaled training values have mean 0 and standard
    deviation 1 (or the range 0 to 1, or median 0 and interquartile range 1).
    """
    missing = np.isnan(values)
    exact = np.clip(values, -LARGEST, LARGEST)
    known = [column[~gaps] for column, gaps in zip(exact.T, missing.T, strict=True)]
    medians = np.array([np.median(column) if len(column) else 0.0 for column in known])
    filled = np.where(missing, medians, exact)
    shifts, scales = np.zeros(len(medians)), np.ones(len(medians))
    if scaling != "unit_norm" and len(medians):
        least, most = filled.min(axis=0), filled.max(axis=0)
        if scaling == "robust":
            shifts, spread = medians, _inner_spread(filled, least, most)
        else:
            shifts, spread = (least, most - least) if scaling == "min_max" else _mean_and_spread(filled)
        scales = factors(least, most, spread)
    return NumericFit(
        scaling=scaling,
        medians=tuple(medians.tolist()),
        shifts=tuple(shifts.tolist()),
        factors=tuple(scales.tolist()),
        indicators=tuple(np.flatnonzero(missing.any(axis=0)).tolist()),
        normed=tuple(np.flatnonzero(~boolean).tolist()) if scaling == "unit_norm" else (),
    )


def _mean_and_spread(values: npt.NDArray[np.float64]) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Return the mean and the standard deviation of each column, without a square that overflows or underflows."""
    exponents = np.frexp(np.abs(values).max(axis=0))[1]
    scaled = np.ldexp(values, -exponents)  # by a power of two, which is exact
    return np.ldexp(scaled.mean(axis=0), exponents), np.ldexp(scaled.std(axis=0), exponents)


def _inner_spread(
    values: npt.NDArray[np.float64], least: npt.NDArray[np.float64], most: npt.NDArray[np.float64]
) -> npt.NDArray[np.float64]:
    """Return the interquartile range of each column, or half its range if half of its values are one number."""
    low, high = np.quantile(values, (0.25, 0.75), axis=0)
    return np.where(differ(low, high, np.maximum(-least, most)), high - low, most / 2 - least / 2)


class Numeric(Step):
    """Imputes and scales numbers, and appends an indicator for each column that had missing values in training.

    Shape: (N, F) float64, NaN = missing → (N, F + indicators) float32, within ±14.2.

    Example:
        >>> fitted = fit(np.array([[1.0], [3.0]]), np.array([False]), "standard")
        >>> Numeric(fitted)(torch.tensor([[2.0], [3.0]])).tolist()
        [[0.0], [1.0]]
    """

    medians: Tensor
    halves: Tensor
    doubles: Tensor
    indicators: Tensor
    normed: Tensor

    def __init__(self, fitted: NumericFit) -> None:
        super().__init__()
        columns = len(fitted.medians)
        normed = torch.zeros(columns, dtype=torch.bool)
        normed[list(fitted.normed)] = True
        self.scaling = fitted.scaling
        self.width = columns + len(fitted.indicators)
        self.register_buffer("medians", torch.tensor(fitted.medians, dtype=torch.float64), persistent=False)
        halves, doubles = (0.5 * np.array(fitted.shifts), 2 * np.array(fitted.factors))
        self.register_buffer("halves", torch.from_numpy(halves), persistent=False)
        self.register_buffer("doubles", torch.from_numpy(doubles), persistent=False)
        self.register_buffer("indicators", torch.tensor(fitted.indicators, dtype=torch.int64), persistent=False)
        self.register_buffer("normed", normed, persistent=False)

    def forward(self, values: Tensor) -> Tensor:
        missing = torch.isnan(values)
        filled = torch.where(missing, self.medians, values)
        scaled = self._unit_norm(filled) if self.scaling == "unit_norm" else self._shrunk(self._affine(filled))
        if not len(self.indicators):
            return scaled
        seen = torch.index_select(missing, 1, self.indicators).to(scaled.dtype)
        return torch.cat([scaled, seen], dim=1)

    def _affine(self, filled: Tensor) -> Tensor:
        # the difference of halves cannot overflow; infinity times a factor of 0 would be NaN
        return (0.5 * filled - self.halves) * self.doubles

    def _shrunk(self, scaled: Tensor) -> Tensor:
        if self.scaling != "robust":
            return bounded(scaled)
        cut = scaled.clamp(-CLIP, CLIP)  # so that no square overflows
        return (cut / torch.sqrt(1 + (cut / _BENT) ** 2)).to(torch.float32)

    def _unit_norm(self, filled: Tensor) -> Tensor:
        # divided by the largest value first, so that no square overflows or underflows
        chosen = torch.where(self.normed, filled, torch.zeros_like(filled))
        largest = chosen.abs().amax(dim=1, keepdim=True)  # (N, 1)
        direction = chosen / torch.where(largest > 0, largest, torch.ones_like(largest))
        length = torch.clamp(torch.sqrt((direction * direction).sum(dim=1, keepdim=True)), min=1.0)
        # the others are truth values, which are not scaled; the graph accepts any number for them
        return torch.where(self.normed, (direction / length).to(torch.float32), bounded(filled))
