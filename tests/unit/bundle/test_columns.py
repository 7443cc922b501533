"""Arrow tables: the same groups from text and from typed columns, faults by row."""

from datetime import UTC, date, datetime, timedelta, timezone

import numpy as np
import pyarrow as pa
import pytest

from dle_bundle.groups import MISSING_TIME
from dle_bundle.schema import Field, Kind, Outputs, Schema
from dle_bundle.tables.columns import distinct, to_groups


def schema(*fields: Field) -> Schema:
    return Schema(inputs=fields, outputs=Outputs(target="y", task="regression"))


def one(kind: Kind, *, required: bool = False) -> Schema:
    return schema(Field(name="a", kind=kind, required=required))


@pytest.mark.parametrize("parts", [[["a", None], ["b", "a", None]], [["a", "b"], ["b"]], [[None], [None]], [["a"]], []])
@pytest.mark.parametrize("encoded", [False, True])
def test_distinct_values_of_a_column_in_parts(parts: list[list[str | None]], encoded: bool) -> None:
    column = pa.chunked_array(parts, pa.large_string())
    values, positions = distinct(column.dictionary_encode() if encoded else column)
    assert [values[place] for place in positions] == [value for part in parts for value in part]
    assert len(set(values)) == len(values)


def test_distinct_values_of_a_column_without_values() -> None:
    values, positions = distinct(pa.chunked_array([pa.nulls(2), pa.nulls(1)]))
    assert [values[place] for place in positions] == [None] * 3


@pytest.mark.parametrize(
    "column",
    [
        pa.array(["1", " 2.5 ", "NA", "+3e0"]),
        pa.array([1, 2.5, None, 3]),
        pa.array([1, 2.5, np.nan, 3], pa.float32()),
        pa.array(["1", "2.5", None, "3"]).dictionary_encode(),
    ],
)
def test_numbers_from_any_type(column: pa.Array) -> None:
    groups, faults = to_groups(pa.table({"a": column}), one("numeric"))
    assert not faults
    np.testing.assert_array_equal(groups.numeric, np.array([[1], [2.5], [np.nan], [3]]))


@pytest.mark.parametrize(
    "column", [pa.array(["yes", "FALSE", ""]), pa.array([True, False, None]), pa.array([1, 0, None])]
)
def test_booleans_from_any_type(column: pa.Array) -> None:
    groups, faults = to_groups(pa.table({"a": column}), one("boolean"))
    assert not faults
    np.testing.assert_array_equal(groups.numeric, np.array([[1], [0], [np.nan]]))


@pytest.mark.parametrize(
    ("column", "texts"),
    [
        (pa.array([" x", None, "?", "y "]), ["x", "", "?", "y"]),
        (pa.array(["x", None, "y", "x"]).dictionary_encode(), ["x", "", "y", "x"]),
        (pa.array([3, None, 4]), ["3", "", "4"]),
        (pa.array([3.0, np.nan, 4.5]), ["3", "", "4.5"]),
        (pa.array([True, None]), ["true", ""]),
    ],
)
def test_categories_from_any_type(column: pa.Array, texts: list[str]) -> None:
    groups, faults = to_groups(pa.table({"a": column}), one("categorical"))
    assert not faults
    assert groups.categorical[:, 0].tolist() == texts


@pytest.mark.parametrize(
    "column",
    [
        pa.array(["1970-01-02", None, "1969-12-31T23:59:59.5"]),
        pa.array([86_400_000, None, -500], pa.timestamp("ms")),
        pa.array(
            [
                datetime(1970, 1, 2, 1, tzinfo=timezone(timedelta(hours=1))),
                None,
                datetime(1969, 12, 31, 23, 59, 59, 500_000, tzinfo=UTC),
            ]
        ),
    ],
)
def test_moments_from_any_type(column: pa.Array) -> None:
    groups, faults = to_groups(pa.table({"a": column}), one("datetime"))
    assert not faults
    assert groups.datetime[:, 0].tolist() == [86_400, MISSING_TIME, -1]


def test_dates() -> None:
    groups, _ = to_groups(pa.table({"a": pa.array([date(1970, 1, 2), None])}), one("datetime"))
    assert groups.datetime[:, 0].tolist() == [86_400, MISSING_TIME]


def test_faults_name_row_field_and_value_in_row_order() -> None:
    table = pa.table({"n": ["1", "x", "inf"], "t": ["2020-01-01", "later", None], "extra": [1, 2, 3]})
    fields = (
        Field(name="t", kind="datetime", required=True),
        Field(name="n", kind="numeric", required=True),
        Field(name="gone", kind="categorical", required=True),
    )
    groups, faults = to_groups(table, schema(*fields), first_row=100)
    assert [(fault.row, fault.field, fault.code) for fault in faults] == [
        (None, "gone", "missing"),
        (101, "t", "type"),
        (101, "n", "type"),
        (102, "t", "missing"),
        (102, "n", "non_finite"),
    ]
    assert faults[2].message == "expected a number, got 'x'"
    assert np.isnan(groups.numeric[1:]).all()


def test_an_absent_optional_column_is_missing_in_every_row() -> None:
    both = schema(*(Field(name=name, kind="numeric", required=False) for name in "ab"))
    groups, faults = to_groups(pa.table({"b": [1, 2]}), both)
    assert not faults
    assert np.isnan(groups.numeric[:, 0]).all()
    _, faults = to_groups(pa.table({"c": [1, 2]}), both)
    assert [(fault.field, fault.code) for fault in faults] == [("a", "missing"), ("b", "missing")]


def test_a_date_column_holds_no_numbers() -> None:
    _, faults = to_groups(pa.table({"a": pa.array([0], pa.timestamp("s"))}), one("numeric"))
    assert [fault.code for fault in faults] == ["type"]


def test_no_rows() -> None:
    groups, faults = to_groups(pa.table({"a": pa.array([], pa.string())}), one("categorical", required=True))
    assert (len(groups), faults) == (0, [])
