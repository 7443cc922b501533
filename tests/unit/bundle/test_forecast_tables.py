"""What a forecast starts from in a long table, and the times of its steps."""

from datetime import UTC, date, datetime, timedelta
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from msgspec.structs import replace
from tests import bundles

from dle_bundle.errors import InputError
from dle_bundle.schema import Outputs, Schema, SeriesLayout, TimeStep
from dle_bundle.tables import columns, forecast_tables, prediction_columns, time_steps

DAY = TimeStep(size=86_400, unit="second")
FIRST = date(2024, 1, 29)


def shops(days: int = 8, **changes: list[Any]) -> pa.Table:
    """Two shops, their days backwards; the last three days have no sales yet, and their town is blank."""
    rows: list[dict[str, Any]] = []
    for day in range(days - 1, -1, -1):
        for place, shop in enumerate("xy"):
            future = day >= days - 3
            rows.append(
                {
                    "shop": shop,
                    "day": (FIRST + timedelta(days=day)).isoformat(),
                    "sales": "" if future else str(10 * day + place),
                    "promo": str(day % 2),
                    "sky": "hail" if day == 2 else ("grey", "clear")[day % 2],
                    "town": "" if future else "AB"[place],
                }
            )
    table = pa.Table.from_pylist(rows)
    for name, values in changes.items():
        table = table.set_column(table.column_names.index(name), name, pa.array(values))
    return table


def forecast(layout: SeriesLayout, horizon: int = 2) -> Schema:
    return Schema(inputs=(), outputs=Outputs(target="load", task="regression", horizon=horizon), layout=layout)


def plain(steps: int, **columns: list[Any]) -> pa.Table:
    return pa.table({**columns, "load": [float(step) for step in range(steps)]})


def refusal(table: pa.Table, schema: Schema = bundles.PROMOTION) -> tuple[str, ...]:
    with pytest.raises(InputError) as caught:
        forecast_tables.rows(table, schema)
    return (caught.value.message, *caught.value.details)


def test_the_last_window_and_what_is_known_after_it() -> None:
    found = forecast_tables.rows(shops(), bundles.PROMOTION).table.to_pylist()
    assert [row["shop"] for row in found] == ["x", "y"]
    assert [row["town"] for row in found] == ["A", "B"]
    # sales, promo, sky=clear, sky=grey; hail did not occur in training
    assert found[0]["sequence"] == [[10, 1, 1, 0], [20, 0, 0, 0], [30, 1, 1, 0], [40, 0, 0, 1]]
    assert found[1]["known"] == [[1, 1, 0], [0, 0, 1], [1, 1, 0]]
    assert found[0]["day"] == ["2024-02-03", "2024-02-04", "2024-02-05"]


def test_rows_beyond_the_horizon_change_nothing() -> None:
    sales = [None if row < 12 else value for row, value in enumerate(shops(11).column("sales").to_pylist())]
    found = forecast_tables.rows(shops(11, sales=sales), bundles.PROMOTION).table.to_pylist()
    assert found[0]["day"] == ["2024-02-03", "2024-02-04", "2024-02-05"]


def test_columns_of_a_request_agree_with_those_of_a_file() -> None:
    """Rows that are arranged already are not changed, and give the same arrays."""
    arranged = forecast_tables.rows(shops(), bundles.PROMOTION).table
    groups, faults = columns.to_groups(arranged, bundles.PROMOTION)
    assert not faults
    assert groups.known is not None
    assert groups.known.shape == (2, 3, 3)
    assert forecast_tables.rows(arranged, bundles.PROMOTION).table is arranged


def test_a_horizon_that_is_missing_or_short() -> None:
    without = shops().filter(pa.array([row >= 6 for row in range(16)]))
    expected = (
        "promo, sky: a forecast needs the known values of the 3 steps after the last value of 'sales'; add these rows "
        "to the table with 'sales' left blank"
    )
    assert refusal(without) == (expected, "'x': 0 rows after 2024-02-02", "'y': 0 rows after 2024-02-02")
    short = shops().filter(pa.array([row != 1 for row in range(16)]))  # the last day of y
    assert refusal(short) == (expected, "'y': 2 rows after 2024-02-02")


