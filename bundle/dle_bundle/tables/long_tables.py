"""Converts long tables, with one row per step, into tables with one row per series, by the same rules everywhere.

A series consists of the rows with the same id, ordered by time. Columns that are constant within each id become
ordinary columns.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from dle_bundle.errors import InputError, counted, nearest, row_name
from dle_bundle.proposals import setting
from dle_bundle.schema import SeriesLayout
from dle_bundle.tables import columns, time_steps
from dle_bundle.tables.arrays import SEQUENCE
from dle_bundle.tables.columns import Column
from dle_bundle.values import dates
from dle_bundle.values.dates import epoch_microseconds
from dle_bundle.values.missing import NA_TEXTS
from dle_bundle.values.numbers import limited

_LISTED = 10
_ONE_SERIES = "give one of them at a time, because the model has no column of ids"


@dataclass(frozen=True, slots=True)
class Ordered:
    """A long table sorted by id and time.

    `rows` (M,) are the positions of the sorted rows in `table`. Each of N series begins at `starts` (N,) and has
    `counts` (N,) rows, in sorted order; `times` (M,) and `values` (M, channels), NaN = missing, are sorted too. A
    column of categories has several channels, see `SeriesLayout.names`. Times are epoch microseconds if `dated`,
    otherwise numbers. `absent` rows are not in the table: `completed` has added them for absent steps, with -1 in
    `rows` and without values.
    """

    table: pa.Table
    rows: npt.NDArray[np.int64]
    starts: npt.NDArray[np.int64]
    counts: npt.NDArray[np.int64]
    times: npt.NDArray[np.float64]
    values: npt.NDArray[np.float64]
    dated: bool = False
    absent: int = 0

    @property
    def continued(self) -> npt.NDArray[np.bool_]:
        """Whether a row and the next one belong to the same series (M − 1,)."""
        found = np.ones(len(self.rows), dtype=bool)
        found[self.starts] = False
        return found[1:]


def order(table: pa.Table, layout: SeriesLayout, na_values: tuple[str, ...], *, proposing: bool = True) -> Ordered:
    """Sort the rows by id, in the order of first appearance, and by time.

    `proposing` says whether the user can change settings, which is not so with a trained model. Raises InputError that
    lists all faults: missing columns, ids and times, times that occur twice in a series, and channels that are not
    numbers.
    """
    needed = dict.fromkeys((layout.sequence_id, layout.time, *layout.channels, *layout.static))
    absent = [name for name in needed if name and name not in table.column_names]
    if absent:
        raise InputError(
            "Columns of the series are missing", [f"{name!r}{nearest(name, table.column_names)}" for name in absent]
        )
    faults: list[str] = []
    ids = _ids(table, layout.sequence_id, na_values, faults)
    times, dated = _times(table, layout, na_values, faults)
    values = [_values(table, name, layout, na_values, faults) for name in layout.channels]
    rows = np.lexsort((times, ids))
    same = (np.diff(ids[rows]) == 0) & (np.diff(times[rows]) == 0) & (ids[rows[1:]] >= 0)
    twice = np.flatnonzero(same)
    faults += _repeated(layout, np.sort(rows[twice + 1]))
    if len(twice) and layout.sequence_id is None:
        naming = f"name the column of their ids: set {setting('data.sequence_id', 'COLUMN')}"
        faults.append(f"if the table holds several series, {naming if proposing else _ONE_SERIES}")
    if faults:
        raise InputError("The rows do not form series", faults)
    starts = np.flatnonzero(np.diff(ids[rows], prepend=-1))
    counts = np.diff(starts, append=len(rows))
    stacked = np.concatenate(values, axis=1)[rows] if values else np.empty((len(rows), 0))
    return Ordered(table, rows, starts, counts, times[rows], stacked, dated)


def completed(ordered: Ordered, layout: SeriesLayout, horizon: int = 1, *, proposing: bool = True) -> Ordered:
    """Add a row without values for each absent step, at most `layout.window` + `horizon` rows between two rows.

    More would change nothing: no window with its horizon has both sides of such a gap. Without a step, nothing is
    added. `proposing` is as in `order`. Raises InputError if `layout.gaps` refuses gaps, or if times are dates and the
    step is a number, or the other way round.
    """
    step = layout.step
    if step is None or len(ordered.rows) < 2:
        return ordered
    if ordered.dated == (step.unit == "number"):
        expected, found = ("numbers", "dates") if ordered.dated else ("dates", "numbers")
        raise InputError(f"{layout.time!r}: expected {expected}, as in training, found {found}")
    most = (layout.window or 1) + horizon
    absent, places, times = time_steps.absent(ordered.times, ordered.continued, step, most)
    total = int(absent.sum())
    if not total:
        return ordered
    if layout.gaps == "refuse":
        where = np.flatnonzero(absent)
        details = [
            f"after {shown_time(ordered, layout, int(place))}{_in_series(ordered, layout, int(place))}: "
            f"{counted(int(absent[place]), 'step')}"
            for place in where[:_LISTED]
        ]
        more = [f"and {len(where) - _LISTED:,} more gaps"] if len(where) > _LISTED else []
        cure = f", or set {setting('data.gaps', 'missing')} to take their values as missing" if proposing else ""
        raise InputError(
            f"{layout.time!r}: {counted(total, 'step')} of {time_steps.said(step)} absent; add the rows{cure}",
            [*details, *more],
        )
    added = np.bincount(places, minlength=len(ordered.rows))
    at = places + 1
    counts = ordered.counts + np.add.reduceat(added, ordered.starts)
    return Ordered(
        ordered.table,
        np.insert(ordered.rows, at, -1),
        np.cumsum(counts) - counts,
        counts,
        np.insert(ordered.times, at, times),
        np.insert(ordered.values, at, np.nan, axis=0),
        ordered.dated,
        total,
    )


def last_values(ordered: Ordered, channel: int) -> npt.NDArray[np.int64]:
    """The last row (N,) of each series with a value of the channel; the row before its first one without any value."""
    places = np.where(np.isnan(ordered.values[:, channel]), -1, np.arange(len(ordered.rows)))
    return np.maximum(np.maximum.reduceat(places, ordered.starts), ordered.starts - 1)


def until(ordered: Ordered, last: npt.NDArray[np.int64]) -> Ordered:
    """The series up to the rows `last` (N,), without series that begin after these rows."""
    counts = last - ordered.starts + 1
    kept = np.arange(len(ordered.rows)) <= np.repeat(last, ordered.counts)
    counts = counts[counts > 0]
    return replace(
        ordered,
        rows=ordered.rows[kept],
        starts=np.cumsum(counts) - counts,
        counts=counts,
        times=ordered.times[kept],
        values=ordered.values[kept],
    )


def names(ordered: Ordered, layout: SeriesLayout) -> list[str]:
    """Return the id of each of the N series as text; "" without a column of ids."""
    if layout.sequence_id is None:
        return [""] * len(ordered.starts)
    rows = pa.array(ordered.rows[ordered.starts])
    return [str(name) for name in columns.categories(ordered.table.column(layout.sequence_id).take(rows), ())]


def shown_time(ordered: Ordered, layout: SeriesLayout, place: int) -> str:
    """Return the time of the first row from `place` on that is in the table, as the table writes it."""
    row = int(ordered.rows[place + int(np.argmax(ordered.rows[place:] >= 0))])
    return str(ordered.table.column(layout.time or "")[row].as_py())


def _in_series(ordered: Ordered, layout: SeriesLayout, place: int) -> str:
    if layout.sequence_id is None:
        return ""
    return f" in {ordered.table.column(layout.sequence_id)[int(ordered.rows[place])].as_py()!r}"


def gather(table: pa.Table, layout: SeriesLayout, na_values: tuple[str, ...], *, proposing: bool = True) -> pa.Table:
    """One row per series: its steps in the column `sequence`, and the value of its first row for all other columns.

    `forecast_tables.rows` does so for forecasts. An id or time column named `sequence` is replaced. Raises InputError
    as `order` does.
    """
    check_reserved(table, layout, SEQUENCE)
    return gathered(order(table, layout, na_values, proposing=proposing), layout)


def gathered(ordered: Ordered, layout: SeriesLayout) -> pa.Table:
    """As `gather`, of a table that is in order."""
    named = others(ordered, layout, ordered.starts)
    return pa.table({**named, SEQUENCE: steps(ordered.values, ordered.starts, ordered.counts)})


def check_reserved(table: pa.Table, layout: SeriesLayout, *names: str) -> None:
    """Raise InputError if the table has a column of one of these names that is no id, time or channel."""
    own = {layout.sequence_id, layout.time, *layout.channels}
    for name in names:
        if name in table.column_names and name not in own:
            raise InputError(f"the name {name!r} is reserved for the column of the series: rename the column {name!r}")


def others(ordered: Ordered, layout: SeriesLayout, places: npt.NDArray[np.int64]) -> dict[str, Column]:
    """The columns that are no channels, at the rows `places` (N,) of the order."""
    kept = [name for name in ordered.table.column_names if name not in (*layout.channels, SEQUENCE)]
    whole = ordered.table.select(kept).take(pa.array(ordered.rows[places]))
    # as a mapping, since a table without columns has no rows
    return dict(zip(kept, whole.columns, strict=True))


def static_rows(ordered: Ordered, layout: SeriesLayout) -> dict[str, npt.NDArray[np.int64]]:
    """For each column of `layout.static`, the row (N,) of the table that has the value of each series.

    It is the first row with a value; other rows may be blank. Raises InputError if a column varies within a series.
    """
    present = ordered.rows >= 0
    series = np.repeat(np.arange(len(ordered.starts)), ordered.counts)[present]
    rows = ordered.rows[present]
    found: dict[str, npt.NDArray[np.int64]] = {}
    faults: list[str] = []
    for name in layout.static:
        texts = columns.categories(ordered.table.column(name), NA_TEXTS)[rows]
        # the known rows of each series come first, and its blank rows matter only if there is no other
        first = np.lexsort((np.arange(len(rows)), texts == "", series))
        begins = np.flatnonzero(np.diff(series[first], prepend=-1))
        own = first[begins]
        found[name] = rows[own]
        differing = np.flatnonzero((texts != texts[own][series]) & (texts != ""))
        if len(differing):
            place = int(differing[0])
            one, other = texts[own[series[place]]], texts[place]
            where = "the table" if layout.sequence_id is None else repr(names(ordered, layout)[int(series[place])])
            faults.append(f"{name!r}: {one!r:.40} and {other!r:.40} in {where}")
    if faults:
        raise InputError("A static column (data.static) has one value for each series, but these have more", faults)
    return found


def steps(values: npt.NDArray[np.float64], starts: npt.NDArray[np.int64], counts: npt.NDArray[np.int64]) -> pa.Array:
    """A column of series: rows `starts[i]` to `starts[i] + counts[i]` of `values` (M, channels), NaN = missing."""
    picked = np.repeat(starts - np.cumsum(counts) + counts, counts) + np.arange(int(counts.sum()))
    flat = pa.array(limited(values)[picked].reshape(-1))
    lists = pa.FixedSizeListArray.from_arrays(flat, values.shape[1])
    offsets = np.append(0, np.cumsum(counts))
    return pa.LargeListArray.from_arrays(pa.array(offsets, pa.int64()), lists)


def constant(ordered: Ordered, name: str) -> bool:
    """Whether the column has the same value, or none, throughout each series; False for lists and nested types."""
    column = ordered.table.column(name)
    if not (columns.is_text(column) or columns.is_number(column) or columns.is_date(column)):
        return False
    _, positions = columns.distinct(column)
    places = positions[ordered.rows]
    firsts = np.repeat(places[ordered.starts], ordered.counts)
    return bool((places == firsts).all())


def _repeated(layout: SeriesLayout, rows: npt.NDArray[np.int64]) -> list[str]:
    """One line on the rows that repeat a time of their series; empty without rows."""
    if not len(rows):
        return []
    verb = "repeats" if len(rows) == 1 else "repeat"
    whose = "" if layout.sequence_id is None else f" of the same {layout.sequence_id!r}"
    return [f"{layout.time!r}: {counted(len(rows), 'row')} {verb} a time of an earlier row{whose}: {_shown(rows)}"]


def _ids(table: pa.Table, name: str | None, na_values: tuple[str, ...], faults: list[str]) -> npt.NDArray[np.int64]:
    """The number (M,) of each row's series, by first appearance; -1 for a missing id, which is a fault."""
    if name is None:
        return np.zeros(len(table), dtype=np.int64)
    texts = columns.categories(table.column(name), na_values)
    faults += _listed(f"{name!r}: no id", np.flatnonzero(texts == ""))
    numbers = {"": -1}
    return np.fromiter((numbers.setdefault(text, len(numbers) - 1) for text in texts), np.int64, count=len(texts))


