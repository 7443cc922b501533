"""Date-times: how long ago, and where in the year, the month, the week and the day.

Calendar arithmetic runs on whole seconds inside the graph (days to civil dates after Howard Hinnant, "chrono-
compatible low-level date algorithms"). Cyclic parts are points on a circle, so that December is next to January. Parts
that did not vary in training are left out: dates without a time have no time of day.
"""

import math

import msgspec
import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from dle_bundle.groups import MISSING_TIME
from dle_training.preprocessing._base import CLIP, LEAST_RANGE, Step

_DAY = 86_400
_FIRST, _LAST = -62_135_596_800, 253_402_300_799  # the years 1 to 9999, in which all arithmetic below is exact
_PARTS = 9  # elapsed, then sine and cosine of month, day of month, weekday and time of day


class DateFit(msgspec.Struct, frozen=True, kw_only=True):
    """One entry a column: elapsed = (seconds − centre) · factor.

    `parts` are the features in use, by their place column · 9 + part; `indicators` the columns that had missing values.
    """

    centres: tuple[int, ...]
    factors: tuple[float, ...]
    parts: tuple[int, ...]
    indicators: tuple[int, ...]


def fit(values: npt.NDArray[np.int64]) -> DateFit:
    """Fit on the training part's `values` (N, D), epoch seconds."""
    missing = values == MISSING_TIME
    centres, factors = [], []
    for column, gaps in zip(values.T, missing.T, strict=True):
        known = np.clip(column[~gaps], _FIRST, _LAST)
        centre = int(np.mean(known)) if len(known) else 0
        spread = float(np.std((known - centre).astype(np.float64))) if len(known) else 0.0
        centres.append(centre)
        factors.append(1 / spread if spread else 0.0)
    every = DateFit(
        centres=tuple(centres), factors=tuple(factors), parts=tuple(range(_PARTS * len(centres))), indicators=()
    )
    features = Dates(every)(torch.from_numpy(values)).numpy()
    seen = [features[~missing[:, part // _PARTS], part] for part in every.parts]
    varied = [part for part in every.parts if len(seen[part]) and np.ptp(seen[part]) > LEAST_RANGE]
    indicators = tuple(np.flatnonzero(missing.any(axis=0)).tolist())
    return msgspec.structs.replace(every, parts=tuple(varied), indicators=indicators)


class Dates(Step):
    """The parts of each column that varied in training, then an indicator for each that had missing values.

    Shape: (N, D) int64 epoch seconds, INT64_MIN = missing → (N, width) float32; missing parts are 0.
    """

    centres: Tensor
    factors: Tensor
    parts: Tensor
    indicators: Tensor

    def __init__(self, fitted: DateFit) -> None:
        super().__init__()
        self.width = len(fitted.parts) + len(fitted.indicators)
        self.register_buffer("centres", torch.tensor(fitted.centres, dtype=torch.int64), persistent=False)
        self.register_buffer("factors", torch.tensor(fitted.factors, dtype=torch.float32), persistent=False)
        self.register_buffer("parts", torch.tensor(fitted.parts, dtype=torch.int64), persistent=False)
        self.register_buffer("indicators", torch.tensor(fitted.indicators, dtype=torch.int64), persistent=False)

    def forward(self, values: Tensor) -> Tensor:
        missing = values == MISSING_TIME
        seconds = torch.clamp(values, _FIRST, _LAST)
        elapsed = torch.clamp((seconds - self.centres).to(torch.float32) * self.factors, -CLIP, CLIP)
        cycles = _cycles(seconds)
        features = torch.stack(
            [elapsed, *(torch.sin(cycle) for cycle in cycles), *(torch.cos(cycle) for cycle in cycles)], dim=2
        )
        features = torch.where(missing.unsqueeze(2), torch.zeros_like(features), features)  # (N, D, 9)
        used = torch.index_select(features.flatten(1), 1, self.parts)
        if not len(self.indicators):
            return used
        return torch.cat([used, torch.index_select(missing, 1, self.indicators).to(used.dtype)], dim=1)


def _cycles(seconds: Tensor) -> list[Tensor]:
    """Angles of month, day of month, weekday and time of day; all of `seconds` shape."""
    time = torch.remainder(seconds, _DAY)
    days = _whole(seconds - time, _DAY)
    month, day = _month_and_day(days)
    weekday = torch.remainder(days + 3, 7)  # the epoch was a Thursday; Monday is 0
    return [_angle(month - 1, 12), _angle(day - 1, 31), _angle(weekday, 7), _angle(time, _DAY)]


def _month_and_day(days: Tensor) -> tuple[Tensor, Tensor]:
    """Month (1 to 12) and day of the month (1 to 31) of days since the epoch, in the Gregorian calendar."""
    of_era = torch.remainder(days + 719_468, 146_097)  # since the 1st of March of a year divisible by 400
    leaps = _floor(of_era, 1_460) - _floor(of_era, 36_524) + _floor(of_era, 146_096)
    year = _floor(of_era - leaps, 365)
    of_year = of_era - (365 * year + _floor(year, 4) - _floor(year, 100))
    from_march = _floor(5 * of_year + 2, 153)
    day = of_year - _floor(153 * from_march + 2, 5) + 1
    return torch.remainder(from_march + 2, 12) + 1, day


def _floor(value: Tensor, by: int) -> Tensor:
    return _whole(value - torch.remainder(value, by), by)


def _whole(multiple: Tensor, by: int) -> Tensor:
    """Division of exact multiples, which is the same however an engine rounds."""
    return torch.div(multiple, by, rounding_mode="trunc")


def _angle(value: Tensor, period: int) -> Tensor:
    return value.to(torch.float32) * (2 * math.pi / period)
