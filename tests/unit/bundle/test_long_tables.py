"""Long tables: rows below one another become series, in order, or everything that is wrong with them is said."""

from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dle_bundle.errors import InputError
from dle_bundle.schema import SeriesLayout
from dle_bundle.tables import long_tables
from dle_bundle.values.missing import NA_VALUES
from dle_bundle.values.numbers import NumberFormat

LAYOUT = SeriesLayout(channels=("temp", "load"), sequence_id="unit", time="t")


def text(**columns: list[str]) -> pa.Table:
    """A table as a text file gives it."""
    return pa.table({name: pa.array(values, pa.large_string()) for name, values in columns.items()})


def gather(table: pa.Table, layout: SeriesLayout = LAYOUT) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = long_tables.gather(table, layout, NA_VALUES).to_pylist()
    return [{name: plain(value) for name, value in row.items()} for row in rows]


def plain(value: Any) -> Any:
    """NaN as None."""
    return [plain(each) for each in value] if isinstance(value, list) else None if value != value else value


def refusal(table: pa.Table, layout: SeriesLayout = LAYOUT) -> tuple[str, ...]:
    with pytest.raises(InputError) as caught:
        long_tables.gather(table, layout, NA_VALUES)
    return (caught.value.message, *caught.value.details)


def test_a_row_for_each_series() -> None:
    table = text(
        unit=["b", "a", " b", "a", "b"],
        t=["10", "2", "9", "1", "8"],
        temp=["3", "20", "2", "10", "1"],
        load=["0.3", "0.2", "NA", "0.1", ""],
        site=["x", "y", "x", "y", "x"],
    )
    assert gather(table) == [
        {"unit": "b", "t": "8", "site": "x", "sequence": [[1, None], [2, None], [3, pytest.approx(0.3)]]},
        {"unit": "a", "t": "1", "site": "y", "sequence": [[10, pytest.approx(0.1)], [20, pytest.approx(0.2)]]},
    ]


def test_amounts() -> None:
    table = text(unit=["a"] * 3, t=["1", "2", "3"], temp=["$1,234.50", "NA", "($2)"], load=["1", "2", "3"])
    formats = {"temp": NumberFormat(thousands=",", unit="$", negative="(3)")}
    layout = SeriesLayout(channels=("temp", "load"), sequence_id="unit", time="t", number_formats=formats)
    assert gather(table, layout)[0]["sequence"] == [[1234.5, 1], [None, 2], [-2, 3]]
    assert "'temp': expected a number, found '$1,234.50' in 2 rows: row 1, row 3" in refusal(table)


def test_one_series_and_no_times() -> None:
    """Without an id the table is one series, without a time the order is that of the rows."""
    assert gather(text(temp=["2", "1"]), SeriesLayout(channels=("temp",))) == [{"sequence": [[2], [1]]}]


@pytest.mark.parametrize(
    "times",
    [
        ["2020-01-01 00:00:01.5", "2020-01-01T00:00:01.25", "2019-12-31"],
        ["2020-01-01T00:00:01+00:00", "2020-01-01T01:00:00+01:00", "2020-01-01T01:00:00+02:00"],
        [datetime(2020, 1, 1, 0, 0, 0, micro, tzinfo=UTC) for micro in (3, 2, 1)],
        ["1e2", "99.5", "-1"],
        [3, 2, 1],
        [0.3, 0.2, 0.1],
    ],
)
def test_times(times: list[Any]) -> None:
    table = pa.table({"t": times, "temp": [3, 2, 1]})
    (row,) = gather(table, SeriesLayout(channels=("temp",), time="t"))
    assert row["sequence"] == [[1], [2], [3]]


def test_types_and_text_agree() -> None:
    moments = [datetime(2020, 1, 1, tzinfo=UTC) + timedelta(hours=7 * step % 5) for step in range(5)]
    typed = pa.table({"unit": [1, 2, 1, 2, 1], "t": moments, "temp": [0.1, 2, 1e39, None, -4], "load": [1, 2, 3, 4, 5]})
    texts = text(
        unit=["1", "2", "1", "2", "1"],
        t=[moment.isoformat() for moment in moments],
        temp=["0.1", "2", "1e39", "", "-4"],
        load=["1", "2", "3", "4", "5"],
    )
    found = [long_tables.gather(table, LAYOUT, NA_VALUES).column("sequence") for table in (typed, texts)]
    steps = [np.asarray(column.combine_chunks().flatten().flatten()) for column in found]
    assert steps[0].tobytes() == steps[1].tobytes()
    assert np.isfinite(steps[0]).sum() == 9