def test_values_that_are_missing_in_the_horizon() -> None:
    promo = [None if row == 2 else value for row, value in enumerate(shops().column("promo").to_pylist())]
    for table in (shops(promo=promo), shops().filter(pa.array([row != 2 for row in range(16)]))):
        _, faults = columns.to_groups(forecast_tables.rows(table, bundles.PROMOTION).table, bundles.PROMOTION)
        assert [(fault.row, fault.field, fault.code) for fault in faults] == [(1, "known", "missing")]
        assert faults[0].message.startswith("a value is required: promo at step 1")


def located(table: pa.Table, first: int = 1) -> list[tuple[Any, ...]]:
    found = forecast_tables.rows(table, bundles.PROMOTION)
    _, faults = columns.to_groups(found.table, bundles.PROMOTION, first)
    places = [place for fault in faults for place in found.located(fault, bundles.PROMOTION, first)]
    return [(place.row, place.field, place.code, place.message) for place in places]


def test_faults_of_series_name_rows_and_columns_of_the_table() -> None:
    promo = [None if row in (2, 5) else value for row, value in enumerate(shops().column("promo").to_pylist())]
    sky = [None if row == 5 else value for row, value in enumerate(shops().column("sky").to_pylist())]
    required = ("missing", "a value is required for a step of the forecast")
    expected = [(3, "promo", *required), (6, "promo", *required), (6, "sky", *required)]
    assert located(shops(promo=promo, sky=sky)) == expected
    assert located(shops(promo=promo, sky=sky), first=0) == [(row - 1, *rest) for row, *rest in expected]
    # the row of x's second day to come is absent; the day before it is in row 5, which is the fourth one then
    absent = shops().filter(pa.array([row != 2 for row in range(16)]))
    assert located(absent) == [(4, "day", "missing", "a row with the known values of the next step is missing")]
    town = [None if row % 2 else "A" for row in range(16)]
    assert located(shops(town=town)) == [(16, "town", "missing", "a value is required")]


def test_columns_that_are_kept() -> None:
    note = [str(row) for row in range(16)]
    table = shops().append_column("note", pa.array(note)).append_column("size", pa.array(["S", "L"] * 8))
    found = forecast_tables.rows(table, bundles.PROMOTION, ("note", "promo", "town")).table
    values = {f"value_{step}": pa.array([0.1 * step, step]) for step in (1, 2, 3)}
    long = prediction_columns.table(values, found, bundles.PROMOTION, ("shop", "note", "promo", "town"))
    assert long.column_names == ["shop", "note", "promo", "town", "day", "value"]
    assert long.column("note").to_pylist() == ["4", "2", "0", "5", "3", "1"]
    assert long.column("promo").to_pylist() == ["1", "0", "1"] * 2
    assert long.column("town").to_pylist() == [*"AAABBB"]
    absent = table.filter(pa.array([row != 2 for row in range(16)]))
    kept = forecast_tables.rows(absent, bundles.PROMOTION, ("note",)).table.column("note").to_pylist()
    assert kept == [["4", None, "0"], ["5", "3", "1"]]


def test_an_id_and_a_time_that_are_called_like_a_prediction() -> None:
    assert bundles.PROMOTION.layout is not None
    layout = replace(bundles.PROMOTION.layout, sequence_id="value_1", time="value")
    schema = replace(bundles.PROMOTION, layout=layout)
    table = shops().rename_columns({"shop": "value_1", "day": "value"})
    found = forecast_tables.rows(table, schema).table
    values = {f"value_{step}": pa.array([0.1 * step, step]) for step in (1, 2, 3)}
    long = prediction_columns.table(values, found, schema)
    assert long.column_names == ["series", "time", "value"]
    assert long.column("series").to_pylist() == [*"xxxyyy"]
    beside = forecast_tables.rows(table.append_column("time", pa.array(["now"] * 16)), schema, ("time",)).table
    kept = prediction_columns.table(values, beside, schema, ("time",))
    assert kept.column_names == ["time", "time_", "value"]
    assert kept.column("time").to_pylist() == ["now"] * 6
    assert long.column("value").to_pylist() == pytest.approx([0.1, 0.2, 0.3, 1, 2, 3])


