"""What simple forecasts say for each window: the last value, the value one season earlier, and a linear model.

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
from dle_training.preprocessing.settings import Scaling
from dle_training.scoring import linear
from dle_training.scoring.linear import Comparison, Linear, Windows

SEASONS = (4, 5, 7, 12, 24, 30, 48, 52, 96, 144, 168, 288, 336, 365, 672, 1440)
"""The usual seasons in steps: quarters, workdays, weekdays, months, hours of the day and of the week, weeks, days."""
_LEAST_CORRELATION = 0.2
"""Weaker autocorrelation is no season."""
_TIE = 0.02
"""Of seasons that are about as strong, the shortest counts: its multiples are as strong as itself."""
_CYCLES = 2
"""Training must hold a season so many times."""
_ROWS = ("series", "last", "seasonal", "linear", "scale")
"""The fields of `Baselines` with an entry for each window."""
_LINEAR, _OF_ROWS = "linear.", "rows."
_Floats = npt.NDArray[np.float64]
_Places = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True, eq=False)
class Fitted:
    """What the baselines of any windows need from the training part.

    `season` is in steps, 1 = none. `scales` (S,) are the mean absolute differences over one season within the training
    part of each series in `names` (S,), NaN if it is 0 or not known. `linear` is the linear model.
    """

    season: int
    names: npt.NDArray[np.str_]
    scales: _Floats
    linear: Linear

    def of(
        self, windows: Windows, ordered: Ordered, target: int, horizon: int, scored: npt.NDArray[np.bool_] | None = None
    ) -> "Baselines":
        """The baselines of windows of any long table; `target` is the channel to predict.

        The linear model forecasts only the windows that are `scored` (W,); None = all.
        """
        last, seasonal = _repeated(windows, ordered, target, horizon, self.season)
        scale = _of_each(windows.names, self.names, self.scales)
        rows = np.arange(len(windows)) if scored is None else np.flatnonzero(scored)
        forecast = np.full((len(windows), horizon), np.nan)
        forecast[rows] = self.linear.predict(windows.take(rows))
        return Baselines(self, windows.names, last, seasonal, forecast, scale)


@dataclass(frozen=True, slots=True, eq=False)
class Baselines:
    """The baselines of W windows.

    `series` (W,) names the series of each window, "" without `data.sequence_id`. `last` (W,) is the last known value,
    and `seasonal` (W, horizon) the value one season before each step, or whole seasons before; NaN = not known. Without
    a season, the seasonal value is the last value. `linear` (W, horizon) is the forecast of the linear model, NaN for
    windows that are not scored. `scale` (W,) is that of the series, NaN if not known.
    """

    fitted: Fitted
    series: npt.NDArray[np.str_]
    last: _Floats
    seasonal: _Floats
    linear: _Floats
    scale: _Floats

    @property
    def season(self) -> int:
        """The number of steps after which the target repeats itself; 1 = none."""
        return self.fitted.season

    def take(self, rows: _Places) -> "Baselines":
        """The windows at these positions."""
        return Baselines(self.fitted, *(getattr(self, name)[rows] for name in _ROWS))

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
        fitted = self.fitted
        arrays = {_LINEAR + name: array for name, array in fitted.linear.arrays.items()}
        arrays |= {_OF_ROWS + name: getattr(self, name) for name in _ROWS}
        with atomic_path(path) as temporary, temporary.open("wb") as file:
            np.savez_compressed(file, season=fitted.season, names=fitted.names, scales=fitted.scales, **arrays)  # type: ignore[arg-type]


def load(path: Path) -> Baselines | None:
    """Return what `save` wrote, or None without such a file. Raises InputError if it is not readable."""
    if not path.is_file():
        return None
    try:
        with np.load(path, allow_pickle=False) as arrays:
            found = {name: arrays[name] for name in arrays.files}
        model = linear.restore({name.removeprefix(_LINEAR): found[name] for name in found if name.startswith(_LINEAR)})
        fitted = Fitted(int(found["season"]), found["names"], found["scales"], model)
        return Baselines(fitted, *(found[_OF_ROWS + name] for name in _ROWS))
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


def fit(
    windows: Windows,
    part: npt.NDArray[np.int8],
    ordered: Ordered,
    names: Sequence[str],
    training: npt.NDArray[np.bool_],
    *,
    season: int,
    target: int,
    window: int,
    horizon: int,
    kinds: Sequence[Scaling],
) -> tuple[Fitted, Comparison]:
    """Fit the baselines on the training part, and compare these ways to scale windows on the validation part.

    `part` (W,) is 0 for training windows and 1 for validation windows, and `training` (M,) marks the rows of the
    training part. `names` are those of the series.
    """
    known = np.array(names, dtype=np.str_)
    each = scales(windows.values[:, target], ordered, season, training)
    validation = windows.take(np.flatnonzero(part == 1))
    compared = linear.compare(
        windows.take(np.flatnonzero(part == 0)),
        validation,
        _of_each(validation.names, known, each),
        target=target,
        window=window,
        horizon=horizon,
        kinds=kinds,
    )
    return Fitted(season, known, each, compared.model), compared


def scales(values: _Floats, ordered: Ordered, season: int, training: npt.NDArray[np.bool_]) -> _Floats:
    """Return the mean absolute difference over one season in the training part of each series (S,), NaN = none.

    `values` (M,) is the target in sorted order, and `training` (M,) marks the rows of the training part.
    """
    number, places = _series(ordered), np.arange(len(values))
    apart = np.abs(values - values[np.maximum(places - season, 0)])
    usable = training & (places - ordered.starts[number] >= season) & ~np.isnan(apart)
    counts = np.bincount(number, usable, len(ordered.starts))
    sums = np.bincount(number, np.where(usable, apart, 0.0), len(ordered.starts))
    means = np.divide(sums, counts, out=np.full(len(sums), np.nan), where=counts > 0)
    return np.where(means > 0, means, np.nan)


def _repeated(windows: Windows, ordered: Ordered, target: int, horizon: int, season: int) -> tuple[_Floats, _Floats]:
    """The last known value (W,) of each window, and the values (W, horizon) one season earlier."""
    values, ends = windows.values[:, target], windows.ends
    first = ordered.starts[_series(ordered)]
    recent = np.maximum.accumulate(np.where(np.isnan(values), -1, np.arange(len(values))))
    carried = np.where(recent >= first, values[np.maximum(recent, 0)], np.nan)  # the last known value at each row
    ahead = np.arange(1, horizon + 1)
    before = ends[:, None] + ahead - season * -(-ahead // season)  # (W, horizon)
    seasonal = np.where(before >= first[ends][:, None], carried[np.maximum(before, 0)], np.nan)
    return carried[ends], seasonal


def _of_each(names: npt.NDArray[np.str_], known: npt.NDArray[np.str_], scales: _Floats) -> _Floats:
    """The scale (W,) of each of the series `names`; NaN for one that is not among the known ones (S,)."""
    place = {name: index for index, name in enumerate(known.tolist())}
    return np.append(scales, np.nan)[[place.get(name, -1) for name in names.tolist()]]


def _factor(sizes: _Floats, above: float) -> float:
    """The largest of the positive sizes over the smallest; 1 if the largest is not above a bound."""
    positive = sizes[sizes > 0]
    return float(positive.max() / positive.min()) if len(positive) and positive.max() > above else 1.0


def _series(ordered: Ordered) -> _Places:
    """The number of each row's series (M,)."""
    return np.repeat(np.arange(len(ordered.starts)), ordered.counts)
