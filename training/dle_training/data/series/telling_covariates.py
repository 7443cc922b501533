"""Covariates of a forecast that tell its target, such as a copy of it or its values of the next step.

They are judged as `telling_columns` judges the columns of a table. A forecast sees the past of the target, so a
covariate tells the target only if it says much more than the last value and the value one season earlier.
"""

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

from dle_bundle.drift.features import table_columns
from dle_bundle.groups import Groups
from dle_bundle.schema import Kind, Schema
from dle_training.config.run_config import DataConfig
from dle_training.data.columns import telling_columns
from dle_training.data.columns.telling_columns import ENOUGH, LEAST_ROWS, MOST_ROWS
from dle_training.scoring.forecast_baselines import Baselines
from dle_training.settings.proposals import setting, together

_Floats = npt.NDArray[np.float64]
_METRIC = "r2"


def find(training: Groups, target: _Floats, schema: Schema, data: DataConfig, baselines: Baselines) -> tuple[str, ...]:
    """Return a warning of each covariate that tells the `target` (N,) or (N, horizon) of the training windows.

    A past covariate is judged by the last step of the window, a known one also by the steps of the horizon, and a
    static one by its value. `baselines` are those of the same windows.
    """
    layout = schema.layout
    if layout is None or len(target) < LEAST_ROWS or training.sequence is None:
        return ()
    order = np.random.default_rng(0).permutation(len(target))[:MOST_ROWS]
    ahead = target.reshape(len(target), -1)[order].astype(np.float64)  # (N, horizon)
    simple = (np.repeat(baselines.last[order, None], ahead.shape[1], axis=1), baselines.seasonal[order])
    last, goal = training.sequence[order, -1], schema.outputs.target  # (N, channels)
    future = None if training.known is None else training.known[order]  # (N, horizon, known channels)
    channels, known = layout.names(layout.channels), layout.names(layout.known)
    warnings = dict[str, str]()
    for name in (name for name in layout.channels if name != goal):
        for channel in layout.names((name,)):
            seen = last[:, channels.index(channel), None]  # (N, steps)
            if future is not None and channel in known:
                seen = np.append(seen, future[..., known.index(channel)], axis=1)
            if seen.shape[1] > 1 and np.array_equal(seen[:, -1], ahead[:, -1]):
                warnings[name] = telling_columns.copies(channel, goal, _drop(name, data))
            elif (score := max(_scores(seen, ahead, simple))) >= ENOUGH[_METRIC]:
                warnings[name] = telling_columns.tells(channel, goal, _METRIC, score, _drop(name, data))
    for name, kind, values in (
        (each.field.name, each.field.kind, each.values[order]) for each in table_columns(training, schema)
    ):
        if name in layout.static:
            score = _score(kind, values, ahead[:, -1], *(each[:, -1] for each in simple))
            if score >= ENOUGH[_METRIC]:
                warnings[name] = telling_columns.tells(name, goal, _METRIC, score, _drop(name, data))
    return tuple(warnings.values())


def _drop(name: str, data: DataConfig) -> str:
    """The settings that leave a covariate out."""
    named = {"data.known": data.known, "data.static": data.static}
    others = {key: [each for each in names if each != name] for key, names in named.items() if name in names}
    drop = {"data.drop": [*data.drop, name]}
    return together({**drop, **others}) if others else setting("data.drop", drop["data.drop"])


def _scores(seen: _Floats, ahead: _Floats, simple: tuple[_Floats, ...]) -> Iterator[float]:
    """Score the last step of `seen` (N, steps) for the last one of `ahead` (N, horizon), and the two most alike."""
    alike = np.abs(_standard(seen).T @ _standard(ahead))
    first, second = np.unravel_index(int(np.argmax(alike)), alike.shape)
    for step, of in {(seen.shape[1] - 1, ahead.shape[1] - 1), (int(first), int(second))}:
        yield _score("numeric", seen[:, step], ahead[:, of], *(each[:, of] for each in simple))


def _standard(values: _Floats) -> _Floats:
    """The values (N, M) with a mean of 0 and a length of 1 in each column; missing ones are 0."""
    known = np.isfinite(values)
    filled = np.where(known, values, 0.0)
    centred = np.where(known, filled - filled.sum(axis=0) / np.maximum(known.sum(axis=0), 1), 0.0)
    lengths = np.sqrt((centred**2).sum(axis=0))
    standard: _Floats = centred / np.where(lengths > 0, lengths, 1.0)
    return standard


def _score(kind: Kind, values: npt.NDArray[np.generic], ahead: _Floats, *simple: _Floats) -> float:
    """The share of what the mean, or a better one of the `simple` forecasts (N,), leaves open of `ahead` (N,)."""
    known = np.isfinite(ahead)
    if kind == "numeric":
        known &= ~np.isnan(values.astype(np.float64))
    goal = ahead[known]
    if len(goal) < LEAST_ROWS:
        return 0.0
    error = ((telling_columns.predict(kind, values[known], goal[:, None])[:, 0] - goal) ** 2).sum()
    others = (np.where(np.isnan(other[known]), goal.mean(), other[known]) for other in simple)
    least = min(((other - goal) ** 2).sum() for other in (np.full(len(goal), goal.mean()), *others))
    return float(1 - error / least) if least > 0 else 0.0