def _times(
    table: pa.Table, layout: SeriesLayout, na_values: tuple[str, ...], faults: list[str]
) -> tuple[npt.NDArray[np.float64], bool]:
    """The times (M,) as numbers or epoch microseconds, and whether they are dates.

    Without a time column, the times are the positions of the rows.
    """
    name = layout.time
    if name is None:
        return np.arange(len(table), dtype=np.float64), False
    column, dated = table.column(name), columns.is_date(table.column(name))
    if columns.is_date(column):
        times, unreadable = _stamps(column), np.zeros(len(column), dtype=bool)
    elif layout.time_format is not None and (columns.is_text(column) or pa.types.is_integer(column.type)):
        (times, unreadable), dated = _moments(column, na_values, layout.time_format), True
    else:
        times, unreadable = columns.numbers(column, na_values)
        if columns.is_text(column) and unreadable.any():
            moments, no_moment = _moments(column, na_values, layout.time_format)
            if no_moment.sum() <= unreadable.sum():  # a few invalid numbers do not make a column of dates
                times, unreadable, dated = moments, no_moment, True
    what = f"{name!r}: expected a number or {dates.expected(layout.time_format)}"
    faults += _listed(what, np.flatnonzero(unreadable | np.isinf(times)), column)
    faults += _listed(f"{name!r}: no time", np.flatnonzero(np.isnan(times) & ~unreadable))
    return times, dated


