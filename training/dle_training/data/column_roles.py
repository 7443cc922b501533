"""Long tables as the rest of training takes a table: a row for each series, or for each window of a forecast.

All other tables stay as they are.
"""

from dataclasses import dataclass, field

import pyarrow as pa
from msgspec.structs import replace

from dle_bundle.errors import InputError
from dle_bundle.schema import Layout, Schema
from dle_bundle.tables import columns, long_tables
from dle_bundle.tables.arrays import SEQUENCE
from dle_bundle.tables.long_tables import Ordered
from dle_training.config.run_config import DataConfig, RunConfig
from dle_training.data import split, windows
from dle_training.data.blocks import Blocks

_SLIPS = 0.1
"""Of a column in which fewer values are no numbers, these are told as faults; else it is none of numbers."""


@dataclass(frozen=True, slots=True)
class Arranged:
    """`table` with a row for each example; how it came of a long table; columns that are left out, and why.

    `blocks`: the times that a forecast's examples are of.
    """

    table: pa.Table
    layout: Layout | None = None
    dropped: dict[str, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    blocks: Blocks | None = None

    def forecasting(self, config: RunConfig) -> RunConfig:
        """The configuration for what was made: what is forecast is a number, however few it has been."""
        if self.layout is None or self.layout.window is None:
            return config
        return replace(config, objective=replace(config.objective, task="regression"))


def arrange(table: pa.Table, config: RunConfig, target: str, na_values: tuple[str, ...]) -> Arranged:
    """The table that `data.sequence_id`, `data.time` and `data.window` make of a long one.

    Raises InputError: columns that are absent, rows that make no series, a window without a time, a horizon without a
    window, a split by a column that series have no one value of.
    """
    data = config.data
    if data.window is None and data.horizon != 1:
        raise InputError(f"data.horizon={data.horizon} needs data.window, the steps that a forecast sees")
    if data.window is None and data.sequence_id is None:
        if data.time is not None:
            raise InputError(
                "data.time orders the steps of series: name them with data.sequence_id, or set data.window"
            )
        return Arranged(table)
    if data.window is not None and data.time is None:
        raise InputError("data.window needs data.time, the column that orders the steps")
    if data.window is not None and config.split.by not in (None, f"column:{windows.SPLIT}"):
        raise InputError(
            f"split.by={config.split.by}: a forecast is split by time, or the future would leak; leave it out"
        )
    bare = Layout(channels=(), sequence_id=data.sequence_id, time=data.time)
    ordered = long_tables.order(table, bare, na_values)
    apart = {data.sequence_id, data.time, *data.drop}
    channels, dropped = [], {}
    for name in table.column_names:
        if name in apart or (name == target and data.window is None):
            continue
        if data.window is None and long_tables.constant(ordered, name):
            continue
        _, unreadable = columns.numbers(table.column(name), na_values)
        if unreadable.mean() > _SLIPS:
            dropped[name] = "no number" if data.window is not None else "varies within a series and is no number"
        else:
            channels.append(name)
    if not channels:
        raise InputError(
            "No column is left that varies within a series and is a number",
            [f"{name}: {why}" for name, why in dropped.items()],
        )
    _check_kinds(data, channels)
    layout = Layout(channels=tuple(channels), sequence_id=data.sequence_id, time=data.time, window=data.window)
    if data.window is not None:
        made = windows.make(table, layout, target, data.horizon, config.split, na_values)
        return Arranged(made.table, layout, dropped, made.notes, made.blocks)
    if not long_tables.constant(ordered, target):
        raise InputError(
            f"{target!r}: the target must be the same in all rows of a series; or set data.window to forecast it"
        )
    _check_split(config.split.by, ordered, data)
    gathered = long_tables.gather(table.drop_columns(list(dropped)), layout, na_values)
    # they told series apart and put them in order, and are none of their features
    plain = gathered.drop_columns([name for name in (data.sequence_id, data.time) if name and name != SEQUENCE])
    return Arranged(plain, layout, dropped, (f"{len(plain):,} series of {len(table):,} rows",))


def _check_split(by: str | None, ordered: Ordered, data: DataConfig) -> None:
    """A column that splits series has to have one value for each; that of another name is told later."""
    name = split.column_name(by or "")
    if name is None or name not in ordered.table.column_names:
        return
    if name == data.sequence_id:
        raise InputError(
            f"split.by={by}: the rows of each {name!r} are one example, which no split divides; leave it out"
        )
    if name == data.time or not long_tables.constant(ordered, name):
        raise InputError(
            f"split.by={by}: {name!r} orders the rows of a series or varies within it, and series are split; name a "
            "column that is the same in all rows of each"
        )


def _check_kinds(data: DataConfig, channels: list[str]) -> None:
    kinds = data.kinds | dict.fromkeys(data.date_formats, "datetime")
    faults = [
        f"data.{'date_formats' if name in data.date_formats else 'kinds'}: {name!r} is a channel of the series, which "
        "are numbers; data.drop leaves it out"
        for name in channels
        if kinds.get(name, "numeric") != "numeric"
    ]
    if faults:
        raise InputError("The configuration does not fit the columns", faults)


def rearrange(table: pa.Table, schema: Schema, target: str) -> pa.Table:
    """Another long table as the model of `schema` reads it, with its target; as it is for other models."""
    layout = schema.layout
    if layout is None:
        return table
    if layout.window is None:
        return long_tables.gather(table, layout, schema.na_values)
    return windows.all_of(table, layout, target, schema.outputs.horizon, schema.na_values)
