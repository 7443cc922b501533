"""The step between the rows of a series in time, and the steps that are absent from the table.

A forecast counts in steps: if the rows of some hours are not there, the rows around them are not neighbours. Absent
steps become rows without values, which the model knows as missing.
"""

from typing import Any

import numpy as np
import numpy.typing as npt

from dle_bundle.schema import TimeStep

SECOND = 1_000_000
"""Microseconds."""
DAY = 86_400 * SECOND
_WEEK_DAYS = 7
_MOST = 0.5
"""A step is the step of the table if more than this share of the rows follow the row before at this distance."""
_TOLERANCE = 0.1
"""Distances that differ from the step by this share of it count as one step: clocks are not exact."""
_MONTH_FROM = 27 * DAY
_ROWS_EACH = 4
"""Rows that times of the day or weekdays must have on average, before others without a row are closing times or days
off instead of gaps."""
_MOST_CANDIDATES = 20_000
_Floats = npt.NDArray[np.float64]
_Places = npt.NDArray[np.int64]


def find(times: _Floats, same: npt.NDArray[np.bool_], *, dated: bool) -> TimeStep | None:
    """Return the step of most rows, or None if no distance is that of most rows.

    `times` (M,) are numbers, or epoch microseconds if `dated`. `same` (M − 1,) says whether a row and the next one
    belong to the same series.
    """
    distances = np.diff(times)[same]
    if not len(distances):
        return None
    size = float(np.quantile(distances, 0.5, method="lower"))
    if dated and size >= _MONTH_FROM and _on_one_day(times):
        months = np.diff(_months(times))[same]
        size = float(np.quantile(months, 0.5, method="lower"))
        return TimeStep(size=size, unit="month") if (months == size).mean() > _MOST else None
    if size <= 0 or (np.abs(distances - size) <= _TOLERANCE * size).mean() <= _MOST:
        return None
    if not dated:
        return TimeStep(size=size, unit="number")
    return TimeStep(size=size / SECOND, unit="second", weekdays=_weekdays(times, size), slots=_slots(times, size))


def distances(times: _Floats, step: TimeStep) -> _Floats:
    """Return the distances (M − 1,) from each row to the next one, in steps."""
    if step.unit == "month":
        return np.diff(_months(times)) / step.size
    return np.diff(times) / (step.size * (SECOND if step.unit == "second" else 1))


def absent(times: _Floats, same: npt.NDArray[np.bool_], step: TimeStep, most: int) -> tuple[_Places, _Places, _Floats]:
    """Return the absent steps after each row.

    The first array (M − 1,) counts them. The other two hold, for at most `most` steps after a row, the place of that
    row (A,) and the time (A,) of the step. Times at which the table never has a row, such as nights or weekends, are
    no steps.
    """
    between = np.where(same, np.maximum(np.rint(distances(times, step)), 1) - 1, 0).astype(np.int64)
    pauses = step.weekdays is not None or step.slots is not None
    listed = np.minimum(between, max(most, _MOST_CANDIDATES) if pauses else most)
    places = np.repeat(np.arange(len(between)), listed)
    ahead = np.arange(len(places)) - np.repeat(np.cumsum(listed) - listed, listed) + 1
    moments = after(times[places], step, ahead)
    if not pauses:
        return between, places, moments
    open_then = _open(moments, step)
    places, moments = places[open_then], moments[open_then]
    counts = np.bincount(places, minlength=len(between))
    rank = np.arange(len(places)) - np.repeat(np.cumsum(counts) - counts, counts)
    return counts, places[rank < most], moments[rank < most]


