"""Tables that could be forecast: dates at a regular step, in each series if there are several, and a numeric target."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from dle_bundle.schema import TimeStep
from dle_bundle.tables import time_steps
from dle_bundle.values import dates
from dle_training.config.run_config import RunConfig
from dle_training.data.columns.kinds import Reading
from dle_training.settings.proposals import together

_REGULAR = 0.75
"""The share of the rows that follow the row before by one step; weekdays are 0.8."""
_LEAST_STEPS = 20
_USUAL = 24
_BY_SECONDS = {3_600: 48, 86_400: 28}
"""The usual number of steps in a window, also by the length of a step."""
_WINDOWS_EACH = 4
"""A window has at most this part of the longest series."""


def note(
    readings: Mapping[str, Reading], target: npt.NDArray[Any], name: str, by: str, config: RunConfig
) -> str | None:
    """Return a note that names the settings of a forecast, if the split is random and nobody asked for it.

    `readings` are those of the inputs by name, and `target` (N,) has the values of the column `name` in the same rows.
    """
    if config.split.by is not None or by != "random" or target.ndim != 1:
        return None
    for time, reading in readings.items():
        complete = reading.kind == "datetime" and not reading.missing.any() and not reading.fractions
        if not complete or not dates.has_year(reading.date_format):
            continue
        alone: tuple[None, npt.NDArray[np.int64]] = (None, np.zeros(len(target), dtype=np.int64))
        moments = reading.values.astype(np.float64) * time_steps.SECOND
        for series, places in (
            alone,
            *((other, found.codes) for other, found in readings.items() if _may_be_ids(found)),
        ):
            found = _step(places, moments, target)
            if found is None or _is_set(config, {time, series}):
                continue
            step, longest = found
            settings = {"data.time": time, "data.window": _window(step, longest), "data.sequence_id": series}
            typed = together({key: value for key, value in settings.items() if value is not None})
            each = "" if series is None else f" for each {series}"
            return (
                f"{time}: rows at a step of {time_steps.said(step)}{each}; to forecast {name} from the values before, "
                f"add {typed}"
            )
    return None


def _may_be_ids(reading: Reading) -> bool:
    whole = reading.kind == "categorical" or (reading.kind == "numeric" and reading.whole)
    return whole and not reading.missing.any()


def _is_set(config: RunConfig, apart: set[str | None]) -> bool:
    """Whether kinds or spellings are set for columns that would be channels, which have none of their own."""
    own = config.data.na_values if isinstance(config.data.na_values, dict) else {}
    return not {*config.data.kinds, *config.data.date_formats, *own} <= apart


def _step(
    places: npt.NDArray[np.int64], moments: npt.NDArray[np.float64], target: npt.NDArray[Any]
) -> tuple[TimeStep, int] | None:
    """Return the step of the series `places` (N,) and the steps of the longest; None if they are none to forecast."""
    counts = np.bincount(places)
    if np.median(counts) < _LEAST_STEPS:
        return None
    order = np.lexsort((moments, places))
    same, ordered = np.diff(places[order]) == 0, moments[order]
    if (np.diff(ordered)[same] == 0).any():
        return None
    step = time_steps.find(ordered, same, dated=True)
    if step is None or (np.rint(time_steps.distances(ordered, step)[same]) == 1).mean() < _REGULAR:
        return None
    if not (np.diff(target[order])[same] != 0).any():
        return None  # one value for each series
    return step, int(counts.max())


def _window(step: TimeStep, longest: int) -> int:
    """A usual number of steps for a window: two days of hours, four weeks of days, two years of months."""
    usual = _BY_SECONDS.get(int(step.size), _USUAL) if step.unit == "second" else _USUAL
    return min(usual, longest // _WINDOWS_EACH)
