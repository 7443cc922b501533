"""What forecasts without a model say for each window: the last value again, and the value one season earlier.

A score means little without them. A model of a random walk cannot beat the last value, however good its R² looks.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from dle_bundle.errors import InputError
from dle_bundle.files import atomic_path
from dle_bundle.tables.long_tables import Ordered

SEASONS = (4, 5, 7, 12, 24, 30, 48, 52, 96, 144, 168, 288, 336, 365, 672, 1440)
"""The usual seasons in steps: quarters, workdays, weekdays, months, hours of the day and of the week, weeks, days."""
_LEAST_CORRELATION = 0.2
"""Weaker autocorrelation is no season."""
_TIE = 0.02
"""Of seasons that are about as strong, the shortest counts: its multiples are as strong as itself."""
_CYCLES = 2
"""Training must hold a season so many times."""
_Floats = npt.NDArray[np.float64]
_Places = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True, eq=False)
class Baselines:
    """The baselines of W windows.

    `series` (W,) names the series of each window, "" without `data.sequence_id`. `last` (W,) is the last known value,
    and `seasonal` (W, horizon) the value one season of `season` steps before each step, or whole seasons before; NaN =
    not known. `scale` (W,) is the mean absolute difference over one season within the training part of the series, NaN
    if it is 0 or not known. A season of 1 means none: then the seasonal value is the last value.
    """

    season: int
    series: npt.NDArray[np.str_]
    last: _Floats
    seasonal: _Floats
    scale: _Floats

    def take(self, rows: _Places) -> "Baselines":
        """The windows at these positions."""
        return Baselines(self.season, self.series[rows], self.last[rows], self.seasonal[rows], self.scale[rows])

    def unevenness(self, training: npt.NDArray[np.bool_]) -> float:
        """The factor between the largest and the smallest level or spread of a series; 1 for a single series.

        `training` (W,) marks the windows that count.
        """
        names, places = np.unique(self.series[training], return_inverse=True)
        if len(names) < 2:
            return 1.0
        last = self.last[training]
        known = ~np.isnan(last)
        counts = np.maximum(np.bincount(places, known, len(names)), 1)
        filled = np.where(known, last, 0.0)
        means = np.bincount(places, filled, len(names)) / counts
        spreads = np.sqrt(np.bincount(places, np.where(known, last - means[places], 0) ** 2, len(names)) / counts)
        return max(_factor(np.abs(means), float(spreads.max())), _factor(spreads, 0.0))

    def save(self, path: Path) -> None:
        """Write an .npz file."""
        with atomic_path(path) as temporary:
            np.savez_compressed(
                temporary,
                season=self.season,
                series=self.series,
                last=self.last,
                seasonal=self.seasonal,
                scale=self.scale,
            )


def load(path: Path) -> Baselines | None:
    """Return what `save` wrote, or None without such a file. Raises InputError if it is not readable."""
    if not path.is_file():
        return None
    try:
        with np.load(path, allow_pickle=False) as arrays:
            season, names = int(arrays["season"]), ("series", "last", "seasonal", "scale")
            return Baselines(season, *(arrays[name] for name in names))
    except (OSError, EOFError, ValueError, KeyError) as error:
        raise InputError(f"{path}: no readable baselines: {error}") from error


def choose_season(values: _Floats, ordered: Ordered, training: npt.NDArray[np.bool_]) -> int:
    """Return the usual season with the strongest autocorrelation in the training part, or 1.

    `values` (M,) is the target in sorted order, and `training` (M,) marks the rows of the training part. Differences
    between steps are correlated, since a trend correlates at every distance.
    """
    number = _series(ordered)
    steps = np.where(training & np.append(False, ordered.continued), np.diff(values, prepend=np.nan), np.nan)
    known = ~np.isnan(steps)
    filled = np.where(known, steps, 0.0)
    counts = np.maximum(np.bincount(number, known), 1)
    centred = np.where(known, filled - (np.bincount(number, filled) / counts)[number], 0.0)
    spread = np.sqrt(np.bincount(number, centred**2) / counts)[number]
    scaled = np.divide(centred, spread, out=np.zeros_like(centred), where=spread > 0)
    longest = int(np.bincount(number, training).max())
    found: dict[int, float] = {}
    for season in (season for season in SEASONS if _CYCLES * season <= longest):
        pairs = known[season:] & known[:-season] & (number[season:] == number[:-season])
        if pairs.sum() >= max(season, 10):
            found[season] = float((scaled[season:] * scaled[:-season])[pairs].mean())
    strongest = max(found.values(), default=0.0)
    if strongest < _LEAST_CORRELATION:
        return 1
    return next(season for season, strength in found.items() if strength >= strongest - _TIE)


def make(
    values: _Floats,
    ordered: Ordered,
    names: Sequence[str],
    ends: _Places,
    horizon: int,
    season: int,
    training: npt.NDArray[np.bool_] | None,
) -> Baselines:
    """Return the baselines of windows that end at the rows `ends` (W,). `names` are those of the series.

    `training` (M,) marks the rows of the training part, None = not known.
    """
    number, places = _series(ordered), np.arange(len(values))
    first = ordered.starts[number]
    recent = np.maximum.accumulate(np.where(np.isnan(values), -1, places))
    carried = np.where(recent >= first, values[np.maximum(recent, 0)], np.nan)  # the last known value at each row
    ahead = np.arange(1, horizon + 1)
    before = ends[:, None] + ahead - season * -(-ahead // season)  # (W, horizon)
    seasonal = np.where(before >= first[ends][:, None], carried[np.maximum(before, 0)], np.nan)
    scale = np.full(len(ends), np.nan)
    if training is not None:
        usable = training & (places - first >= season) & ~np.isnan(values)
        apart = np.abs(values - values[np.maximum(places - season, 0)])
        usable &= ~np.isnan(apart)
        counts = np.bincount(number, usable, len(ordered.starts))
        sums = np.bincount(number, np.where(usable, apart, 0.0), len(ordered.starts))
        means = np.divide(sums, counts, out=np.full(len(sums), np.nan), where=counts > 0)
        scale = np.where(means > 0, means, np.nan)[number[ends]]
    return Baselines(season, np.array(names, dtype=np.str_)[number[ends]], carried[ends], seasonal, scale)


def _factor(sizes: _Floats, above: float) -> float:
    """The largest of the positive sizes over the smallest; 1 if the largest is not above a bound."""
    positive = sizes[sizes > 0]
    return float(positive.max() / positive.min()) if len(positive) and positive.max() > above else 1.0


def _series(ordered: Ordered) -> _Places:
    """The number of each row's series (M,)."""
    return np.repeat(np.arange(len(ordered.starts)), ordered.counts)
