"""Scores of a forecast: beside the baselines, and for each series.

MASE is the mean absolute error in units of the seasonal-naive error in the training part (Hyndman and Koehler, "Another
look at measures of forecast accuracy", 2006). Unlike the other scores it compares series of different levels.
"""

from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt

from dle_training.scoring.forecast_baselines import Baselines
from dle_training.scoring.metrics import Actual, Predictions

LAST, SEASONAL, LINEAR = "last value", "seasonal value", "linear"
_CLEARLY = 0.98
"""A model is better than a baseline if its error is less than this share of the baseline's, and worse the other way."""
_Floats = npt.NDArray[np.float64]


class ErrorScores(msgspec.Struct, frozen=True, kw_only=True):
    """Errors of forecasts over the steps that have one; None = no step has one."""

    mae: float | None
    rmse: float | None
    mase: float | None


class SeriesScores(msgspec.Struct, frozen=True, kw_only=True):
    """The scores of one series: of the model, and by the name of the baseline."""

    rows: int
    model: ErrorScores
    baselines: dict[str, ErrorScores]


class ForecastScores(msgspec.Struct, frozen=True, kw_only=True):
    """The scores of a forecast. `season` in steps is that of the seasonal value, 1 = none.

    `per_series` is empty for a single series. `warning` says that the model is no better than a baseline, or worse.
    """

    season: int
    model: ErrorScores
    baselines: dict[str, ErrorScores]
    per_series: dict[str, SeriesScores]
    warning: str | None = None


def score(actual: Actual, predicted: Predictions, baselines: Baselines) -> ForecastScores:
    """Score answers (N,) or (N, horizon) beside the baselines of the same rows."""
    shape = baselines.seasonal.shape
    wanted = actual.reshape(shape).astype(np.float64)
    errors = {"": predicted.reshape(shape) - wanted, LAST: baselines.last[:, None] - wanted}
    if baselines.season > 1:
        errors[SEASONAL] = baselines.seasonal - wanted
    errors[LINEAR] = baselines.linear - wanted
    model, *others = _all(errors, baselines.scale).values()
    named = dict(zip(list(errors)[1:], others, strict=True))
    names, places = np.unique(baselines.series, return_inverse=True)
    per_series: dict[str, SeriesScores] = {}
    if len(names) > 1:
        for index, name in enumerate(names.tolist()):
            rows = np.flatnonzero(places == index)
            own = _all({key: error[rows] for key, error in errors.items()}, baselines.scale[rows])
            per_series[name] = SeriesScores(rows=len(rows), model=own.pop(""), baselines=own)
    return ForecastScores(
        season=baselines.season,
        model=model,
        baselines=named,
        per_series=per_series,
        warning=_warning(errors, baselines.scale, baselines.season),
    )


def mean_by_step(errors: _Floats) -> _Floats:
    """The means (horizon,) of the errors (N, horizon) that are known; NaN for a step without any."""
    known = np.isfinite(errors)
    sums, counts = np.where(known, errors, 0.0).sum(axis=0), known.sum(axis=0)
    means: _Floats = np.divide(sums, counts, out=np.full(len(sums), np.nan), where=counts > 0)
    return means


def table(scores: ForecastScores) -> list[tuple[str, Any, Any, Any]]:
    """Rows of name, MAE, RMSE and MASE: the model first."""
    named = {"model": scores.model, **{in_words(name, scores.season): own for name, own in scores.baselines.items()}}
    return [(name, own.mae, own.rmse, own.mase) for name, own in named.items()]


def in_words(name: str, season: int | None = None) -> str:
    """The name of a baseline in a sentence, with its season if that is given."""
    if name == SEASONAL and season is not None:
        return f"{name} ({season:,} steps earlier)"
    return "linear model" if name == LINEAR else name


def _all(errors: dict[str, _Floats], scale: _Floats) -> dict[str, ErrorScores]:
    return {name: _scores(error, scale) for name, error in errors.items()}


def _scores(errors: _Floats, scale: _Floats) -> ErrorScores:
    absolute = np.abs(errors)
    return ErrorScores(
        mae=_mean(absolute),
        rmse=None if (square := _mean(errors**2)) is None else square**0.5,
        mase=_mean(absolute / scale[:, None]),
    )


def _mean(values: _Floats) -> float | None:
    known = values[np.isfinite(values)]
    return float(known.mean()) if len(known) else None


def _warning(errors: dict[str, _Floats], scale: _Floats, season: int) -> str | None:
    """Compare the model with the best baseline over the same steps, by MASE where it is defined, else by MAE."""
    scaled = {name: np.abs(error) / scale[:, None] for name, error in errors.items()}
    what = "MASE"
    if any(_mean(values) is None for values in scaled.values()):
        scaled, what = {name: np.abs(error) for name, error in errors.items()}, "MAE"
    worse: list[tuple[float, str]] = []
    for name in [name for name in scaled if name]:
        known = np.isfinite(scaled[name]) & np.isfinite(scaled[""])
        own, other = _mean(scaled[""][known]), _mean(scaled[name][known])
        if own is not None and other is not None and own > _CLEARLY * other:
            words = f"{_beside(own, other)} than the {in_words(name, season)}: {what} {own:.4g} against {other:.4g}"
            worse.append((other, words))
    return f"The model is {min(worse)[1]}" if worse else None


def _beside(own: float, other: float) -> str:
    """Say how a model with the error `own` is beside a baseline with the error `other`, if not clearly better."""
    if own * _CLEARLY > other:
        return "worse"
    return "no better" if own >= other else "hardly better"
