"""Windows of a forecast: what each sees and predicts, and that nothing of later parts reaches an earlier one."""

from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from msgspec.structs import replace

from dle_bundle.errors import InputError
from dle_bundle.schema import SeriesLayout, TimeStep
from dle_bundle.values.missing import NA_VALUES
from dle_training.config.run_config import SplitConfig
from dle_training.data.series import windows
from dle_training.data.series.windows import Windows
from dle_training.data.splits.split import PARTS

SPLIT = SplitConfig()


def layout(window: int, *channels: str, sequence_id: str | None = None) -> SeriesLayout:
    return SeriesLayout(channels=channels or ("load",), sequence_id=sequence_id, time="t", window=window)


def one_series(steps: int) -> pa.Table:
    return pa.table({"t": range(steps), "load": [float(step) for step in range(steps)]})


def make(table: pa.Table, shape: SeriesLayout, horizon: int, split: SplitConfig = SPLIT) -> Windows:
    return windows.make(table, shape, "load", horizon, split, NA_VALUES)


def seen(table: pa.Table) -> npt.NDArray[Any]:
    """The windows (W, window, channels)."""
    lists = table.column("sequence").combine_chunks()
    channels = lists.type.value_type.list_size
    flat: npt.NDArray[Any] = np.asarray(lists.flatten().flatten())
    return flat.reshape(len(table), -1, channels)


def ahead(table: pa.Table) -> npt.NDArray[Any]:
    """The targets (W, horizon)."""
    column = table.column("load").combine_chunks()
    tensor = isinstance(column.type, pa.FixedShapeTensorType)
    values: npt.NDArray[Any] = column.to_numpy_ndarray() if tensor else np.asarray(column)[:, None]
    return values


def refusal(table: pa.Table, shape: SeriesLayout, horizon: int) -> tuple[str, ...]:
    with pytest.raises(InputError) as caught:
        make(table, shape, horizon)
    return (caught.value.message, *caught.value.details)


def test_one_step_ahead() -> None:
    made = make(one_series(30), layout(10), 1)
    assert seen(made.table)[:, :, 0].tolist() == [list(range(start, start + 10)) for start in range(20)]
    assert made.table.column("load").to_pylist() == list(range(10, 30))
    assert made.table.column("split").to_pylist() == ["train"] * 14 + ["validation"] * 3 + ["test"] * 3
    assert made.notes == ("20 windows of 10 steps, split by t at 24 and 27: 14 train, 3 validation, 3 test",)
    assert made.blocks.in_time
    assert made.blocks.first.tolist() == made.blocks.last.tolist() == list(range(20))


def test_several_steps_ahead() -> None:
    """Of the 20 moments 14 train: targets that reach over 24 or 27 are in no part."""
    made = make(one_series(30), layout(10), 3)
    targets = ahead(made.table)
    assert targets.dtype == np.float64
    assert targets[:, 0].tolist() == [*range(10, 22), 24, 27]
    assert (made.blocks.first + 10).tolist() == targets[:, 0].tolist()
    assert (made.blocks.last + 10).tolist() == targets[:, 2].tolist()
    assert (targets[:, 1:] == targets[:, :1] + [1, 2]).all()
    assert (seen(made.table)[:, -1, 0] == targets[:, 0] - 1).all()
    assert made.table.column("split").to_pylist() == ["train"] * 12 + ["validation", "test"]


def test_the_moments_are_the_same_for_all_series() -> None:
    """A series that ends early has no part in the test, and equal times are never on two sides."""
    steps = {"a": range(40), "b": range(20), "c": range(5)}
    table = pa.table(
        {
            "id": [name for name, times in steps.items() for _ in times],
            "t": [time for times in steps.values() for time in times],
            "load": [float(time) for times in steps.values() for time in times],
        }
    )
    made = make(table, layout(6, sequence_id="id"), 1)
    part = made.table.column("split").to_numpy()
    times = ahead(made.table)[:, 0]
    assert all(len(set(part[times == time])) == 1 for time in times)
    assert len(part) == 34 + 14


def test_gaps() -> None:
    """What is seen may be missing, and some of what is to be predicted, but not all of it."""
    table = one_series(30).set_column(
        1, "load", pa.array([None if step in (3, 12, 13) else step for step in range(30)])
    )
    made = make(table, layout(10), 2)
    targets = ahead(made.table)
    assert np.isnan(seen(made.table)[0, 3, 0])
    assert targets[:3, 0].tolist()[:2] == [10, 11]
    assert np.isnan(targets).sum(axis=1).max() == 1
    assert (np.isnan(targets[1, 1]), targets[2, 1]) == (True, 14)
    assert made.notes[1:] == (
        "in 2 windows some values of load to predict are missing; they count neither in training nor in scores",
        "left out: 1 window without any value of load to predict",
    )