def after(times: _Floats, step: TimeStep, ahead: Any) -> _Floats:
    """Return the times `ahead` steps after `times`, without regard to pauses."""
    if step.unit != "month":
        later: _Floats = times + ahead * (step.size * (SECOND if step.unit == "second" else 1))
        return later
    stamps = times.astype(np.int64).astype("datetime64[us]")
    months = stamps.astype("datetime64[M]")
    within = stamps - months.astype("datetime64[us]")
    last = (stamps.astype("datetime64[D]") + 1).astype("datetime64[M]") != months  # the last day of a month stays last
    then = months + np.asarray(ahead * step.size).astype(np.int64).astype("timedelta64[M]")
    end = (then + 1).astype("datetime64[us]") - np.timedelta64(DAY, "us")
    found = np.minimum(then.astype("datetime64[us]") + within, end + within % np.timedelta64(DAY, "us"))
    found = np.where(last, end + within % np.timedelta64(DAY, "us"), found)
    ends: _Floats = found.astype(np.int64).astype(np.float64)
    return ends


def following(time: float, step: TimeStep, count: int) -> _Floats:
    """Return the next `count` times after `time`, without the times at which the table never has a row."""
    if step.weekdays is None and step.slots is None:
        return after(np.full(count, time), step, np.arange(1, count + 1))
    found, ahead = np.empty(0), 0
    while len(found) < count and ahead < 100 * max(count, _MOST_CANDIDATES):
        chunk = after(np.full(_MOST_CANDIDATES, time), step, np.arange(ahead + 1, ahead + _MOST_CANDIDATES + 1))
        found, ahead = np.append(found, chunk[_open(chunk, step)]), ahead + _MOST_CANDIDATES
    return found[:count]


def said(step: TimeStep) -> str:
    """Return the step in words, such as "15 minutes"."""
    size, unit = step.size, str(step.unit)
    if unit == "number":
        return f"{size:g}"
    if unit == "second":
        units = (("week", 604_800), ("day", 86_400), ("hour", 3_600), ("minute", 60))
        unit, size = next(((name, size / of) for name, of in units if size % of == 0), ("second", size))
    elif size % 12 == 0:
        unit, size = "year", size / 12
    return f"{size:g} {unit}{'' if size == 1 else 's'}"


def _months(times: _Floats) -> _Places:
    months: _Places = times.astype(np.int64).astype("datetime64[us]").astype("datetime64[M]").astype(np.int64)
    return months


def _on_one_day(times: _Floats) -> bool:
    """Whether all times are on the same day of the month, or all on the last day."""
    days = times.astype(np.int64).astype("datetime64[us]").astype("datetime64[D]")
    firsts = days.astype("datetime64[M]")
    numbers = (days - firsts.astype("datetime64[D]")).astype(np.int64)
    return bool((numbers == numbers[0]).all() or ((days + 1).astype("datetime64[M]") != firsts).all())


def _weekday(times: _Floats) -> _Places:
    """0 = Monday."""
    days: _Places = (np.floor(times / DAY).astype(np.int64) + 3) % _WEEK_DAYS
    return days


def _slot(times: _Floats, size: float) -> _Places:
    """The number of the step in its day; steps of less than a minute count as one."""
    slots: _Places = np.floor(times % DAY / max(size, 60 * SECOND)).astype(np.int64)
    return slots


def _weekdays(times: _Floats, size: float) -> tuple[int, ...] | None:
    """The weekdays that have rows, 0 = Monday, or None if all have, or the table is too short to tell."""
    seen = np.unique(_weekday(times))
    days = len(np.unique(np.floor(times / DAY)))
    few = size > DAY or days < _ROWS_EACH * len(seen)
    return None if few or len(seen) == _WEEK_DAYS else tuple(seen.tolist())


def _slots(times: _Floats, size: float) -> tuple[int, ...] | None:
    """The steps of the day that have rows, or None if all have, or the table is too short to tell."""
    length = max(size, 60 * SECOND)
    if length >= DAY or DAY % length:
        return None
    seen, counts = np.unique(_slot(times, size), return_counts=True)
    few = np.median(counts) < _ROWS_EACH
    return None if few or len(seen) == DAY // length else tuple(seen.tolist())


def _open(times: _Floats, step: TimeStep) -> npt.NDArray[np.bool_]:
    """Whether the table has rows at such times."""
    found = np.ones(len(times), dtype=bool)
    if step.weekdays is not None:
        found &= np.isin(_weekday(times), step.weekdays)
    if step.slots is not None:
        found &= np.isin(_slot(times, step.size * SECOND), step.slots)
    return found
