"""Long tables, in which a series stands as rows below one another, as tables with a row for each series.

Both sides do it by the same rules: training, and the prediction of a file. A series is of one id, in the order of time;
columns that stay the same within each id are ordinary columns of it.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from dle_bundle.errors import InputError, nearest
from dle_bundle.schema import Layout
from dle_bundle.tables import columns
from dle_bundle.tables.arrays import SEQUENCE
from dle_bundle.tables.columns import Column
from dle_bundle.values.dates import epoch_seconds
from dle_bundle.values.numbers import float32

_LISTED = 10


@dataclass(frozen=True, slots=True)
class Ordered:
    """A long table with its rows in order of id and time.

    `rows` (M,) are the places of its rows in the source. `starts` (N,) is where each series begins among them and
    `counts` (N,) how many rows it has; `times` (M,) and `values` (M, channels), NaN = missing, are in that order.
    """

    table: pa.Table
    rows: npt.NDArray[np.int64]
    starts: npt.NDArray[np.int64]
    counts: npt.NDArray[np.int64]
    times: npt.NDArray[np.float64]
    values: npt.NDArray[np.float64]


def order(table: pa.Table, layout: Layout, na_values: tuple[str, ...]) -> Ordered:
    """The rows by id, in the order of their first appearance, and by time.

    Raises InputError with everything wrong: absent columns, missing ids and times, times that stand twice in a series,
    channels that hold something else than numbers.
    """
    absent = [
        name for name in (layout.sequence_id, layout.time, *layout.channels) if name and name not in table.column_names
    ]
    if absent:
        raise InputError(
            "Columns of the series are absent", [f"{name!r}{nearest(name, table.column_names)}" for name in absent]
        )
    faults: list[str] = []
    ids = _ids(table, layout.sequence_id, na_values, faults)
    times = _times(table, layout.time, na_values, faults)
    values = [_numbers(table, name, na_values, faults) for name in layout.channels]
    rows = np.lexsort((times, ids))
    same = (np.diff(ids[rows]) == 0) & (np.diff(times[rows]) == 0) & (ids[rows[1:]] >= 0)
    twice = np.flatnonzero(same)
    faults += _listed(f"{layout.time!r}: a time that {_whose(layout)} has already", np.sort(rows[twice + 1]))
    if faults:
        raise InputError("The rows do not make series", faults)
    starts = np.flatnonzero(np.diff(ids[rows], prepend=-1))
    counts = np.diff(starts, append=len(rows))
    stacked = np.stack(values, axis=1)[rows] if values else np.empty((len(rows), 0))
    return Ordered(table, rows, starts, counts, times[rows], stacked)


def gather(table: pa.Table, layout: Layout, na_values: tuple[str, ...]) -> pa.Table:
    """A row for each series: its steps in the column `sequence`, and of all other columns its first row's value.

    With `layout.window` the last so many steps, and of the other columns the last row's value. An id or a time that is
    called `sequence` makes room. Raises InputError as `order` does, and for series that are shorter than the window.
    """
    own = {layout.sequence_id, layout.time, *layout.channels}
    if SEQUENCE in table.column_names and SEQUENCE not in own:
        raise InputError(f"{SEQUENCE!r} is what the column of the series will be called: rename the one that there is")
    ordered = order(table, layout, na_values)
    starts, counts, shown = ordered.starts, ordered.counts, ordered.starts
    if layout.window is not None:
        _check_lengths(ordered, layout, layout.window)
        shown = starts + counts - 1
        starts, counts = starts + counts - layout.window, np.full(len(counts), layout.window)
    kept = [name for name in table.column_names if name not in (*layout.channels, SEQUENCE)]
    whole = table.select(kept).take(pa.array(ordered.rows[shown]))
    # as a mapping, since a table of no columns has no rows
    named = dict(zip(kept, whole.columns, strict=True))
    return pa.table({**named, SEQUENCE: steps(ordered.values, starts, counts)})


def steps(values: npt.NDArray[np.float64], starts: npt.NDArray[np.int64], counts: npt.NDArray[np.int64]) -> pa.Array:
    """A column of series: rows `starts[i]` to `starts[i] + counts[i]` of `values` (M, channels), NaN = missing."""
    picked = np.repeat(starts - np.cumsum(counts) + counts, counts) + np.arange(int(counts.sum()))
    flat = pa.array(float32(values)[picked].reshape(-1))
    lists = pa.FixedSizeListArray.from_arrays(flat, values.shape[1])
    offsets = np.append(0, np.cumsum(counts))
    return pa.LargeListArray.from_arrays(pa.array(offsets, pa.int64()), lists)


def constant(ordered: Ordered, name: str) -> bool:
    """Whether the column has one value, or none, within each series; never of lists and the like."""
    column = ordered.table.column(name)
    if not (columns.is_text(column) or columns.is_number(column) or columns.is_date(column)):
        return False
    _, positions = columns.distinct(column)
    places = positions[ordered.rows]
    firsts = np.repeat(places[ordered.starts], ordered.counts)
    return bool((places == firsts).all())


def _check_lengths(ordered: Ordered, layout: Layout, window: int) -> None:
    short = np.flatnonzero(ordered.counts < window)
    if len(short):
        details = []
        for index in short[:_LISTED].tolist():
            row = int(ordered.rows[ordered.starts[index]])
            name = (
                "the table"
                if layout.sequence_id is None
                else repr(ordered.table.column(layout.sequence_id)[row].as_py())
            )
            details.append(f"{name}: {ordered.counts[index]:,} steps")
        if len(short) > _LISTED:
            details.append(f"and {len(short) - _LISTED:,} more")
        fewer = "1 series has fewer" if len(short) == 1 else f"{len(short):,} series have fewer"
        raise InputError(f"a forecast sees {window:,} steps, and {fewer}", details)


def _whose(layout: Layout) -> str:
    return "the table" if layout.sequence_id is None else f"its {layout.sequence_id!r}"


def _ids(table: pa.Table, name: str | None, na_values: tuple[str, ...], faults: list[str]) -> npt.NDArray[np.int64]:
    """The number of each row's series, by first appearance; -1 = it has none, which is a fault."""
    if name is None:
        return np.zeros(len(table), dtype=np.int64)
    texts = columns.categories(table.column(name), na_values)
    faults += _listed(f"{name!r}: no id", np.flatnonzero(texts == ""))
    numbers = {"": -1}
    return np.fromiter((numbers.setdefault(text, len(numbers) - 1) for text in texts), np.int64, count=len(texts))