def test_a_forecast_without_known_columns_keeps_one_value_for_each_series() -> None:
    layout = SeriesLayout(
        channels=("load",), sequence_id="id", time="t", window=2, step=TimeStep(size=1, unit="number")
    )
    table = pa.table(
        {"id": [*"aabb"], "t": [1, 2, 1, 2], "load": [1.0, 2, 3, 4], "place": [*"NNSS"], "note": [*"wxyz"]}
    )
    schema = forecast(layout)
    assert forecast_tables.rows(table, schema, ("place",)).table.column("place").to_pylist() == ["N", "S"]
    for name in ("note", "load"):
        with pytest.raises(InputError, match=rf"--keep {name}: several values in a series.*kept: id, t, place$"):
            forecast_tables.rows(table, schema, ("place", name))


def test_a_static_column_has_one_value() -> None:
    town = ["B" if row == 15 else "A" if row > 9 and row % 2 == 0 else "B" if row == 10 else None for row in range(16)]
    assert forecast_tables.rows(shops(town=town), bundles.PROMOTION).table.column("town").to_pylist() == ["A", "B"]
    town[12] = "C"
    assert refusal(shops(town=town)) == (
        "A static column (data.static) has one value for each series, but these have more",
        "'town': 'A' and 'C' in 'x'",
    )


def test_absent_columns_and_short_series() -> None:
    absent = refusal(shops().drop_columns(["promo", "town"]))
    assert absent == ("Columns of the series are missing", "'promo'", "'town'")
    assert refusal(shops(6)) == (
        "a forecast needs 4 steps, but 2 series have fewer",
        "'x': 3 steps",
        "'y': 3 steps",
    )
    nothing = shops(sales=[None] * 16)
    assert refusal(nothing)[1:] == ("'x': 0 steps", "'y': 0 steps")
    assert "'known' is reserved" in refusal(shops().append_column("known", shops().column("town")))[0]


@pytest.mark.parametrize(
    ("times", "step", "time_format", "expected"),
    [
        (["2024-02-28", "2024-02-29"], DAY, None, ["2024-03-01", "2024-03-02"]),
        (["2024-02-28 06:00", "2024-02-29 06:00"], DAY, None, ["2024-03-01 06:00", "2024-03-02 06:00"]),
        (["2024-02-28T00:00:00", "2024-02-29T00:00:00"], DAY, None, ["2024-03-01T00:00:00", "2024-03-02T00:00:00"]),
        (["28.02.2024", "29.02.2024"], DAY, "%d.%m.%Y", ["01.03.2024", "02.03.2024"]),
        (
            ["2024-02-28T01:00:00+01:00", "2024-02-29T01:00:00+01:00"],
            DAY,
            None,
            ["2024-03-01T00:00:00Z", "2024-03-02T00:00:00Z"],
        ),
        (["2024-01", "2024-02"], TimeStep(size=1, unit="month"), "%Y-%m", ["2024-03", "2024-04"]),
        (
            ["2024-01-01", "2024-01-02"],
            TimeStep(size=43_200, unit="second"),
            None,
            ["2024-01-02T12:00:00Z", "2024-01-03T00:00:00Z"],
        ),
        ([date(2024, 2, 28), date(2024, 2, 29)], DAY, None, [date(2024, 3, 1), date(2024, 3, 2)]),
        (
            [datetime(2024, 2, 28, 6, tzinfo=UTC), datetime(2024, 2, 29, 6, tzinfo=UTC)],
            DAY,
            None,
            [datetime(2024, 3, 1, 6, tzinfo=UTC), datetime(2024, 3, 2, 6, tzinfo=UTC)],
        ),
        ([7, 9], TimeStep(size=2, unit="number"), None, [11, 13]),
        (["0.5", "1.0"], TimeStep(size=0.5, unit="number"), None, [1.5, 2.0]),
        (["2024-01-01", "2024-02-29"], None, None, [None, None]),
    ],
)
def test_times_are_written_as_the_table_writes_them(
    times: list[Any], step: TimeStep | None, time_format: str | None, expected: list[Any]
) -> None:
    layout = SeriesLayout(channels=("load",), time="t", time_format=time_format, window=2, step=step)
    schema = forecast(layout)
    found = forecast_tables.rows(plain(2, t=times), schema).table
    assert forecast_tables.has_times(found, schema)
    assert found.column("t").to_pylist() == [expected]
    said = ("t: the rows of training had no regular step, so these times are not known",)
    assert forecast_tables.notes(found, schema) == (said if expected[0] is None else ())


