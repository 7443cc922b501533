"""The step between rows, and the steps that are absent: found, filled with missing values, or refused."""

from datetime import datetime, timedelta

import numpy as np
import pyarrow as pa
import pytest
from msgspec.structs import replace

from dle_bundle.errors import InputError
from dle_bundle.schema import Outputs, Schema, SeriesLayout, TimeStep
from dle_bundle.tables import forecast_tables, long_tables, time_steps
from dle_bundle.tables.long_tables import Ordered
from dle_bundle.values.missing import NA_VALUES

BARE = SeriesLayout(channels=("load",), time="t", window=4)
BEGIN = datetime(2024, 1, 1)


def ordered(times: list[datetime] | list[float], layout: SeriesLayout = BARE) -> Ordered:
    return long_tables.order(pa.table({"t": times, "load": np.arange(len(times), dtype=float)}), layout, NA_VALUES)


def step_of(times: list[datetime] | list[float]) -> TimeStep | None:
    found = ordered(times)
    return time_steps.find(found.times, found.continued, dated=found.dated)


def filled(times: list[datetime] | list[float], window: int = 4) -> Ordered:
    layout = SeriesLayout(channels=("load",), time="t", window=window, step=step_of(times))
    return long_tables.completed(ordered(times, layout), layout)


def hours(*counts: float) -> list[datetime]:
    return [BEGIN + timedelta(hours=count) for count in counts]


def test_the_step_of_most_rows() -> None:
    assert step_of(hours(0, 1, 2, 5, 6, 7)) == TimeStep(size=3600, unit="second")
    assert step_of([0.25, 0.5, 0.75, 1.5]) == TimeStep(size=0.25, unit="number")
    assert step_of([datetime(2024, month, 1) for month in (1, 2, 3, 6, 7)]) == TimeStep(size=1, unit="month")
    ends = [datetime(2024, 1, 31), datetime(2024, 2, 29), datetime(2024, 3, 31), datetime(2024, 4, 30)]
    assert step_of(ends) == TimeStep(size=1, unit="month")
    assert step_of([1.0, 2.0, 7.0, 20.0, 21.0, 50.0]) is None
    assert step_of([5.0]) is None


def test_clocks_that_are_not_exact() -> None:
    times = [0.0, 1.02, 1.99, 3.01, 5.02, 6.0]
    assert filled(times).rows.tolist() == [0, 1, 2, 3, -1, 4, 5]


def test_absent_steps_are_rows_without_values() -> None:
    found = filled(hours(0, 1, 4, 5, 6))
    assert found.rows.tolist() == [0, 1, -1, -1, 2, 3, 4]
    assert found.absent == 2
    assert np.isnan(found.values[:, 0]).tolist() == [False, False, True, True, False, False, False]
    assert (np.diff(found.times) == 3_600e6).all()


def test_a_long_gap_is_as_long_as_a_window_and_its_horizon() -> None:
    found = filled(hours(0, 1, 2, 500, 501, 502))
    assert found.rows.tolist() == [0, 1, 2, -1, -1, -1, -1, -1, 3, 4, 5]
    assert found.absent == 497


def test_months_differ_in_length() -> None:
    months = [datetime(2024, month, 1) for month in (1, 2, 3, 4, 6, 7)]
    assert filled(months).rows.tolist() == [0, 1, 2, 3, -1, 4, 5]
    step = TimeStep(size=1, unit="month")
    last = np.datetime64("2024-01-31T06:00", "us").astype(np.int64).astype(float)
    then = time_steps.following(last, step, 3).astype(np.int64).astype("datetime64[us]")
    assert then.astype(str).tolist() == [
        "2024-02-29T06:00:00.000000",
        "2024-03-31T06:00:00.000000",
        "2024-04-30T06:00:00.000000",
    ]


def test_weekends_and_nights_are_no_gaps() -> None:
    days = [BEGIN + timedelta(days=day) for day in range(60) if day % 7 < 5 and day != 30]
    found = filled(days)
    assert found.absent == 1
    assert found.rows[22] == -1  # the days before number 30 are 4 weeks of 5 days and 2 days
    open_hours = [time for time in hours(*range(24 * 30)) if 9 <= time.hour < 17 and time.weekday() < 5]
    assert filled(open_hours).absent == 0
    step = step_of(open_hours)
    assert step is not None
    friday = np.datetime64("2024-01-05T16:00", "us").astype(np.int64).astype(float)
    then = time_steps.following(friday, step, 9).astype(np.int64).astype("datetime64[us]").astype("datetime64[h]")
    assert then.astype(str).tolist() == [*(f"2024-01-08T{hour:02}" for hour in range(9, 17)), "2024-01-09T09"]


def test_several_series() -> None:
    """The distance from one series to the next is no gap."""
    layout = SeriesLayout(
        channels=("load",), sequence_id="id", time="t", window=4, step=TimeStep(size=1, unit="number")
    )
    table = pa.table({"id": [*"aaabbb"], "t": [0, 1, 2, 90, 92, 93], "load": [0.0, 1, 2, 3, 4, 5]})
    found = long_tables.completed(long_tables.order(table, layout, NA_VALUES), layout)
    assert found.rows.tolist() == [0, 1, 2, 3, -1, 4, 5]
    assert (found.starts.tolist(), found.counts.tolist()) == ([0, 3], [3, 4])


def test_refused() -> None:
    layout = SeriesLayout(
        channels=("load",), time="t", window=4, step=TimeStep(size=3600, unit="second"), gaps="refuse"
    )
    with pytest.raises(InputError) as caught:
        long_tables.completed(ordered(hours(0, 1, 4, 5)), layout)
    assert "2 steps of 1 hour absent" in caught.value.message
    assert "data.gaps=missing" in caught.value.message
    assert caught.value.details == ("after 2024-01-01 01:00:00: 2 steps",)
    with pytest.raises(InputError, match=r"2 steps of 1 hour absent; add the rows\n"):  # for a trained model
        long_tables.completed(ordered(hours(0, 1, 4, 5)), layout, proposing=False)
    with pytest.raises(InputError, match="expected dates, as in training, found numbers"):
        long_tables.completed(ordered([0.0, 1.0]), layout)


def test_the_last_window_keeps_the_step() -> None:
    """What dle-predict sees: the hour before the last one is missing, and not the one before it."""
    layout = SeriesLayout(channels=("load",), time="t", window=3, step=TimeStep(size=3600, unit="second"))
    table = pa.table({"t": hours(0, 1, 2, 4), "load": [0.0, 1, 2, 4]})
    schema = Schema(inputs=(), outputs=Outputs(target="load", task="regression"), layout=layout)
    (row,) = forecast_tables.rows(table, schema).table.to_pylist()
    with pytest.raises(InputError, match=r"absent; add the rows\n"):
        forecast_tables.rows(table, replace(schema, layout=replace(layout, gaps="refuse")))
    assert [value for (value,) in row["sequence"]] == [2.0, pytest.approx(np.nan, nan_ok=True), 4.0]


@pytest.mark.parametrize(
    ("size", "unit", "words"),
    [(900, "second", "15 minutes"), (86_400, "second", "1 day"), (3, "month", "3 months"), (12, "month", "1 year")],
)
def test_words(size: float, unit: str, words: str) -> None:
    assert time_steps.said(TimeStep(size=size, unit=unit)) == words  # type: ignore[arg-type]
