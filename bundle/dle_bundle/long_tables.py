"""Long tables, in which a series stands as rows below one another, as tables with a row for each series.

Both sides do it by the same rules: training, and the prediction of a file. A series is of one id, in the order of time;
columns that stay the same within each id are ordinary columns of it.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from dle_bundle import columns
from dle_bundle.errors import InputError, nearest
from dle_bundle.groups import MISSING_TIME
from dle_bundle.schema import Layout
from dle_bundle.tables import SEQUENCE

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
    absent = [name for name in (layout.sequence_id, layout.time, *layout.channels) if name and name not in table.column_names]
    if absent:
        raise InputError(
            "Columns of the series are absent", [f"{name!r}{nearest(name, table.column_names)}" for name in absent]
        )
    faults: list[str] = []
    ids = _ids(table, layout.sequence_id, na_values, faults)
    times = _times(table, layout.time, na_values, faults)
    values = [_numbers(table, name, na_values, faults) for name in layout.channels]
    rows = np.lexsort((times, ids))
    twice = np.flatnonzero((np.diff(ids[rows]) == 0) & (np.diff(times[rows]) == 0))
    faults += _listed(f"{layout.time!r}: a time that its series has already", rows[twice + 1])
    if faults:
        raise InputError("The rows do not make series", faults)
    starts = np.flatnonzero(np.diff(ids[rows], prepend=-1))
    counts = np.diff(starts, append=len(rows))
    stacked = np.stack(values, axis=1)[rows] if values else np.empty((len(rows), 0))
    return Ordered(table, rows, starts, counts, times[rows], stacked)


def gather(table: pa.Table, layout: Layout, na_values: tuple[str, ...]) -> pa.Table:
    """A row for each series: its steps in the column `sequence`, and of all other columns its first row's value.

    With `layout.window` the last so many steps. Raises InputError as `order` does, and for a series that is shorter.
    """
    ordered = order(table, layout, na_values)
    starts, counts = ordered.starts, ordered.counts
    if layout.window is not None:
        short = np.flatnonzero(counts < layout.window)
        if len(short):
            what = f"a series of fewer than the {layout.window} steps that a forecast sees, which begins here"
            raise InputError("Series are too short", _listed(what, ordered.rows[starts[short]]))
        starts, counts = starts + counts - layout.window, np.full(len(counts), layout.window)
    kept = [name for name in table.column_names if name not in (*layout.channels, SEQUENCE)]
    whole = table.select(kept).take(pa.array(ordered.rows[ordered.starts]))
    return whole.append_column(SEQUENCE, steps(ordered.values, starts, counts))


def steps(
    values: npt.NDArray[np.float64], starts: npt.NDArray[np.int64], counts: npt.NDArray[np.int64]
) -> pa.Array:
    """A column of series: rows `starts[i]` to `starts[i] + counts[i]` of `values` (M, channels), NaN as null."""
    channels = values.shape[1]
    picked = np.repeat(starts - np.cumsum(counts) + counts, counts) + np.arange(int(counts.sum()))
    flat = pa.array(values[picked].reshape(-1).astype(np.float32), from_pandas=True)
    lists = pa.FixedSizeListArray.from_arrays(flat, channels)
    offsets = np.append(0, np.cumsum(counts))
    return pa.LargeListArray.from_arrays(pa.array(offsets, pa.int64()), lists)


def constant(ordered: Ordered, name: str) -> bool:
    """Whether the column has one value within each series."""
    values, positions = columns.distinct(ordered.table.column(name))
    places = positions[ordered.rows]
    firsts = np.repeat(places[ordered.starts], ordered.counts)
    return bool((places == firsts).all())


def _ids(
    table: pa.Table, name: str | None, na_values: tuple[str, ...], faults: list[str]
) -> npt.NDArray[np.int64]:
    """The number of each row's series, by first appearance."""
    if name is None:
        return np.zeros(len(table), dtype=np.int64)
    texts = columns.categories(table.column(name), na_values)
    faults += _listed(f"{name!r}: no id", np.flatnonzero(texts == ""))
    numbers: dict[str, int] = {}
    return np.fromiter((numbers.setdefault(text, len(numbers)) for text in texts), dtype=np.int64, count=len(texts))


def _times(
    table: pa.Table, name: str | None, na_values: tuple[str, ...], faults: list[str]
) -> npt.NDArray[np.float64]:
    """Numbers or epoch seconds by which rows are ordered; the order of the rows where there is no such column."""
    if name is None:
        return np.arange(len(table), dtype=np.float64)
    column = table.column(name)
    numbers, unreadable = columns.numbers(column, na_values)
    missing = np.isnan(numbers) & ~unreadable
    if unreadable.any():
        moments, unreadable = columns.moments(column, na_values, None)
        missing = (moments == MISSING_TIME) & ~unreadable
        numbers = moments.astype(np.float64)
    faults += _listed(f"{name!r}: neither a number nor an ISO 8601 date-time", np.flatnonzero(unreadable))
    faults += _listed(f"{name!r}: no time", np.flatnonzero(missing))
    return numbers


def _numbers(
    table: pa.Table, name: str, na_values: tuple[str, ...], faults: list[str]
) -> npt.NDArray[np.float64]:
    values, unreadable = columns.numbers(table.column(name), na_values)
    faults += _listed(f"{name!r}: no number", np.flatnonzero(unreadable))
    faults += _listed(f"{name!r}: not finite", np.flatnonzero(np.isinf(values)))
    return values


def _listed(what: str, rows: Sequence[int] | npt.NDArray[np.int64]) -> list[str]:
    if not len(rows):
        return []
    shown = ", ".join(f"{int(row) + 1:,}" for row in rows[:_LISTED])
    return [f"{what} in {len(rows):,} row(s): {shown}{', …' if len(rows) > _LISTED else ''}"]