def _stamps(column: Column) -> npt.NDArray[np.float64]:
    micros = column.cast(pa.timestamp("us", tz=getattr(column.type, "tz", None)), safe=False).cast(pa.int64())
    return np.where(np.asarray(micros.is_null()), np.nan, np.asarray(micros.fill_null(0)).astype(np.float64))


def _moments(
    column: Column, na_values: tuple[str, ...], date_format: str | None
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.bool_]]:
    """As `columns.moments`, in microseconds, so that several measurements in a second keep their order."""
    values, positions = columns.distinct(columns.trimmed(column, na_values))
    table = np.full(len(values), np.nan)
    unreadable = np.zeros(len(values), dtype=bool)
    for index, value in enumerate(values):
        if value is not None:
            try:
                table[index] = epoch_microseconds(value, date_format)
            except (ValueError, OverflowError):
                unreadable[index] = True
    return table[positions], unreadable[positions]


def _values(
    table: pa.Table, name: str, layout: SeriesLayout, na_values: tuple[str, ...], faults: list[str]
) -> npt.NDArray[np.float64]:
    """The channels (M, width) of one column."""
    column, categories, written = table.column(name), layout.categories.get(name), layout.number_formats.get(name)
    if categories is not None:
        if not (columns.is_text(column) or columns.is_number(column) or columns.is_date(column)):
            faults.append(f"{name!r}: expected categories, found {column.type}")
            return np.full((len(column), len(categories.values)), np.nan)
        texts = columns.categories(column, categories.na_values)
        own: npt.NDArray[np.float64] = (texts[:, None] == np.array(categories.values, dtype=object)).astype(np.float64)
        own[texts == ""] = np.nan
        return own
    values, unreadable = columns.numbers(column, na_values, written)
    like = f" like {written.example}" if written is not None else ""
    faults += _listed(f"{name!r}: expected a number{like}", np.flatnonzero(unreadable), column)
    faults += _listed(f"{name!r}: expected a finite number", np.flatnonzero(np.isinf(values)), column)
    return values[:, None]


def _listed(what: str, rows: Sequence[int] | npt.NDArray[np.int64], column: Column | None = None) -> list[str]:
    """One line that lists the rows, counted from 1, and the first one's value; empty without rows."""
    if not len(rows):
        return []
    found = "" if column is None else f", found {column[int(rows[0])].as_py()!r:.40}"
    return [f"{what}{found} in {counted(len(rows), 'row')}: {_shown(rows)}"]


def _shown(rows: Sequence[int] | npt.NDArray[np.int64]) -> str:
    """The first rows, counted from 1."""
    shown = ", ".join(row_name(int(row) + 1) for row in rows[:_LISTED])
    return f"{shown}{', …' if len(rows) > _LISTED else ''}"
