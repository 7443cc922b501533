"""Windows for forecasting: past steps with the target values that follow, split by time so that nothing leaks.

Two cut times separate the parts: windows whose targets end before the first cut train, windows whose targets lie
between the cuts validate, and later windows test. All series share the cuts, and windows whose targets straddle a cut
are left out. The input steps of a window may precede a cut: when a forecast is made, the past is known.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from dle_bundle.errors import InputError, counted
from dle_bundle.schema import SeriesLayout
from dle_bundle.tables import forecast_tables, long_tables, time_steps
from dle_bundle.tables.arrays import SEQUENCE
from dle_bundle.tables.long_tables import Ordered
from dle_training.config.run_config import SplitConfig
from dle_training.data.splits.blocks import Blocks
from dle_training.data.splits.split import PARTS
from dle_training.preprocessing.settings import Scaling
from dle_training.scoring import forecast_baselines, linear
from dle_training.scoring.forecast_baselines import Baselines
from dle_training.scoring.linear import Comparison
from dle_training.settings.proposals import setting

MOST_WINDOWS = 200_000
MOST_NUMBERS = 1 << 28
"""Beyond so many windows, or numbers in them (a GiB), only every second (third, …) window is taken: neighbours share
all but one of their steps."""
SPLIT = "split"
_NO_PART = len(PARTS)
_Places = npt.NDArray[np.int64]
_Mask = npt.NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Windows:
    """A row for each window: `sequence`, the target (a number, or a tensor of `horizon` numbers) and `split`.

    With known columns there is also `known`, their values at the steps of the target, and a column for each static one.
    `blocks` holds the times of each window's targets, and `baselines` what simple forecasts say. `compared` are the
    ways to scale windows.
    """

    table: pa.Table
    blocks: Blocks
    notes: tuple[str, ...]
    baselines: Baselines
    compared: Comparison


def make(
    table: pa.Table, layout: SeriesLayout, target: str, horizon: int, split: SplitConfig, na_values: tuple[str, ...]
) -> Windows:
    """The windows of a long table, each of `layout.window` steps with the next `horizon` values of the target.

    Windows without any known value to predict are left out. Raises InputError: what `long_tables.order` finds, a target
    that is no channel, series that are too short for every part to have a window.
    """
    _check_target(layout, target)
    ordered = known_part(long_tables.order(table, layout, na_values), _channel(layout, target), target)
    later = len(table) - len(ordered.rows)
    ordered = long_tables.completed(ordered, layout, horizon)
    ends, known, seen = _ends(ordered, layout, target, horizon)
    moments = _moments(ordered, layout, horizon)
    cuts = _cut_places(len(moments), horizon, split)
    part = _parts(ordered, ends, horizon, moments[cuts])
    usable = (known > 0) & seen & (part != _NO_PART)
    used, part, lacking = ends[usable], part[usable], int((known[usable] < horizon).sum())
    _check_parts(part, moments, cuts, layout, horizon)

    most = _most(layout)
    step = -(-len(used) // most)
    used, part = used[::step], part[::step]
    counts = np.bincount(part, minlength=len(PARTS)).tolist()
    shown = " and ".join(
        long_tables.shown_time(ordered, layout, int(np.argmax(ordered.times == moments[cut]))) for cut in cuts
    )
    shares = ", ".join(f"{count:,} {name}" for name, count in zip(PARTS, counts, strict=True))
    found = f"{counted(len(used), 'window')} of {counted(layout.window or 0, 'step')}"
    notes = [f"{found}, split by {layout.time} at {shown}: {shares}"]
    if layout.step is not None and ordered.absent:
        steps = f"{counted(ordered.absent, 'step')} of {time_steps.said(layout.step)}"
        notes.append(
            f"{layout.time}: {steps} absent from the table, whose values are missing; set "
            f"{setting('data.gaps', 'refuse')} to refuse them"
        )
    if later:
        notes.append(f"left out: {counted(later, 'row')} after the last value of {target} in a series")
    if step > 1:
        notes.append(f"one window in {step} is used, so that there are at most {most:,}")
    if lacking:
        notes.append(
            f"in {counted(lacking, 'window')} some values of {target} to predict are missing; they count neither in "
            "training nor in scores"
        )
    if gaps := int((known == 0).sum()):
        notes.append(f"left out: {counted(gaps, 'window')} without any value of {target} to predict")
    if blank := int(((known > 0) & ~seen).sum()):
        notes.append(f"left out: {counted(blank, 'window')} without any value among their steps")
    parts = pa.DictionaryArray.from_arrays(part, list(PARTS)).cast(pa.large_string())
    first, last = (np.searchsorted(moments, ordered.times[used + ahead]) for ahead in (1, horizon))
    made = _table(ordered, layout, used, target, horizon).append_column(SPLIT, parts)
    channel, training = _channel(layout, target), ordered.times < moments[cuts[0]]
    windows, names = _windows(ordered, layout, used), long_tables.names(ordered, layout)
    fitted, compared = forecast_baselines.fit(
        windows,
        part,
        ordered,
        names,
        training,
        season=layout.season or forecast_baselines.choose_season(ordered.values[:, channel], ordered, training),
        target=channel,
        window=layout.window or 1,
        horizon=horizon,
        kinds=_kinds(layout, windows.names),
    )
    beside = fitted.of(windows, ordered, channel, horizon, part == PARTS.index("test"))
    return Windows(made, Blocks(first, last, in_time=True), tuple(notes), beside, compared)


def all_of(
    table: pa.Table,
    layout: SeriesLayout,
    target: str,
    horizon: int,
    na_values: tuple[str, ...],
    fitted: forecast_baselines.Fitted | None,
) -> tuple[pa.Table, Baselines | None]:
    """The windows of a long table with a known value to predict, as many as `make` takes, without a split.

    Their baselines are those of `fitted`, which another table trained. Raises InputError as `make` does.
    """
    _check_target(layout, target)
    present = long_tables.order(table, layout, na_values, proposing=False)
    ordered = long_tables.completed(present, layout, horizon, proposing=False)
    ends, known, seen = _ends(ordered, layout, target, horizon)
    usable = (known > 0) & seen
    if not usable.any():
        raise InputError(f"{target!r}: no window has a value that is to be predicted")
    used = ends[usable]
    used = used[:: -(-len(used) // _most(layout))]
    each, beside = _windows(ordered, layout, used), None
    if fitted is not None:
        beside = fitted.of(each, ordered, _channel(layout, target), horizon)
    return with_ids(_table(ordered, layout, used, target, horizon), layout, each.names), beside


def _kinds(layout: SeriesLayout, names: npt.NDArray[np.str_]) -> tuple[Scaling, ...]:
    """How windows of these series (W,) can be scaled; by series only if several have a column of their ids."""
    several = len(np.unique(names)) > 1 and layout.sequence_id not in (SEQUENCE, SPLIT, forecast_tables.KNOWN)
    return ("window", "series", "none") if several else ("window", "none")


def with_ids(table: pa.Table, layout: SeriesLayout, names: npt.NDArray[np.str_]) -> pa.Table:
    """The windows with a column of the names (W,) of their series, if these scale them."""
    if layout.scaling != "series" or layout.sequence_id is None:
        return table
    return table.append_column(layout.sequence_id, pa.array(names, pa.large_string()))


def _windows(ordered: Ordered, layout: SeriesLayout, ends: _Places) -> linear.Windows:
    """The windows that end at these rows, as the linear model reads them."""
    names = np.array(long_tables.names(ordered, layout), dtype=np.str_)
    each = names[np.searchsorted(ordered.starts, ends, side="right") - 1]
    channels = layout.names(layout.channels)
    known = np.array([channels.index(name) for name in layout.names(layout.known)], dtype=np.int64)
    return linear.Windows(ordered.values, ends, each, known)


def _most(layout: SeriesLayout) -> int:
    """Return how many windows fit in memory."""
    return min(MOST_WINDOWS, max(1, MOST_NUMBERS // ((layout.window or 1) * len(layout.names(layout.channels)))))


def known_part(ordered: Ordered, channel: int, target: str) -> Ordered:
    """The series up to the last value of the target: later rows, such as those to forecast, cannot train.

    Raises InputError if the target has no value.
    """
    last = long_tables.last_values(ordered, channel)
    if not (last >= ordered.starts).any():
        raise InputError(f"{target!r}: the target has no value in any row")
    return long_tables.until(ordered, last)


def training_end(ordered: Ordered, layout: SeriesLayout, horizon: int, split: SplitConfig) -> float:
    """Return the time at which the training part ends; all rows train if no series is long enough for a window."""
    moments = _moments(ordered, layout, horizon)
    return float(moments[_cut_places(len(moments), horizon, split)[0]]) if len(moments) else np.inf


def _check_target(layout: SeriesLayout, target: str) -> None:
    if target not in layout.channels or target in layout.categories:
        raise InputError(f"{target!r}: a forecast needs a target of numbers")
    made = (SEQUENCE, SPLIT, *([forecast_tables.KNOWN] if layout.known else []))
    if taken := [name for name in (target, *layout.static) if name in made]:
        raise InputError(f"{taken[0]!r} is the name of another column of the windows: rename the column")


def _channel(layout: SeriesLayout, target: str) -> int:
    """The channel of the target."""
    return layout.names(layout.channels).index(target)


def _ends(ordered: Ordered, layout: SeriesLayout, target: str, horizon: int) -> tuple[_Places, _Places, _Mask]:
    """The last step (W,) of every window among the ordered rows, and how many of its values to predict are known (W,).

    The mask (W,) marks the windows that see any value.
    """
    window = layout.window or 1
    counts = np.maximum(ordered.counts - window - horizon + 1, 0)
    if not counts.any():
        raise InputError(
            f"no series has {window + horizon} steps, which data.window={window} and data.horizon={horizon} need; the "
            f"longest has {int(ordered.counts.max()):,}"
        )
    firsts = np.repeat(ordered.starts - np.cumsum(counts) + counts, counts) + np.arange(int(counts.sum()))
    ends = firsts + window - 1
    known = np.append(0, np.cumsum(~np.isnan(ordered.values[:, _channel(layout, target)])))
    values = np.append(0, np.cumsum(~np.isnan(ordered.values).all(axis=1)))
    return ends, known[ends + 1 + horizon] - known[ends + 1], values[firsts] < values[ends + 1]


def _moments(ordered: Ordered, layout: SeriesLayout, horizon: int) -> npt.NDArray[np.float64]:
    """The times, ascending, at which some window has a value to predict."""
    window = layout.window or 1
    place = np.arange(len(ordered.rows)) - np.repeat(ordered.starts, ordered.counts)
    long_enough = np.repeat(ordered.counts >= window + horizon, ordered.counts)
    return np.unique(ordered.times[long_enough & (place >= window)])


def _cut_places(count: int, horizon: int, split: SplitConfig) -> list[int]:
    """Return where validation and test begin among `count` moments; each part gets at least `horizon` moments."""
    testing = min(round(count * (1 - split.test)), count - horizon)
    validating = min(round(count * (1 - split.validation - split.test)), testing - horizon)
    return [max(validating, 0), max(testing, 0)]


def _parts(ordered: Ordered, ends: _Places, horizon: int, cuts: npt.NDArray[np.float64]) -> npt.NDArray[np.int8]:
    """The place in `PARTS` (W,) of each window by the times of its targets; `_NO_PART` where they straddle a cut."""
    first = np.searchsorted(cuts, ordered.times[ends + 1], side="right")
    last = np.searchsorted(cuts, ordered.times[ends + horizon], side="right")
    return np.where(first == last, first, _NO_PART).astype(np.int8)


def _check_parts(
    part: npt.NDArray[np.int8], moments: npt.NDArray[np.float64], cuts: list[int], layout: SeriesLayout, horizon: int
) -> None:
    windows = np.bincount(part, minlength=len(PARTS)).tolist()
    if all(windows):
        return
    window, sizes = layout.window or 1, np.diff([0, *cuts, len(moments)]).tolist()
    absent = [name for name, count in zip(PARTS, windows, strict=True) if not count]
    raise InputError(
        f"{', '.join(absent)}: no window; with data.window={window} and data.horizon={horizon} at least "
        f"{window + 3 * horizon:,} steps with a known target are needed, and {window + len(moments):,} found",
        [
            f"{name}: {counted(size, 'time')} to forecast, {counted(count, 'window')}"
            for name, size, count in zip(PARTS, sizes, windows, strict=True)
        ],
    )


def _table(ordered: Ordered, layout: SeriesLayout, ends: _Places, target: str, horizon: int) -> pa.Table:
    window = layout.window or 1
    sequence = long_tables.steps(ordered.values, ends - window + 1, np.full(len(ends), window))
    ahead = np.lib.stride_tricks.sliding_window_view(ordered.values[:, _channel(layout, target)], horizon)
    targets = ahead[ends + 1]  # (W, horizon)
    values = pa.array(targets[:, 0]) if horizon == 1 else pa.FixedShapeTensorArray.from_numpy_ndarray(targets)
    made = {SEQUENCE: sequence, target: values}
    if layout.known:
        made[forecast_tables.KNOWN] = forecast_tables.known(ordered, layout, ends + 1, horizon)
    series = np.repeat(np.arange(len(ordered.starts)), ordered.counts)[ends]
    for name, rows in long_tables.static_rows(ordered, layout).items():
        made[name] = ordered.table.column(name).take(pa.array(rows[series]))
    return pa.table(made)