def _times(table: pa.Table, name: str | None, na_values: tuple[str, ...], faults: list[str]) -> npt.NDArray[np.float64]:
    """Numbers, or epoch microseconds, by which rows are ordered; without such a column the order of the rows."""
    if name is None:
        return np.arange(len(table), dtype=np.float64)
    column = table.column(name)
    if columns.is_date(column):
        times, unreadable = _stamps(column), np.zeros(len(column), dtype=bool)
    else:
        times, unreadable = columns.numbers(column, na_values)
        if columns.is_text(column) and unreadable.any():
            moments, no_moment = _moments(column, na_values)
            if no_moment.sum() <= unreadable.sum():  # one bad value among numbers does not make them dates
                times, unreadable = moments, no_moment
    what = f"{name!r}: expected a number or an ISO 8601 date-time"
    faults += _listed(what, np.flatnonzero(unreadable | np.isinf(times)), column)
    faults += _listed(f"{name!r}: no time", np.flatnonzero(np.isnan(times) & ~unreadable))
    return times


def _stamps(column: Column) -> npt.NDArray[np.float64]:
    micros = column.cast(pa.timestamp("us", tz=getattr(column.type, "tz", None)), safe=False).cast(pa.int64())
    return np.where(np.asarray(micros.is_null()), np.nan, np.asarray(micros.fill_null(0)).astype(np.float64))


def _moments(column: Column, na_values: tuple[str, ...]) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.bool_]]:
    """As `columns.moments`, but with the fractions of a second, which order what is measured many times in one."""
    values, positions = columns.distinct(columns.trimmed(column, na_values))
    table = np.full(len(values), np.nan)
    unreadable = np.zeros(len(values), dtype=bool)
    for index, value in enumerate(values):
        if value is not None:
            try:
                table[index] = 1_000_000 * epoch_seconds(value) + datetime.fromisoformat(value).microsecond
            except (ValueError, OverflowError):
                unreadable[index] = True
    return table[positions], unreadable[positions]


def _numbers(table: pa.Table, name: str, na_values: tuple[str, ...], faults: list[str]) -> npt.NDArray[np.float64]:
    column = table.column(name)
    values, unreadable = columns.numbers(column, na_values)
    faults += _listed(f"{name!r}: expected a number", np.flatnonzero(unreadable), column)
    faults += _listed(f"{name!r}: expected a finite number", np.flatnonzero(np.isinf(values)), column)
    return values


def _listed(what: str, rows: Sequence[int] | npt.NDArray[np.int64], column: Column | None = None) -> list[str]:
    """One line on the rows, counted from 1, with the first one's value; nothing where there are none."""
    if not len(rows):
        return []
    found = "" if column is None else f", found {column[int(rows[0])].as_py()!r:.40}"
    shown = ", ".join(f"{int(row) + 1:,}" for row in rows[:_LISTED])
    return [f"{what}{found} in {len(rows):,} row(s): {shown}{', …' if len(rows) > _LISTED else ''}"]