def test_absent_rows_are_as_blank_ones() -> None:
    """Rows that are not there give the windows that the same rows without values give."""
    shape = replace(layout(6), step=TimeStep(size=1, unit="number"))
    lost = [step for step in range(60) if step % 11 == 3]
    table = one_series(60)
    blank = table.set_column(1, "load", pa.array([None if step in lost else step for step in range(60)]))
    absent = table.filter(pa.array([step not in lost for step in range(60)]))
    expected, found = make(blank, shape, 2), make(absent, shape, 2)
    assert np.array_equal(seen(found.table), seen(expected.table), equal_nan=True)
    assert np.array_equal(ahead(found.table), ahead(expected.table), equal_nan=True)
    assert found.table.column("split").to_pylist() == expected.table.column("split").to_pylist()
    assert "t: 6 steps of 1 absent from the table, whose values are missing; set data.gaps=refuse to refuse them" in (
        found.notes
    )


def test_windows_that_see_nothing() -> None:
    table = one_series(40).filter(pa.array([step < 10 or step > 18 for step in range(40)]))
    made = make(table, replace(layout(4), step=TimeStep(size=1, unit="number")), 1)
    assert np.isfinite(seen(made.table)).any(axis=(1, 2)).all()
    assert "left out: 1 window without any value among their steps" in made.notes


def test_a_gap_longer_than_a_window() -> None:
    """The values to predict are those of the steps after the window, however long the gap between the rows is."""
    table = one_series(90).filter(pa.array([step < 30 or step >= 60 for step in range(90)]))
    made = make(table, replace(layout(5), step=TimeStep(size=1, unit="number")), 3)
    steps, targets = seen(made.table)[:, :, 0], ahead(made.table)
    last = np.nanmax(steps - np.arange(5) + 4, axis=1)  # the time of the last step, by any known one
    expected = last[:, None] + np.arange(1, 4)
    assert np.array_equal(np.where(np.isnan(targets), expected, targets), expected)


def test_all_windows_without_a_split() -> None:
    table, _ = windows.all_of(one_series(30), layout(10), "load", 3, NA_VALUES, None)
    assert table.column_names == ["sequence", "load"]
    assert ahead(table)[:, 0].tolist() == list(range(10, 28))


def test_too_many_windows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(windows, "MOST_WINDOWS", 30)
    made = make(one_series(100), layout(10), 1)
    assert ahead(made.table)[:, 0].tolist() == list(range(10, 100, 3))
    assert made.notes[-1] == "one window in 3 is used, so that there are at most 30"
    monkeypatch.setattr(windows, "MOST_NUMBERS", 200)
    assert len(make(one_series(100), layout(10), 1).table) == 18


def test_too_short() -> None:
    assert refusal(one_series(12), layout(10), 3) == (
        "no series has 13 steps, which data.window=10 and data.horizon=3 need; the longest has 12",
    )
    assert refusal(one_series(18), layout(10), 3) == (
        (
            "train: no window; with data.window=10 and data.horizon=3 at least 19 steps with a known target are "
            "needed, and 18 found"
        ),
        "train: 2 times to forecast, 0 windows",
        "validation: 3 times to forecast, 1 window",
        "test: 3 times to forecast, 1 window",
    )
    assert len(make(one_series(19), layout(10), 3).table) == 3


def test_nothing_to_predict() -> None:
    table = one_series(30).set_column(1, "load", pa.nulls(30, pa.float64()))
    assert refusal(table, layout(10), 1) == ("'load': the target has no value in any row",)
    with pytest.raises(InputError, match="no window has a value that is to be predicted"):
        windows.all_of(table, layout(10), "load", 2, NA_VALUES, None)


def test_training_windows_that_never_see_the_target() -> None:
    """Another channel is all that they see; the linear model then knows no level."""
    load = [float(step) if step == 10 or step > 25 else None for step in range(40)]
    table = pa.table({"t": range(40), "load": load, "temp": [float(step) for step in range(40)]})
    made = make(table, layout(1, "load", "temp"), 3, SplitConfig(validation=0.2, test=0.2))
    scored = made.table.column("split").to_numpy() == "test"
    assert np.isfinite(made.baselines.linear[scored]).all()


def test_targets_that_cannot_be() -> None:
    table = pa.table({"t": range(30), "temp": [1.0] * 30, "load": ["a"] * 30})
    assert refusal(table, layout(10, "temp"), 1) == ("'load': a forecast needs a target of numbers",)
    for name in ("sequence", "split"):
        with pytest.raises(InputError, match="rename the column"):
            windows.make(one_series(30), layout(10, name), name, 1, SPLIT, NA_VALUES)


