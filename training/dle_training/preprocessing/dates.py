"""Date-times as elapsed time and as positions in the year, the month, the week and the day.

Calendar arithmetic runs inside the graph (days to civil dates after Howard Hinnant, "chrono-compatible low-level date
algorithms"). It uses float64, because the exporter turns the rounding division of integers into float32. In float64,
whole numbers up to 2⁵³ and the floor of their quotients are exact. Cyclic parts are points on a circle, so that
December is next to January. Parts that did not vary in training are left out: dates without a time have no time of
day.
"""

import math

import msgspec
import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from dle_bundle.groups import MISSING_TIME
from dle_bundle.values.dates import FIRST_TIME, LAST_TIME
from dle_bundle.values.numbers import differ
from dle_training.preprocessing._base import Step, bounded

_DAY = 86_400
_PARTS = 9  # elapsed, then sine and cosine of month, day of month, weekday and time of day


class DateFit(msgspec.Struct, frozen=True, kw_only=True):
    """One entry per column: elapsed = (seconds − centre) · factor.

    `parts` are the features in use, by their index column · 9 + part. `indicators` are the columns that had missing
    values in training.
    """

    centres: tuple[float, ...]
    factors: tuple[float, ...]
    parts: tuple[int, ...]
    indicators: tuple[int, ...]


def fit(values: npt.NDArray[np.int64]) -> DateFit:
    """Fit on the training part's `values` (N, D), epoch seconds."""
    missing = values == MISSING_TIME
    centres, factors = [], []
    for column, gaps in zip(values.T, missing.T, strict=True):
        known = np.clip(column[~gaps], FIRST_TIME, LAST_TIME)
        centre = float(np.mean(known)) if len(known) else 0.0
        spread = float(np.std(known - centre)) if len(known) else 0.0
        centres.append(centre)
        factors.append(1 / spread if spread else 0.0)
    every = DateFit(
        centres=tuple(centres), factors=tuple(factors), parts=tuple(range(_PARTS * len(centres))), indicators=()
    )
    features = Dates(every)(torch.from_numpy(values)).numpy()
    seen = [features[~missing[:, part // _PARTS], part] for part in every.parts]
    varied = [part for part in every.parts if len(seen[part]) and differ(seen[part].min(), seen[part].max())]
    indicators = tuple(np.flatnonzero(missing.any(axis=0)).tolist())
    return msgspec.structs.replace(every, parts=tuple(varied), indicators=indicators)


class Dates(Step):
    """Computes the parts that varied in training, then an indicator for each column that had missing values.

    Shape: (N, D) int64 epoch seconds, INT64_MIN = missing → (N, width) float32. The parts of a missing value are 0.

    Example:
        >>> fitted = fit(np.array([[0], [172_800]]))  # days of one month: month and time of day do not vary
        >>> Dates(fitted)(torch.tensor([[0]])).shape  # elapsed, sine and cosine of day of month and of weekday
        torch.Size([1, 5])
    """

    centres: Tensor
    factors: Tensor
    parts: Tensor
    indicators: Tensor

    def __init__(self, fitted: DateFit) -> None:
        super().__init__()
        self.width = len(fitted.parts) + len(fitted.indicators)
        self.register_buffer("centres", torch.tensor(fitted.centres, dtype=torch.float64), persistent=False)
        self.register_buffer("factors", torch.tensor(fitted.factors, dtype=torch.float64), persistent=False)
        self.register_buffer("parts", torch.tensor(fitted.parts, dtype=torch.int64), persistent=False)
        self.register_buffer("indicators", torch.tensor(fitted.indicators, dtype=torch.int64), persistent=False)

    def forward(self, values: Tensor) -> Tensor:
        missing = values == MISSING_TIME
        # clamped as float64, because the exporter would clamp integers to bounds in float32
        seconds = torch.clamp(values.to(torch.float64), FIRST_TIME, LAST_TIME)
        elapsed = bounded((seconds - self.centres) * self.factors)
        circles = [part for cycle in _cycles(seconds) for part in (torch.sin(cycle), torch.cos(cycle))]
        features = torch.stack([elapsed, *circles], dim=2)  # (N, D, 9)
        features = torch.where(missing.unsqueeze(2), torch.zeros_like(features), features)
        used = torch.index_select(features.flatten(1), 1, self.parts)  # (N, D · 9) → (N, parts)
        if not len(self.indicators):
            return used
        return torch.cat([used, torch.index_select(missing, 1, self.indicators).to(used.dtype)], dim=1)


def _cycles(seconds: Tensor) -> list[Tensor]:
    """Return the angles of month, day of month, weekday and time of day, float32, each in the shape of `seconds`."""
    days = torch.floor(seconds / _DAY)
    month, day = month_and_day(days)
    weekday = _modulo(days + 3, 7)  # the epoch was a Thursday; Monday is 0
    places = ((month - 1, 12), (day - 1, 31), (weekday, 7), (seconds - days * _DAY, _DAY))
    return [place.to(torch.float32) * (2 * math.pi / period) for place, period in places]


def month_and_day(days: Tensor) -> tuple[Tensor, Tensor]:
    """Return the month (1 to 12) and day of the month (1 to 31) of days since the epoch, in the Gregorian calendar."""
    of_era = _modulo(days + 719_468, 146_097)  # days since the 1st of March of a year divisible by 400
    leaps = torch.floor(of_era / 1_460) - torch.floor(of_era / 36_524) + torch.floor(of_era / 146_096)
    year = torch.floor((of_era - leaps) / 365)
    of_year = of_era - (365 * year + torch.floor(year / 4) - torch.floor(year / 100))
    from_march = torch.floor((5 * of_year + 2) / 153)
    day = of_year - torch.floor((153 * from_march + 2) / 5) + 1
    return _modulo(from_march + 2, 12) + 1, day


def _modulo(value: Tensor, by: int) -> Tensor:
    return value - torch.floor(value / by) * by
