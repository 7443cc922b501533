"""Converts long tables into the rows that a forecast starts from: one for each series, by the same rules everywhere.

A row has the last window of its series, the values that are known for the steps to forecast, and the times of these
steps. For a model with known values, the table holds those steps below the last value of the target, with a blank
target. Predictions become a long table again, with one row for each series and step.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from msgspec.structs import replace

from dle_bundle.errors import Fault, InputError, counted, few
from dle_bundle.schema import Schema, SeriesLayout
from dle_bundle.tables import columns, long_tables, series_columns, time_steps
from dle_bundle.tables.arrays import SEQUENCE
from dle_bundle.tables.columns import Column
from dle_bundle.tables.long_tables import Ordered
from dle_bundle.values.dates import epoch_microseconds

KNOWN = "known"
"""The name of the column of known values, and of the input that reads it."""
_LISTED = 10
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_WRITTEN = ("%Y-%m-%d", "%Y-%m-%d %H:%M", "%Y-%m-%d %H:%M:%S", "%Y-%m-%dT%H:%M", "%Y-%m-%dT%H:%M:%S", "%Y-%m")
_Places = npt.NDArray[np.int64]
_Times = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class SeriesRows:
    """A table with one row for each of N series, and the rows of the long table that its values come from.

    `origin` (N,): the first row of each series, or its last one for forecasts; None for a table that is no long table.
    `static`: for each static column, the rows (N,) of its values. `ahead` (N, horizon): the rows of the known values,
    -1 = not in the table. Rows of the long table count from 0.
    """

    table: pa.Table
    origin: _Places | None = None
    static: dict[str, _Places] = field(default_factory=dict)
    ahead: _Places | None = None

    def located(self, fault: Fault, schema: Schema, first: int) -> list[Fault]:
        """The fault of a series as faults of rows and columns of the long table; all rows count from `first`."""
        layout = schema.layout
        if fault.row is None or self.origin is None or layout is None:
            return [fault]
        series = fault.row - first
        if self.ahead is not None and fault.field == KNOWN:
            return list(self._unknown(series, layout, first))
        row = int(self.static.get(fault.field or "", self.origin)[series]) + first
        if fault.field == SEQUENCE:
            return [replace(fault, row=row, field=layout.sequence_id, message=f"its series: {fault.message}")]
        return [replace(fault, row=row)]

    def _unknown(self, series: int, layout: SeriesLayout, first: int) -> Iterator[Fault]:
        """A fault for each known value that a forecast of the series lacks."""
        assert self.origin is not None
        assert self.ahead is not None
        last, names = int(self.origin[series]), [name for name in layout.known for _ in layout.names((name,))]
        blank = np.isnan(np.array(self.table.column(KNOWN)[series].as_py(), dtype=np.float64))
        for row, values in zip(self.ahead[series].tolist(), blank, strict=True):
            if row < 0:
                message = "a row with the known values of the next step is missing"
                yield Fault(last + first, layout.time, "missing", message)
                continue
            last = row
            for name in dict.fromkeys(name for name, unknown in zip(names, values, strict=True) if unknown):
                yield Fault(row + first, name, "missing", "a value is required for a step of the forecast")


def is_long(table: pa.Table, schema: Schema) -> bool:
    """Whether this is a long table for the model of `schema`, and not one with a row for each series."""
    if schema.layout is None:
        return False
    return SEQUENCE not in table.column_names or not series_columns.is_series(table.column(SEQUENCE))


def rows(table: pa.Table, schema: Schema, keep: Sequence[str] = ()) -> SeriesRows:
    """The rows of a long table for the model of `schema`, one for each series; a table of such rows is not changed.

    For forecasts, the column `layout.time` then holds the times of the steps to forecast: lists of `horizon` values,
    null = not known. Columns in `keep` are kept: they have one value for each series, or, if the table has the known
    values of the steps to forecast, lists of the `horizon` values of these steps. Raises InputError if the rows form no
    series, a series is too short, or a column of `keep` has several values in a series.
    """
    layout = schema.layout
    if layout is None or not is_long(table, schema):
        return SeriesRows(table)
    if layout.window is not None:
        return _last_windows(table, layout, layout.window, schema, keep)
    long_tables.check_reserved(table, layout, SEQUENCE)
    ordered = long_tables.order(table, layout, schema.na_values, proposing=False)
    origin = ordered.rows[ordered.starts]
    found, kept = long_tables.gathered(ordered, layout), _of_series(ordered, layout, keep, origin)
    return SeriesRows(pa.table({**dict(zip(found.column_names, found.columns, strict=True)), **kept}), origin)


def has_times(rows: pa.Table, schema: Schema) -> bool:
    """Whether these rows hold the times of the steps to forecast, as `rows` adds them."""
    layout = schema.layout
    if layout is None or layout.window is None or layout.time not in rows.column_names:
        return False
    return bool(pa.types.is_fixed_size_list(rows.column(layout.time).type))


def notes(rows: pa.Table, schema: Schema) -> tuple[str, ...]:
    """Notes on the times of these forecasts, and on where they begin."""
    layout, target = schema.layout, schema.outputs.target
    if layout is None or not has_times(rows, schema):
        return ()
    said: list[str] = []
    if rows.column(layout.time).combine_chunks().flatten().null_count:
        said.append(f"{layout.time}: the rows of training had no regular step, so these times are not known")
    channels = layout.names(layout.channels)
    steps = np.asarray(rows.column(SEQUENCE).combine_chunks().flatten().flatten())
    if np.isnan(steps.reshape(len(rows), -1, len(channels))[:, -1, channels.index(target)]).any():
        said.append(
            f"{target}: some series have no value in their last row; a forecast begins after the last row, also if its "
            f"{target!r} is blank"
        )
    return tuple(said)


def values(predicted: dict[str, Column]) -> npt.NDArray[np.float64]:
    """The predictions (`value`, or `value_1`, `value_2`, …) of N series as one value for each series and step."""
    each: npt.NDArray[np.float64] = np.stack([np.asarray(column) for column in predicted.values()], axis=1).reshape(-1)
    return each


def by_step(rows: pa.Table, schema: Schema, keep: Sequence[str]) -> dict[str, Column]:
    """The columns `keep` of `rows` and the time, with one row for each series and step."""
    layout = schema.layout
    assert layout is not None
    assert layout.time is not None
    each = pa.array(np.repeat(np.arange(len(rows)), schema.outputs.horizon))
    found = {}
    for name in (*(name for name in keep if name != layout.time), layout.time):
        column = rows.column(name)
        listed = name == layout.time or _has_steps(name, layout)
        found[name] = column.combine_chunks().flatten() if listed else column.take(each)
    return found


def known(ordered: Ordered, layout: SeriesLayout, firsts: _Places, horizon: int) -> pa.Array:
    """The column of the values that are known: those of the `horizon` rows from each of `firsts` (N,) on."""
    names = layout.names(layout.channels)
    own = [names.index(name) for name in layout.names(layout.known)]
    return long_tables.steps(ordered.values[:, own], firsts, np.full(len(firsts), horizon))


def _last_windows(
    table: pa.Table, layout: SeriesLayout, window: int, schema: Schema, keep: Sequence[str]
) -> SeriesRows:
    horizon, target = schema.outputs.horizon, schema.outputs.target
    long_tables.check_reserved(table, layout, SEQUENCE, *([KNOWN] if layout.known else []))
    present = long_tables.order(table, layout, schema.na_values, proposing=False)
    ordered = long_tables.completed(present, layout, horizon, proposing=False)
    last = ordered.starts + ordered.counts - 1
    if layout.known:
        last = long_tables.last_values(ordered, layout.names(layout.channels).index(target))
        _check_horizon(ordered, layout, last, horizon, target)
    _check_lengths(ordered, layout, last, window)
    made = long_tables.others(ordered, layout, last)
    static, ahead = long_tables.static_rows(ordered, layout), None
    for name, places in static.items():
        made[name] = table.column(name).take(pa.array(places))
    made[SEQUENCE] = long_tables.steps(ordered.values, last - window + 1, np.full(len(last), window))
    made |= _of_series(present, layout, [name for name in keep if not _has_steps(name, layout)], ordered.rows[last])
    if layout.known:
        made[KNOWN] = known(ordered, layout, last + 1, horizon)
        ahead = ordered.rows[last[:, None] + np.arange(1, horizon + 1)]
        where = pa.array(ahead.reshape(-1), mask=ahead.reshape(-1) < 0)
        for name in (name for name in keep if _has_steps(name, layout)):
            steps = table.column(name).take(where).combine_chunks()
            made[name] = pa.FixedSizeListArray.from_arrays(steps, horizon)
    if layout.time is not None:
        # most series end at the same time
        distinct, places = np.unique(_ahead(ordered, layout, last, horizon), return_inverse=True)
        times = _written(distinct, ordered, layout, int(last[0])).take(pa.array(places.reshape(-1)))
        made[layout.time] = pa.FixedSizeListArray.from_arrays(times, horizon)
    return SeriesRows(pa.table(made), ordered.rows[last], static, ahead)


def _has_steps(name: str, layout: SeriesLayout) -> bool:
    """Whether a column is kept with a value for each step of the forecast, which the table has rows for."""
    return bool(layout.known) and name not in (layout.sequence_id, layout.time, *layout.static)


def _of_series(ordered: Ordered, layout: SeriesLayout, keep: Sequence[str], origin: _Places) -> dict[str, Column]:
    """The columns `keep` at the rows `origin` (N,). Raises InputError if one has several values in a series."""
    own = {layout.sequence_id, *layout.static, *([layout.time] if layout.window is not None else [])}
    kept = [name for name in keep if name not in own]
    several = [name for name in kept if not long_tables.constant(ordered, name)]
    if several:
        usable = [name for name in ordered.table.column_names if name in own or long_tables.constant(ordered, name)]
        what = "a forecast has a row for each step to come" if layout.window is not None else "each series has one row"
        raise InputError(
            f"--keep {', '.join(several)}: several values in a series, but {what}; columns that can be kept: "
            f"{few(usable, _LISTED)}"
        )
    return {name: ordered.table.column(name).take(pa.array(origin)) for name in kept}


def _check_horizon(ordered: Ordered, layout: SeriesLayout, last: _Places, horizon: int, target: str) -> None:
    """Raise InputError for series without enough rows after the last value of the target."""
    found = ordered.starts + ordered.counts - 1 - last
    short = np.flatnonzero((found < horizon) & (last >= ordered.starts))
    if not len(short):
        return
    names = ", ".join(layout.known)
    details = [
        f"{_name(ordered, layout, index)}: {counted(int(found[index]), 'row')} after "
        f"{long_tables.shown_time(ordered, layout, int(last[index]))}"
        for index in short[:_LISTED].tolist()
    ]
    raise InputError(
        f"{names}: a forecast needs the known values of the {counted(horizon, 'step')} after the last value of "
        f"{target!r}; add {'these rows' if horizon > 1 else 'this row'} to the table with {target!r} left blank",
        [*details, *_more(short)],
    )


def _check_lengths(ordered: Ordered, layout: SeriesLayout, last: _Places, window: int) -> None:
    steps = last - ordered.starts + 1
    short = np.flatnonzero(steps < window)
    if not len(short):
        return
    places = short[:_LISTED].tolist()
    details = [f"{_name(ordered, layout, index)}: {counted(int(steps[index]), 'step')}" for index in places]
    fewer = "1 series has fewer" if len(short) == 1 else f"{len(short):,} series have fewer"
    raise InputError(f"a forecast needs {counted(window, 'step')}, but {fewer}", [*details, *_more(short)])


def _more(short: _Places) -> list[str]:
    return [f"and {len(short) - _LISTED:,} more"] if len(short) > _LISTED else []


def _name(ordered: Ordered, layout: SeriesLayout, index: int) -> str:
    if layout.sequence_id is None:
        return "the table"
    return repr(ordered.table.column(layout.sequence_id)[int(ordered.rows[ordered.starts[index]])].as_py())


def _ahead(ordered: Ordered, layout: SeriesLayout, last: _Places, horizon: int) -> _Times:
    """The times (N, horizon) of the steps to forecast; NaN where the series have no step."""
    if layout.known:
        times: _Times = ordered.times[last[:, None] + np.arange(1, horizon + 1)]
        return times
    ends, places = np.unique(ordered.times[last], return_inverse=True)
    ahead = np.full((len(ends), horizon), np.nan)
    if layout.step is not None:
        for index, end in enumerate(ends.tolist()):
            found = time_steps.following(end, layout.step, horizon)
            ahead[index, : len(found)] = found
    following: _Times = ahead[places]
    return following


def _written(times: _Times, ordered: Ordered, layout: SeriesLayout, place: int) -> pa.Array:
    """Times (K,) in the type of the time column, NaN as null; texts as the table writes the row at `place`."""
    assert layout.time is not None
    column, blank = ordered.table.column(layout.time), np.isnan(times)
    if not ordered.dated:
        whole = bool((times[~blank] == np.floor(times[~blank])).all())
        return pa.array(np.where(blank, 0, times).astype(np.int64) if whole else times, mask=blank)
    micros = np.where(blank, 0, times).astype(np.int64)
    if columns.is_date(column):
        stamps = pa.array(micros, mask=blank).cast(pa.timestamp("us", tz=getattr(column.type, "tz", None)))
        return stamps.cast(column.type, safe=False)
    text = str(column[int(ordered.rows[place])].as_py()).strip()
    moments = [_EPOCH + timedelta(microseconds=each) for each in micros.tolist()]
    formats = (*([layout.time_format] if layout.time_format else []), *_WRITTEN)
    written = next((each for each in formats if _rewrites(each, text, layout) and _keeps(each, moments, layout)), None)
    texts = [each.strftime(written) if written else each.isoformat().replace("+00:00", "Z") for each in moments]
    return pa.array(texts, pa.large_string(), mask=blank)


def _rewrites(written: str, text: str, layout: SeriesLayout) -> bool:
    """Whether the format writes the time that `text` says as `text`."""
    moment = _EPOCH + timedelta(microseconds=epoch_microseconds(text, layout.time_format))
    return moment.strftime(written) == text


def _keeps(written: str, moments: list[datetime], layout: SeriesLayout) -> bool:
    """Whether the texts of these times are read back to the same times."""
    try:
        read = [epoch_microseconds(each.strftime(written), layout.time_format) for each in moments]
    except ValueError:
        return False
    return read == [(each - _EPOCH) // timedelta(microseconds=1) for each in moments]