def test_rows_that_make_no_series() -> None:
    table = pa.table({"t": [0, 1, 1, 2], "load": [1.0, 2.0, 3.0, 4.0]})
    assert refusal(table, layout(1), 1)[1:] == (
        "'t': 1 row repeats a time of an earlier row: row 3",
        "if the table holds several series, name the column of their ids: set data.sequence_id=COLUMN",
    )


@st.composite
def tables(draw: st.DrawFn) -> tuple[pa.Table, int, int, SplitConfig]:
    """Several series of irregular times in any order of rows; `load` is 1,000 · the row's number, with gaps."""
    window, horizon = draw(st.integers(1, 4)), draw(st.integers(1, 3))
    rows = [
        (unit, time)
        for unit in range(draw(st.integers(1, 3)))
        for time in draw(st.lists(st.integers(0, 60), unique=True, min_size=12, max_size=40))
    ]
    rows = draw(st.permutations(rows))
    load = [None if draw(st.integers(0, 19)) == 0 else 1_000.0 * row for row in range(len(rows))]
    table = pa.table(
        {"id": [unit for unit, _ in rows], "t": [time for _, time in rows], "load": pa.array(load, pa.float64())}
    ).append_column("row", pa.array(np.arange(len(rows)) + 0.0))
    validation, test = draw(st.sampled_from([(0.15, 0.15), (0.3, 0.1), (0.05, 0.5)]))
    return table, window, horizon, SplitConfig(validation=validation, test=test)


@given(tables())
def test_nothing_leaks(drawn: tuple[pa.Table, int, int, SplitConfig]) -> None:
    """Row by row, by the numbers of the rows that windows carry, against a plain enumeration of all windows."""
    table, window, horizon, split = drawn
    shape = layout(window, "load", "row", sequence_id="id")
    try:
        made = make(table, shape, horizon, split)
    except InputError:
        assume(False)
    id_of, time_of = table.column("id").to_pylist(), table.column("t").to_pylist()
    load_of = table.column("load").to_pylist()
    saw = seen(made.table)[:, :, 1].astype(int).tolist()
    expected = {tuple(inputs): targets for inputs, targets in _every_window(id_of, time_of, window, horizon)}
    predicted = [expected[tuple(inputs)] for inputs in saw]
    loads = [[np.nan if load_of[row] is None else load_of[row] for row in targets] for targets in predicted]
    assert np.array_equal(ahead(made.table), np.array(loads), equal_nan=True)
    part = made.table.column("split").to_pylist()

    times: dict[str, list[int]] = {name: [] for name in PARTS}
    for inputs, targets, name in zip(saw, predicted, part, strict=True):
        assert len({id_of[row] for row in inputs + targets}) == 1
        within = [time_of[row] for row in inputs + targets]
        assert within == sorted(set(within))
        times[name] += within[window:]
    assert max(times["train"]) < min(times["validation"]) <= max(times["validation"]) < min(times["test"])

    found = set(map(tuple, saw))
    assert len(found) == len(saw)
    # what is left out has no target, targets on both sides of a cut, or some beyond the last one of the series
    validating, testing = _cuts(made.notes[0])
    for inputs, targets in expected.items():
        known = any(load_of[row] is not None for row in targets)
        assert known or inputs not in found
        if known and inputs not in found:
            first, last = time_of[targets[0]], time_of[targets[-1]]
            ended = all(
                load is None
                for load, name, time in zip(load_of, id_of, time_of, strict=True)
                if name == id_of[targets[-1]] and time >= last
            )
            assert ended or first < validating <= last or first < testing <= last

    # whatever happens from the first validation target on, the training part is the same
    late = np.array(time_of) >= min(times["validation"])
    poisoned = [
        None if load is None else -1.0 if is_late else load for load, is_late in zip(load_of, late, strict=True)
    ]
    again = make(table.set_column(2, "load", pa.array(poisoned, pa.float64())), shape, horizon, split)
    for read in (seen, ahead):
        before, after = (read(each.table.filter(np.array(part) == "train")) for each in (made, again))
        assert before.tobytes() == after.tobytes()


def _every_window(id_of: list[int], time_of: list[int], window: int, horizon: int) -> list[tuple[list[int], list[int]]]:
    """The rows that each possible window sees and predicts."""
    pairs = []
    for unit in set(id_of):
        rows = sorted((row for row in range(len(id_of)) if id_of[row] == unit), key=time_of.__getitem__)
        for start in range(len(rows) - window - horizon + 1):
            middle = start + window
            pairs.append((rows[start:middle], rows[middle : middle + horizon]))
    return pairs


def _cuts(note: str) -> tuple[int, int]:
    """The moments that the note tells."""
    told = note.split(" at ")[1].split(":")[0]
    validating, testing = told.split(" and ")
    return int(validating), int(testing)