def test_a_trained_model_proposes_no_settings() -> None:
    table = plain(6, t=[*range(6)])
    twice = pa.concat_tables([table, table])
    schema = forecast(SeriesLayout(channels=("load",), time="t", window=4))
    assert refusal(twice, schema)[-1] == (
        "if the table holds several series, give one of them at a time, because the model has no column of ids"
    )


def test_nights_and_weekends_are_no_steps() -> None:
    friday = [datetime(2024, 1, 5, hour, tzinfo=UTC) for hour in (15, 16)]
    step = TimeStep(size=3600, unit="second", weekdays=(0, 1, 2, 3, 4), slots=tuple(range(9, 17)))
    layout = SeriesLayout(channels=("load",), time="t", window=2, step=step)
    found = forecast_tables.rows(plain(2, t=friday), forecast(layout)).table
    assert found.column("t").to_pylist() == [[datetime(2024, 1, 8, hour, tzinfo=UTC) for hour in (9, 10)]]
    assert time_steps.said(step) == "1 hour"


def test_predictions_become_a_long_table() -> None:
    layout = SeriesLayout(channels=("load",), sequence_id="id", time="t", window=2, step=DAY)
    schema, table = forecast(layout), pa.table({"id": [*"aabb"], "t": [1, 2, 1, 3], "load": [1.0, 2, 3, 4]})
    schema = replace(schema, layout=replace(layout, step=TimeStep(size=1, unit="number")))
    rows = forecast_tables.rows(table, schema).table
    values = {"value_1": pa.array([0.1, 0.3]), "value_2": pa.array([0.2, 0.4])}
    found = prediction_columns.table(values, rows, schema, ("id",))
    assert found.to_pydict() == {"id": [*"aabb"], "t": [3, 4, 4, 5], "value": [0.1, 0.2, 0.3, 0.4]}
    assert np.asarray(found.column("value")).dtype == np.float64


def test_a_last_row_without_a_value_is_said() -> None:
    """Without known columns, a forecast begins after the last row, whatever it holds."""
    layout = SeriesLayout(channels=("load",), time="t", window=2, step=TimeStep(size=1, unit="number"))
    table = pa.table({"t": [1, 2, 3], "load": [1.0, 2.0, None]})
    found = forecast_tables.rows(table, forecast(layout)).table
    assert found.column("t").to_pylist() == [[4, 5]]
    (said,) = forecast_tables.notes(found, forecast(layout))
    assert said.startswith("load: some series have no value in their last row")
    assert (
        forecast_tables.notes(forecast_tables.rows(table.slice(0, 2), forecast(layout)).table, forecast(layout)) == ()
    )
    assert forecast_tables.notes(forecast_tables.rows(shops(), bundles.PROMOTION).table, bundles.PROMOTION) == ()
