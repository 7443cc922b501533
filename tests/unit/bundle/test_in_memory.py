"""Rows that a Python program holds become tables and inputs, or an error that says what is wrong with them."""

from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any

import msgspec
import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from tests import bundles

from dle_bundle import in_memory
from dle_bundle.errors import InputError, RowFaults
from dle_bundle.groups import Groups
from dle_bundle.schema import Field, Outputs, Schema

FRAME = pd.DataFrame(
    {"age": [39.0, None], "town": ["A", None], "since": [pd.Timestamp("2020-01-01"), None]},
    index=pd.Index([7, 3], name="person"),
)


def test_a_frame_is_a_table_without_its_index() -> None:
    found = in_memory.table(FRAME)
    assert found.column_names == ["age", "town", "since"]
    assert found.to_pylist() == [
        {"age": 39.0, "town": "A", "since": datetime(2020, 1, 1)},
        {"age": None, "town": None, "since": None},
    ]
    assert in_memory.table(FRAME.reset_index()).column_names == ["person", "age", "town", "since"]
    assert in_memory.table(FRAME.reset_index(drop=True)[::-1]).column_names == ["age", "town", "since"]


def test_dicts_are_a_table_of_all_their_keys() -> None:
    found = in_memory.table([{"a": 1, "b": "x"}, {"a": float("nan"), "c": True}])
    assert found.to_pydict() == {"a": [1.0, None], "b": ["x", None], "c": [None, True]}


def test_anything_that_streams_arrow_is_a_table() -> None:
    class Other:
        def __arrow_c_stream__(self, requested_schema: object | None = None) -> object:
            return pa.table({"a": [1]}).__arrow_c_stream__(requested_schema)

    assert in_memory.table(Other()).to_pydict() == {"a": [1]}


def test_views_and_dictionaries_of_dates_are_plain_columns() -> None:
    rows = pa.table(
        {"a": pa.array(["x", None], pa.string_view()), "b": pa.array([date(2024, 1, 31)] * 2).dictionary_encode()}
    )
    found = in_memory.table(rows)
    assert found.schema.types == [pa.large_string(), pa.date32()]
    assert found.to_pylist() == [{"a": "x", "b": date(2024, 1, 31)}, {"a": None, "b": date(2024, 1, 31)}]


def test_decimals_are_rounded_as_in_a_request() -> None:
    schema = Schema(
        inputs=(Field(name="a", kind="numeric", required=True),), outputs=Outputs(target="y", task="regression")
    )
    amounts = [Decimal(f"{value / 1000:.3f}") for value in range(1000)]
    from_table = groups(pa.table({"a": amounts}), schema)
    from_dicts = groups([{"a": amount} for amount in amounts], schema)
    assert from_table.numeric[:, 0].tolist() == from_dicts.numeric[:, 0].tolist() == [float(each) for each in amounts]


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        ({"a": [1]}, "expected a DataFrame, an Arrow table or a list of dicts, found a dict; pass [row]"),
        ("rows.csv", "list of dicts, found the text 'rows.csv'; read the file first"),
        ([1, 2], "list of dicts, found a list of numbers; name the columns"),
        (pa.table({"a": pa.array([], pa.int64())}), "Table: expected at least one row"),
        ([], "list: expected at least one row and one column"),
        (pa.table([[1], [2]], names=["a", "a"]), "column name 'a' occurs 2 times"),
        (pd.DataFrame([[1, 2]], columns=["a", "a"]), "Duplicate column names"),
        (pd.DataFrame({"a": [1, "x"]}), "column a with type object"),
        ([{"a": 1}, {"a": None}, {"a": "x"}], "list: column 'a' holds numbers and texts; give it one type"),
        ([{"a": {}}, {"a": [1]}], "list: column 'a' holds objects and lists; give it one type"),
        ([{"a": 2**70}], "list: not readable as a table"),
        (pd.DataFrame({"a": pd.Series([2**70], dtype=object)}), "DataFrame: not readable as a table"),
    ],
)
def test_what_is_no_table_is_refused(rows: Any, said: str) -> None:
    with pytest.raises(InputError, match=r"^[^\n]") as caught:
        in_memory.table(rows)
    assert said in str(caught.value)


