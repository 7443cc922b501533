"""Which role each column of a long table has: series id, time, channel or target.

`arrange` makes a table with one row for each example.

An example is a series, or a window of a forecast. Other tables are not changed.
"""

from dataclasses import dataclass, field

import pyarrow as pa
from msgspec.structs import replace

from dle_bundle.errors import InputError
from dle_bundle.schema import Schema, SeriesLayout
from dle_bundle.tables import long_tables, time_steps
from dle_bundle.tables.arrays import SEQUENCE
from dle_bundle.tables.long_tables import Ordered
from dle_training.config.run_config import DataConfig, RunConfig
from dle_training.data.columns import column_formats, column_settings
from dle_training.data.columns.column_formats import ColumnFormat
from dle_training.data.series import channels, covariates, own_steps, windows
from dle_training.data.series.channels import Choices
from dle_training.data.series.windows import Windows
from dle_training.data.splits import split
from dle_training.data.splits.blocks import Blocks
from dle_training.preprocessing.settings import Scaling
from dle_training.scoring.forecast_baselines import Baselines, Fitted
from dle_training.settings.proposals import setting

_UNEVEN = 3
_OUTSIDE = 0.25
_BY = {
    "window": "each window is scaled by the mean and spread of its own steps",
    "series": "each window is scaled by the mean and spread of its series in training",
    "none": "all windows are scaled alike",
}
_NO_STEP = "most rows do not follow the row before at one distance; each row counts as the next step"