def test_all_faults_at_once() -> None:
    table = text(
        unit=["a", "", "a", "a", "NA", "b", "b"],
        t=["1", "1", "noon", "1", "inf", "", "2"],
        temp=["1", "hot", "2", "inf", "3", "cold", "5"],
        load=["1"] * 7,
    )
    assert refusal(table) == (
        "The rows do not form series",
        "'unit': no id in 2 rows: row 2, row 5",
        "'t': expected a number or an ISO 8601 date or date-time, found 'noon' in 2 rows: row 3, row 5",
        "'t': no time in 1 row: row 6",
        "'temp': expected a number, found 'hot' in 2 rows: row 2, row 6",
        "'temp': expected a finite number, found 'inf' in 1 row: row 4",
        "'t': 1 row repeats a time of an earlier row of the same 'unit': row 4",
    )


def test_many_faults_are_counted() -> None:
    rows = [str(row) for row in range(30)]
    table = text(unit=["a"] * 30, t=rows, temp=["?!"] * 30, load=rows)
    first = ", ".join(f"row {row}" for row in range(1, 11))
    assert refusal(table)[1] == f"'temp': expected a number, found '?!' in 30 rows: {first}, …"


def test_the_same_time_in_two_series_is_fine() -> None:
    table = text(unit=["a", "b"], t=["1", "1"], temp=["1", "2"], load=["3", "4"])
    assert [row["sequence"] for row in gather(table)] == [[[1, 3]], [[2, 4]]]


def test_absent_columns() -> None:
    assert refusal(text(units=["a"], t=["1"], temp=["1"])) == (
        "Columns of the series are missing",
        "'unit' (did you mean 'units'?)",
        "'load'",
    )


def test_columns_called_sequence() -> None:
    table = text(sequence=["a", "a"], t=["2", "1"], temp=["2", "1"])
    assert gather(table, SeriesLayout(channels=("temp",), sequence_id="sequence", time="t")) == [
        {"t": "1", "sequence": [[1], [2]]}
    ]
    channel = text(unit=["a", "a"], sequence=["2", "1"])
    assert gather(channel, SeriesLayout(channels=("sequence",), sequence_id="unit")) == [
        {"unit": "a", "sequence": [[2], [1]]}
    ]
    assert "rename" in refusal(table, SeriesLayout(channels=("temp",), time="t"))[0]


def test_what_is_constant() -> None:
    table = pa.table(
        {
            "unit": [1, 2, 1, 2],
            "site": ["x", "y", "x", "y"],
            "none": [None, "y", None, "y"],
            "temp": [1.0, 2.0, 1.5, 2.0],
            "gap": [1.0, 2.0, None, 2.0],
            "lists": [[1], [2], [1], [2]],
        }
    )
    ordered = long_tables.order(table, SeriesLayout(channels=(), sequence_id="unit"), NA_VALUES)
    found = {name for name in table.column_names if long_tables.constant(ordered, name)}
    assert found == {"unit", "site", "none"}


@given(st.permutations(range(12)), st.lists(st.integers(0, 3), min_size=12, max_size=12))
def test_the_order_of_rows_does_not_matter(shuffled: list[int], units: list[int]) -> None:
    table = pa.table({"unit": units, "t": range(12), "temp": [float(row) for row in range(12)], "load": [0] * 12})
    expected = {row["unit"]: row["sequence"] for row in gather(table)}
    found = gather(table.take(pa.array(shuffled)))
    assert {row["unit"]: row["sequence"] for row in found} == expected
    assert [row["unit"] for row in found] == list(dict.fromkeys(units[row] for row in shuffled))
    for unit, steps in expected.items():
        assert [step[0] for step in steps] == [row for row in range(12) if units[row] == unit]


def test_several_series_without_an_id_name_the_setting() -> None:
    table = text(t=["1", "2", "1", "2"], temp=["1", "2", "3", "4"])
    assert refusal(table, SeriesLayout(channels=("temp",), time="t"))[1:] == (
        "'t': 2 rows repeat a time of an earlier row: row 3, row 4",
        "if the table holds several series, name the column of their ids: set data.sequence_id=COLUMN",
    )
