"""The forecast of a linear model: ridge regression on the steps of a window and on what is known of the steps ahead.

It stands beside every forecast, since a network that is no better is not worth its cost (Zeng et al., "Are Transformers
Effective for Time Series Forecasting?", 2023). It is fitted in closed form, in a few seconds at most, so it also tells
which way of scaling the windows suits the series.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from dle_bundle.series import moments
from dle_training.preprocessing import series
from dle_training.preprocessing.settings import Scaling

MOST_FEATURES = 1_024
"""Beyond so many values in a window, the model reads the target alone, and its last steps."""
MOST_NUMBERS = 4_000_000
"""Beyond so many numbers, the model is fitted or compared on every second (third, …) window."""
PENALTIES = (1e-4, 1e-2, 1.0)
"""Tried on validation, each times the number of rows."""
_LEAST_GAIN = 0.02
_ROUNDS = 30
"""Missing targets are replaced by the fitted ones so many times, which tends to the fit of the known ones."""
_CHUNK = 4_096
_SCALES = ("kind", "channels", "names", "means", "spreads", "floors", "known", "known_scale")
"""The fields of `Scales`."""
_Floats = npt.NDArray[np.float64]
_Places = npt.NDArray[np.int64]
_Names = npt.NDArray[np.str_]


@dataclass(frozen=True, slots=True, eq=False)
class Windows:
    """W windows of sorted rows `values` (M, channels), NaN = missing.

    A window ends at the row `ends` (W,), and belongs to the series `names` (W,). The channels `known` (K,) are known at
    the steps to predict.
    """

    values: _Floats
    ends: _Places
    names: _Names
    known: _Places

    def __len__(self) -> int:
        return len(self.ends)

    def take(self, rows: npt.NDArray[np.int64] | slice) -> "Windows":
        """The windows at these positions."""
        return Windows(self.values, self.ends[rows], self.names[rows], self.known)

    def ahead(self, channel: int, horizon: int) -> _Floats:
        """The values (W, horizon) of a channel at the steps to predict, NaN = not known."""
        values: _Floats = self.values[self.ends[:, None] + np.arange(1, horizon + 1), channel]
        return values


@dataclass(frozen=True, slots=True, eq=False)
class Scales:
    """How windows are scaled. `channels` (C,) are the channels that the model reads, the target first.

    The rows of `means` and `spreads` (S + 1, C) are those of the training windows of each series in `names` (S,),
    which is sorted, and of all training windows. `floors` (C,) are the least spreads of a window. `known` (K,) are the
    channels that the model reads at the steps to predict, and `known_scale` (K, 2) their means and spreads.
    """

    kind: Scaling
    channels: _Places
    names: _Names
    means: _Floats
    spreads: _Floats
    floors: _Floats
    known: _Places
    known_scale: _Floats

    def of(self, steps: _Floats, names: _Names) -> tuple[_Floats, _Floats]:
        """The level and the spread (N, C) of windows (N, T, C) of these series; of its own steps for an unknown one."""
        if self.kind == "none":
            whole = np.zeros(len(steps), dtype=np.int64) - 1
            return self.means[whole], self.spreads[whole]
        level, spread = moments(steps)
        level, spread = np.where(np.isnan(level), self.means[-1], level), np.fmax(spread, self.floors)
        if self.kind == "window":
            return level, spread
        places = np.minimum(np.searchsorted(self.names, names), len(self.names) - 1)
        found = (self.names[places] == names)[:, None]
        return np.where(found, self.means[places], level), np.where(found, self.spreads[places], spread)


@dataclass(frozen=True, slots=True, eq=False)
class Linear:
    """A fitted model: `weights` (steps · C + horizon · K, horizon) of the scaled values, and `bias` (horizon,)."""

    scales: Scales
    steps: int
    weights: _Floats
    bias: _Floats

    @property
    def arrays(self) -> dict[str, npt.NDArray[Any]]:
        """The model as arrays, from which `restore` makes it again."""
        scales = {name: np.asarray(getattr(self.scales, name)) for name in _SCALES}
        return {**scales, "steps": np.array(self.steps), "weights": self.weights, "bias": self.bias}

    def predict(self, windows: Windows) -> _Floats:
        """The forecasts (W, horizon) in the unit of the target."""
        found = np.empty((len(windows), len(self.bias)))
        for start in range(0, len(windows), _CHUNK):
            part = slice(start, start + _CHUNK)
            features, level, spread = _features(windows.take(part), self.steps, self.scales, len(self.bias))
            found[part] = (features @ self.weights + self.bias) * spread + level
        return found


@dataclass(frozen=True, slots=True, eq=False)
class Comparison:
    """The best model, and the errors (V,) of the best model of each scaling on V validation windows.

    An error is the mean over the known steps of a window. If `scaled`, it is in the unit of the window's series.
    `outside` is the share of the validation windows whose mean is outside of those of the training windows of the
    series: a network would have to extrapolate, unless each window is scaled by itself.
    """

    model: Linear
    errors: dict[Scaling, _Floats]
    scaled: bool
    outside: float = 0.0

    def choose(self, preferred: Scaling, horizon: int) -> Scaling:
        """The scaling with the least error; `preferred`, unless the gain is more than 2 % and one standard error.

        Windows of neighbouring steps share targets, so only one in `horizon` counts as independent.
        """
        best = min(self.errors, key=lambda kind: float(self.errors[kind].mean()))
        gain = self.errors[preferred] - self.errors[best]
        noise = float(gain.std()) / np.sqrt(max(len(gain) / horizon, 1))
        return best if gain.mean() > max(_LEAST_GAIN * self.errors[preferred].mean(), noise) else preferred

    def said(self, chosen: Scaling) -> str:
        """The mean errors in words, the least first; and why it is not `chosen` if it is not."""
        means = sorted((float(errors.mean()), kind) for kind, errors in self.errors.items())
        said = ", ".join(f"{mean:.3g} with window_scaling={kind}" for mean, kind in means)
        kept = "" if means[0][1] == chosen else f" ({means[0][1]} gains less than 2 % or one standard error)"
        return f"{'MASE' if self.scaled else 'MAE'} {said}{kept}"


def restore(arrays: Mapping[str, npt.NDArray[Any]]) -> Linear:
    """The model of these `arrays`. Raises KeyError if some are missing."""
    scales = Scales(str(arrays["kind"]), *(arrays[name] for name in _SCALES[1:]))  # type: ignore[arg-type]
    return Linear(scales, int(arrays["steps"]), arrays["weights"], arrays["bias"])


def compare(
    training: Windows,
    validation: Windows,
    scale: _Floats,
    *,
    target: int,
    window: int,
    horizon: int,
    kinds: Sequence[Scaling],
) -> Comparison:
    """Fit a model for each scaling on the training windows, and compare them on the validation windows.

    `target` is the channel to predict, and `scale` (V,) the unit of errors for each validation window, NaN = not known.
    Windows without a unit do not count, unless none has one.
    """
    channels = np.array([target, *(each for each in range(training.values.shape[1]) if each != target)])
    known = training.known if 2 * horizon * len(training.known) <= MOST_FEATURES else training.known[:0]
    most = MOST_FEATURES - horizon * len(known)
    if window * len(channels) > most:
        channels = channels[:1]
    steps = min(window, most)
    features = steps * len(channels) + horizon * len(known)
    training = training.take(_sample(len(training), features))
    scaled = bool(np.isfinite(scale).any())
    places = np.flatnonzero(np.isfinite(scale) | (not scaled))
    places = places[_sample(len(places), features)]
    validation, unit = validation.take(places), scale[places] if scaled else np.ones(len(places))
    actual = validation.ahead(target, horizon)
    found: dict[Scaling, tuple[Linear, _Floats]] = {}
    for kind in kinds:
        scales = _scales(kind, training, channels, steps, known, horizon)
        for model in _models(training, scales, steps, target, horizon):
            absolute = np.abs(model.predict(validation) - actual)
            errors = np.nanmean(absolute, axis=1) / unit
            if kind not in found or errors.mean() < found[kind][1].mean():
                found[kind] = model, errors
    best = min(found.values(), key=lambda item: float(item[1].mean()))[0]
    errors = {kind: errors for kind, (_, errors) in found.items()}
    return Comparison(best, errors, scaled, _outside(training, validation, channels[:1], steps))


def _sample(count: int, numbers: int) -> slice:
    return slice(None, None, max(1, -(-count * numbers // MOST_NUMBERS)))


def _steps(windows: Windows, channels: _Places, steps: int) -> _Floats:
    """The last steps (W, steps, C) of the windows."""
    rows = windows.ends[:, None] + np.arange(1 - steps, 1)
    values: _Floats = windows.values[rows[:, :, None], channels]
    return values


def _outside(training: Windows, validation: Windows, channel: _Places, steps: int) -> float:
    """The share of validation windows whose mean is outside of the means of the training windows of their series."""
    seen, found = (moments(_steps(windows, channel, steps))[0][:, 0] for windows in (training, validation))
    names, places = np.unique(training.names, return_inverse=True)
    low, high = np.full(len(names), np.inf), np.full(len(names), -np.inf)
    np.fmin.at(low, places, seen)
    np.fmax.at(high, places, seen)
    own = np.minimum(np.searchsorted(names, validation.names), len(names) - 1)
    known = (names[own] == validation.names) & ~np.isnan(found)
    beyond = (found < low[own]) | (found > high[own])
    return float(beyond[known].mean()) if known.any() else 0.0


def _scales(kind: Scaling, training: Windows, channels: _Places, steps: int, known: _Places, horizon: int) -> Scales:
    values = _steps(training, channels, steps)
    floors = np.array(series.fit_windows(values, target=0).floors)
    means, spreads = series.pooled_moments(values, np.zeros(len(values), dtype=np.int64), 1, floors)
    # a channel without a value in any training window, which may also be the target
    means, spreads = np.nan_to_num(means), np.where(np.isnan(spreads), floors, spreads)
    names, places = np.unique(training.names, return_inverse=True)
    if kind == "series":
        own_means, own_spreads = series.pooled_moments(values, places, len(names), floors)
        means = np.append(np.where(np.isnan(own_means), means, own_means), means, axis=0)
        spreads = np.append(np.where(np.isnan(own_spreads), spreads, own_spreads), spreads, axis=0)
    future = [training.ahead(channel, horizon) for channel in known.tolist()]
    seen = [each[~np.isnan(each)] for each in future]
    scale = [(each.mean(), each.std() or 1.0) if len(each) else (0.0, 1.0) for each in seen]
    return Scales(
        kind, channels, names if kind == "series" else names[:0], means, spreads, floors, known, np.array(scale)
    )


def _features(windows: Windows, steps: int, scales: Scales, horizon: int) -> tuple[_Floats, _Floats, _Floats]:
    """The scaled values (W, steps · C + horizon · K), and the level and spread (W, 1) of the target.

    A missing step repeats the step before it; at the beginning of a window it is 0, which is the level.
    """
    values = _steps(windows, scales.channels, steps)
    level, spread = scales.of(values, windows.names)
    scaled = (values - level[:, None]) / spread[:, None]
    seen = ~np.isnan(scaled)
    if not seen.all():
        recent = np.maximum.accumulate(np.where(seen, np.arange(steps)[:, None], -1), axis=1)
        carried = np.take_along_axis(scaled, np.maximum(recent, 0), axis=1)
        scaled = np.where(recent >= 0, carried, 0.0)
    future = [
        np.nan_to_num((windows.ahead(channel, horizon) - mean) / sd)
        for channel, (mean, sd) in zip(scales.known.tolist(), scales.known_scale.tolist(), strict=True)
    ]
    return np.concatenate([scaled.reshape(len(values), -1), *future], axis=1), level[:, :1], spread[:, :1]


def _models(training: Windows, scales: Scales, steps: int, target: int, horizon: int) -> Iterator[Linear]:
    """A model for each penalty."""
    features, level, spread = _features(training, steps, scales, horizon)
    actual = (training.ahead(target, horizon) - level) / spread
    missing = np.isnan(actual)
    mean = features.mean(axis=0)
    centred = features - mean
    sizes, directions = np.linalg.eigh(centred.T @ centred)
    for penalty in PENALTIES:
        inverse = 1 / (np.maximum(sizes, 0) + penalty * len(centred))
        filled = np.where(missing, 0.0, actual)
        for _ in range(_ROUNDS if missing.any() else 1):
            bias = filled.mean(axis=0)
            weights = directions @ (inverse[:, None] * (directions.T @ (centred.T @ (filled - bias))))
            if missing.any():
                filled = np.where(missing, centred @ weights + bias, actual)
        yield Linear(scales, steps, weights, bias - mean @ weights)