def test_values_of_python_and_numpy_mean_what_they_mean_in_a_request() -> None:
    row = {
        "age": np.float32(39),
        "workclass": "Private",
        "hours-per-week": Decimal("40.5"),
        "married": np.True_,
        "since": pd.Timestamp("2020-01-01T12:00:00Z"),
        "zone": np.int64(2),
        "income": "not an input",
    }
    other = {**row, "age": 39, "since": datetime(2020, 1, 1, 12, tzinfo=UTC), "hours-per-week": float("nan")}
    last = {**row, "since": date(2020, 1, 1), "workclass": None}
    missing = {"age": 1, "married": False, "since": pd.NaT}
    found = groups([row, other, last, missing], bundles.INCOME)
    assert found.numeric[:, 0].tolist() == [39, 39, 39, 1]
    assert str(found.numeric[:, 1].tolist()) == "[40.5, nan, 40.5, nan]"
    assert found.categorical.tolist() == [["Private", "2"], ["Private", "2"], ["", "2"], ["", ""]]
    noon = int(datetime(2020, 1, 1, 12, tzinfo=UTC).timestamp())
    assert found.datetime[:3, 0].tolist() == [noon, noon, noon - 12 * 3600]


def groups(rows: Any, schema: Schema) -> Groups:
    return in_memory.read(rows, schema)[0]


@pytest.mark.parametrize("kind", [list, pa.Table.from_pylist, pd.DataFrame])
def test_every_fault_is_named_with_its_row_from_0(kind: Any) -> None:
    rows = [{"age": 1.0, "married": True}, {"age": float("inf"), "married": None}, {"age": None, "married": False}]
    with pytest.raises(RowFaults) as caught:
        groups(kind(rows), bundles.INCOME)
    found = [(fault.row, fault.field, fault.code) for fault in caught.value.faults]
    assert found == [(1, "age", "non_finite"), (1, "married", "missing"), (2, "age", "missing")]


def test_missing_columns_are_named() -> None:
    with pytest.raises(RowFaults, match=r"^'married': a required column is missing$"):
        groups(pa.table({"age": [1]}), bundles.INCOME)
    with pytest.raises(RowFaults, match=r"^'married': a required column is missing \(did you mean 'Maried'\?\)$"):
        groups(pa.table({"age": [1], "Maried": [True]}), bundles.INCOME)


def test_images_and_series_of_dicts() -> None:
    picture = np.full((3, 12, 16), 9, dtype=np.uint8)
    for content in (bundles.png(picture), bundles.base64_png(picture)):
        np.testing.assert_array_equal(groups([{"photo": content}], bundles.PICTURE).image, picture[None])
    steps = np.arange(12.0).reshape(6, 2)
    for series in (steps, steps.tolist()):
        found = groups([{"signal": series}], bundles.SIGNAL)
        np.testing.assert_array_equal(found.sequence, steps[None])


@pytest.mark.parametrize("kind", [list, pa.Table.from_pylist, pd.DataFrame])
def test_long_rows_become_series(kind: Any) -> None:
    rows = [{"meter": meter, "hour": hour, "load": 10.0 * hour} for hour in range(6) for meter in "ab"]
    found = groups(kind(rows), bundles.FORECAST)
    np.testing.assert_array_equal(found.sequence, np.tile([[20.0], [30.0], [40.0], [50.0]], (2, 1, 1)))
    ready = groups([{"sequence": [20.0, 30.0, 40.0, 50.0]}] * 2, bundles.FORECAST)
    np.testing.assert_array_equal(found.sequence, ready.sequence)


def test_a_schema_of_odd_names() -> None:
    fields = tuple(msgspec.structs.replace(field, name=f'"{field.name}"\n') for field in bundles.PRICE.inputs)
    schema = Schema(inputs=fields, outputs=bundles.PRICE.outputs)
    found = groups([{'"rooms"\n': 3, '"town"\n': "A"}], schema)
    assert found.numeric.tolist() == [[3.0]]


def test_faults_of_a_long_table_name_its_rows_and_columns() -> None:
    days = [f"2024-02-{day:02}" for day in range(1, 8)]
    rows = pa.table(
        {
            "shop": ["x"] * 7,
            "day": days,
            "sales": [1.0, 2, 3, 4, None, None, None],
            "promo": [0, 1, 0, 1, 0, None, 1],
            "sky": ["grey"] * 7,
            "town": ["A"] * 7,
        }
    )
    with pytest.raises(RowFaults) as caught:
        in_memory.read(rows, bundles.PROMOTION)
    assert [(fault.row, fault.field, fault.code) for fault in caught.value.faults] == [(5, "promo", "missing")]