@dataclass(frozen=True, slots=True)
class Arranged:
    """A table with one row for each example.

    `layout` describes the long table that `table` was made from, `dropped` gives the reason for each column that was
    left out. `blocks` holds the target times of a forecast's examples, and `baselines` their baselines.
    """

    table: pa.Table
    layout: SeriesLayout | None = None
    dropped: dict[str, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    blocks: Blocks | None = None
    baselines: Baselines | None = None

    def forecasting(self, config: RunConfig) -> RunConfig:
        """Return the configuration for this table: a forecast is always a regression."""
        if self.layout is None or self.layout.window is None:
            return config
        found = replace(config, objective=replace(config.objective, task="regression"))
        if self.layout.scaling != "series":
            return found
        # numbers that name a series are no amounts, and ids are no useless keys
        own = {self.layout.sequence_id: "categorical"}
        return replace(found, data=replace(found.data, kinds={**found.data.kinds, **own}))


def arrange(table: pa.Table, config: RunConfig, target: str, na_values: tuple[str, ...]) -> Arranged:
    """Arrange a long table by `data.sequence_id`, `data.time` and `data.window`.

    Raises InputError if columns are absent, if rows form no series, if a window has no time or a horizon no window, or
    if the split column varies within a series.
    """
    data = config.data
    covariates.check(data, table.column_names, target)
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
    time_format, time_note = column_formats.time_format(table, data)
    bare = SeriesLayout(channels=(), sequence_id=data.sequence_id, time=data.time, time_format=time_format)
    if data.window is not None:
        return _forecast(table, bare, config, target, na_values, time_note)
    ordered = long_tables.order(table, bare, na_values)
    apart = {data.sequence_id, data.time, target, *data.drop}
    varying = [name for name in table.column_names if name not in apart and not long_tables.constant(ordered, name)]
    choices = channels.choose(table, varying, data, target)
    _check_kinds(data, choices)
    found = channels.read(table, choices, data, target, None)
    if not found.names:
        raise InputError(
            "No column is left that varies within a series and is a number",
            [f"{name}: {why}" for name, why in found.dropped.items()],
        )
    layout = replace(bare, channels=found.names, number_formats=found.number_formats)
    if not long_tables.constant(ordered, target):
        raise InputError(
            f"{target!r}: the target must be the same in all rows of a series; or set data.window to forecast it"
        )
    _check_split(config.split.by, ordered, data)
    gathered = long_tables.gather(table.drop_columns(list(found.dropped)), layout, na_values)
    # these columns identify and order the series; they are not features
    plain = gathered.drop_columns([name for name in (data.sequence_id, data.time) if name and name != SEQUENCE])
    said = (*time_note, *found.notes, f"{len(plain):,} series of {len(table):,} rows")
    return Arranged(plain, layout, found.dropped, said)


def _forecast(
    table: pa.Table,
    bare: SeriesLayout,
    config: RunConfig,
    target: str,
    na_values: tuple[str, ...],
    time_note: tuple[str, ...],
) -> Arranged:
    """Arrange the windows of a forecast; `bare` is its layout without channels."""
    data = config.data
    apart = {data.sequence_id, data.time, *data.drop, *data.static}
    choices = channels.choose(table, [name for name in table.column_names if name not in apart], data, target)
    _check_kinds(data, choices)
    ordered = _past(table, bare, target, choices.get(target), na_values)
    step = time_steps.find(ordered.times, ordered.continued, dated=ordered.dated)
    layout = replace(bare, window=data.window, step=step, gaps=data.gaps, season=data.season)
    training = covariates.training_rows(ordered, layout, data.horizon, config.split)
    found = channels.read(table, choices, data, target, training)
    if unusable := [name for name in data.known if name in found.dropped]:
        raise InputError("data.known names unusable columns", [f"{name}: {found.dropped[name]}" for name in unusable])
    layout = replace(
        layout,
        channels=found.names,
        number_formats=found.number_formats,
        categories=found.categories,
        known=tuple(data.known),
        static=tuple(data.static),
    )
    names = layout.names(layout.channels)
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise InputError(f"{', '.join(twice)}: the name of two channels; rename a column")
    made = windows.make(table, layout, target, data.horizon, config.split, na_values)
    no_step = own_steps.notes(ordered, layout) if step is not None else (f"{data.time}: {_NO_STEP}",)
    scaling, scaled = _scaling(made, config)
    layout = replace(layout, season=made.baselines.season, scaling=scaling)
    roles = covariates.notes(ordered, layout, target)
    said = (*time_note, *found.notes, *roles, *no_step, *made.notes, *scaled)
    whole = windows.with_ids(made.table, layout, made.baselines.series)
    return Arranged(whole, layout, found.dropped, said, made.blocks, made.baselines)


def _scaling(made: Windows, config: RunConfig) -> tuple[Scaling, tuple[str, ...]]:
    """Return what windows are scaled by, and a note on it if nobody asked for it.

    Raises InputError if the windows of one series are to be scaled by their series.
    """
    asked = config.preprocessing.window_scaling
    if asked == "series" and "series" not in made.compared.errors:
        raise InputError(
            "preprocessing.window_scaling=series needs windows of several series, named by data.sequence_id; choose "
            "window or none"
        )
    if asked is not None:
        return asked, ()
    factor = made.baselines.unevenness(made.table.column(windows.SPLIT).to_numpy() == "train")
    why = f"levels or spreads of the series differ by a factor of {factor:,.3g}; " if factor >= _UNEVEN else ""
    if not why and made.compared.outside > _OUTSIDE:
        why = f"{made.compared.outside:.0%} of the validation windows have a level that training has not seen; "
    chosen = made.compared.choose("window" if why else "none", config.data.horizon)
    note = (
        f"{why}{_BY[chosen]} (preprocessing.window_scaling={chosen}); a linear model on validation: "
        f"{made.compared.said(chosen)}"
    )
    return chosen, (note,)


def _past(
    table: pa.Table, bare: SeriesLayout, target: str, choice: ColumnFormat | None, na_values: tuple[str, ...]
) -> Ordered:
    """The rows with the target as the only channel, up to its last value in each series."""
    if choice is None or choice.kind != "numeric":
        found = f", and finds {choice.note}" if choice is not None and choice.note else ""
        raise InputError(f"{target!r}: a forecast needs a target of numbers{found}")
    formats = {} if choice.number_format is None else {target: choice.number_format}
    alone = replace(bare, channels=(target,), number_formats=formats)
    return windows.known_part(long_tables.order(table, alone, na_values), 0, target)


def _check_split(by: str | None, ordered: Ordered, data: DataConfig) -> None:
    """Check that the split column has one value for each series; `split.choose` reports an unknown column later."""
    name = split.column_name(by or "")
    if name is None or name not in ordered.table.column_names:
        return
    if name == data.sequence_id:
        raise InputError(
            f"split.by={by}: the rows of each {name!r} form one example, which cannot be split; remove split.by"
        )
    if name == data.time or not long_tables.constant(ordered, name):
        raise InputError(
            f"split.by={by}: {name!r} varies within a series, and only whole series can be split; name a column "
            "with one value per series"
        )


def _check_kinds(data: DataConfig, choices: Choices) -> None:
    names = [name for name, choice in choices.items() if choice is not None and choice.kind == "numeric"]
    given = data.kinds | dict.fromkeys(data.date_formats, "datetime")
    faults = [
        f"data.{'date_formats' if name in data.date_formats else 'kinds'}: {name!r} is a channel of the series, which "
        "are numbers; data.drop leaves it out"
        for name in names
        if given.get(name, "numeric") != "numeric"
    ]
    own = data.na_values if isinstance(data.na_values, dict) else {}
    for name in (name for name in names if name in own):
        further = [word for word in dict.fromkeys((*own.get(column_settings.EVERY_COLUMN, ()), *own[name])) if word]
        faults.append(
            f"data.na_values: {name!r} is a channel of the series, which share the spellings of a missing value: set "
            f"{setting('data.na_values', further)}"
        )
    if faults:
        raise InputError("The configuration does not fit the columns", faults)


def rearrange(table: pa.Table, schema: Schema, target: str, fitted: Fitted | None = None) -> Arranged:
    """Arrange another table, with its target, for the model of `schema`; a table without a layout is not changed.

    `fitted` are the baselines of a forecast, which the training part of another table fitted.
    """
    layout = schema.layout
    if layout is None:
        return Arranged(table)
    if layout.window is None:
        return Arranged(long_tables.gather(table, layout, schema.na_values, proposing=False))
    made, beside = windows.all_of(table, layout, target, schema.outputs.horizon, schema.na_values, fitted)
    return Arranged(made, baselines=beside)
