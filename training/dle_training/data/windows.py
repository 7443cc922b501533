"""Forecasting: windows of past steps with the values that follow, split by time so that nothing leaks.

All windows whose targets end before a moment train, those whose targets all lie between it and a second moment validate,
those after it test; the moments are the same for all series, and windows whose targets straddle one are left out. What a
window sees may reach back before a moment: when a forecast is made, the past is known.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from dle_bundle import long_tables
from dle_bundle.errors import InputError
from dle_bundle.long_tables import Ordered
from dle_bundle.schema import Layout
from dle_bundle.tables import SEQUENCE
from dle_training.config import SplitConfig

MOST_WINDOWS = 200_000
"""Beyond, only every second (third, …) window is taken: neighbours share all but one of their steps."""
SPLIT = "split"
_Places = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Windows:
    """A row for each window: `sequence`, the target (a number, or a list of `horizon` numbers) and `split`."""

    table: pa.Table
    notes: tuple[str, ...]


def make(
    table: pa.Table, layout: Layout, target: str, horizon: int, split: SplitConfig, na_values: tuple[str, ...]
) -> Windows:
    """The windows of a long table. Raises InputError where its series are too short for every part to have one."""
    ordered = long_tables.order(table, layout, na_values)
    ends, targets, gaps = _cut(ordered, layout, target, horizon)
    first, last = ordered.times[ends + 1], ordered.times[ends + horizon]
    moments = np.unique(ordered.times)
    cuts = [1 - split.validation - split.test, 1 - split.test]
    validating, testing = (moments[min(int(len(moments) * cut), len(moments) - 1)] for cut in cuts)
    part = np.full(len(ends), "", dtype=object)
    part[last < validating] = "train"
    part[(first >= validating) & (last < testing)] = "validation"
    part[first >= testing] = "test"
    empty = [name for name in ("train", "validation", "test") if not (part == name).any()]
    if empty:
        needed = layout.window or 0
        raise InputError(
            f"the {' and '.join(empty)} part has no window: with data.window={needed} and data.horizon={horizon} a "
            f"series needs far more than {needed + horizon} steps, and the longest has {int(ordered.counts.max()):,}"
        )
    used = part != ""
    step = -(-int(used.sum()) // MOST_WINDOWS)
    if step > 1:
        used &= np.arange(len(used)) % step == 0
    notes = [f"{int(used.sum()):,} windows of {layout.window} steps, split by {layout.time}"]
    if step > 1:
        notes.append(f"of the windows every {step}. is used, so that there are at most {MOST_WINDOWS:,}")
    if gaps:
        notes.append(f"{gaps:,} windows were left out for a missing value of {target} among those to predict")
    whole = _table(ordered, layout, ends[used], targets[used], target)
    return Windows(whole.append_column(SPLIT, pa.array(part[used].tolist(), pa.large_string())), tuple(notes))


def all_of(table: pa.Table, layout: Layout, target: str, horizon: int, na_values: tuple[str, ...]) -> pa.Table:
    """Every window of a long table, without a split."""
    ordered = long_tables.order(table, layout, na_values)
    ends, targets, _ = _cut(ordered, layout, target, horizon)
    return _table(ordered, layout, ends, targets, target)


def _cut(
    ordered: Ordered, layout: Layout, target: str, horizon: int
) -> tuple[_Places, npt.NDArray[np.float64], int]:
    """The last step (W,) of each window among the ordered rows, its targets (W, horizon), and how many had gaps."""
    window = layout.window or 1
    counts = np.maximum(ordered.counts - window - horizon + 1, 0)
    if not counts.any():
        raise InputError(
            f"no series has {window + horizon} steps, which data.window={window} and data.horizon={horizon} need; the "
            f"longest has {int(ordered.counts.max()):,}"
        )
    firsts = np.repeat(ordered.starts - np.cumsum(counts) + counts, counts) + np.arange(int(counts.sum()))
    ends = firsts + window - 1
    values = ordered.values[:, layout.channels.index(target)]
    targets = values[ends[:, None] + np.arange(1, horizon + 1)]
    known = ~np.isnan(targets).any(axis=1)
    return ends[known], targets[known], int((~known).sum())


def _table(
    ordered: Ordered, layout: Layout, ends: _Places, targets: npt.NDArray[np.float64], target: str
) -> pa.Table:
    window = layout.window or 1
    sequence = long_tables.steps(ordered.values, ends - window + 1, np.full(len(ends), window))
    values = pa.array(targets[:, 0]) if targets.shape[1] == 1 else pa.FixedShapeTensorArray.from_numpy_ndarray(targets)
    return pa.table({SEQUENCE: sequence, target: values})
