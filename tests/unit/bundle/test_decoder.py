"""JSON bodies: groups when they fit the schema, every fault of every row when they do not."""

import json
from typing import Any

import msgspec
import numpy as np
import pytest

from dle_bundle.errors import RowFaults
from dle_bundle.groups import MISSING_TIME
from dle_bundle.rows.decoder import RowDecoder
from dle_bundle.schema import Field, Outputs, Schema
from dle_bundle.values.numbers import NumberFormat

SCHEMA = Schema(
    inputs=(
        Field(name="age", kind="numeric", required=True),
        Field(name="work class", kind="categorical", required=True, categories=("Private", "State-gov")),
        Field(name="income", kind="numeric", required=False),
        Field(name="code", kind="categorical", required=False, categories=("1", "2"), json_type="integer"),
        Field(name="member", kind="boolean", required=False),
        Field(name="since", kind="datetime", required=False, date_format="%d.%m.%Y"),
    ),
    outputs=Outputs(target="y", task="binary", classes=("no", "yes")),
)
DECODER = RowDecoder(SCHEMA)


def faults(body: bytes) -> list[tuple[int | None, str | None, str]]:
    with pytest.raises(RowFaults) as raised:
        DECODER.decode(body)
    return [(fault.row, fault.field, fault.code) for fault in raised.value.faults]


def test_rows_become_groups_in_schema_order() -> None:
    groups = DECODER.decode(
        b'{"rows": [{"age": 39, "work class": " State-gov ", "code": 2, "member": true, "since": "02.01.1970"},'
        b' {"work class": "new", "age": 1e300, "income": null, "code": "x", "since": " NA "}]}'
    )
    assert groups.numeric.dtype == np.float64
    np.testing.assert_array_equal(groups.numeric, np.array([[39, np.nan, 1], [1e300, np.nan, np.nan]]))
    assert groups.categorical.tolist() == [["State-gov", "2"], ["new", "x"]]
    assert groups.datetime.tolist() == [[86_400], [MISSING_TIME]]


def test_no_rows_are_no_fault() -> None:
    groups = DECODER.decode(b'{"rows": []}')
    assert (len(groups), groups.numeric.shape, groups.categorical.shape) == (0, (0, 3), (0, 2))


def test_all_faults_of_all_rows_at_once() -> None:
    body = (
        b'{"rows": [{"age": "1", "work class": " ", "incom": 1},'
        b" 7,"
        b' {"age": NaN, "work class": 5, "income": 1e999, "code": true, "member": 1, "since": "soon"}]}'
    )
    assert faults(body) == [
        (0, "incom", "unknown"),
        (0, "age", "type"),
        (0, "work class", "missing"),
        (1, None, "type"),
        (2, "age", "non_finite"),
        (2, "work class", "type"),
        (2, "income", "non_finite"),
        (2, "code", "type"),
        (2, "member", "type"),
        (2, "since", "type"),
    ]


def test_an_unknown_field_names_its_nearest() -> None:
    with pytest.raises(RowFaults, match="did you mean 'income'"):
        DECODER.decode(b'{"rows": [{"age": 1, "work class": "a", "incom": 1}]}')


def test_the_target_of_a_request_is_to_be_left_out() -> None:
    with pytest.raises(
        RowFaults, match=r"row 0, 'y': this is the target, which the model predicts; leave it out"
    ) as found:
        DECODER.decode(b'{"rows": [{"age": 1, "work class": "a", "y": "yes"}]}')
    assert [fault.code for fault in found.value.faults] == ["unknown"]


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (b"", (None, None, "json")),
        (b"[", (None, None, "json")),
        (b"\xff", (None, None, "json")),
        (b'{"rows": ' + b"[" * 100_000, (None, None, "json")),
        (b'{"rows": [{"age": ' + b"9" * 5000 + b', "work class": "a"}]}', (None, None, "json")),
        (b'{"rows": [{"age": 1, "work class": "\\ud800"}]}', (None, None, "json")),
        (b"[]", (None, None, "type")),
        (b"{}", (None, "rows", "missing")),
        (b'{"rows": {}}', (None, "rows", "type")),
        (b'{"rows": [], "x": 1}', (None, "x", "unknown")),
    ],
)
def test_bodies_that_are_no_rows(body: bytes, expected: tuple[int | None, str | None, str]) -> None:
    assert faults(body) == [expected]


def test_a_required_date_that_is_spelt_missing_is_a_fault() -> None:
    schema = Schema(inputs=(Field(name="t", kind="datetime", required=True),), outputs=SCHEMA.outputs)
    with pytest.raises(RowFaults, match="row 0, 't': a value is required"):
        RowDecoder(schema).decode(b'{"rows": [{"t": "null"}]}')


PLAIN: dict[str, Any] = {"age": 39, "work class": "Private"}


@pytest.mark.parametrize("odd", ['a"ge', "a\\ge", "a\nge", "a\tge"])
@pytest.mark.parametrize(
    "row",
    [
        json.dumps(row)
        for row in (
            PLAIN,
            {**PLAIN, "code": 2, "member": True, "since": "02.01.1970", "income": None},
            {**PLAIN, "age": 10**400},
            {**PLAIN, "age": 10**30},
            {**PLAIN, "age": 1.5, "code": 1.0},
            {**PLAIN, "age": None},
            {**PLAIN, "age": "1"},
            {**PLAIN, "age": True},
            {**PLAIN, "member": 1, "code": 10**25},
            {**PLAIN, "incom": 1},
            {**PLAIN, "f0": 1},
            {**PLAIN, "since": "soon"},
            {"work class": "Private"},
            {"age": 1, "work class": "?"},
            {},
        )
    ]
    + [
        "[]",
        '{"age": 1, "age": 2, "work class": "a"}',
        '{"age": "x", "age": 2, "work class": "a"}',
        '{"age": 1, "work class": "a", "code": 1.5}',
        '{"age": NaN, "work class": "a"}',
        '{"age": 1e999, "work class": "a"}',
        '{"age": 1, "work class": "\\ud800"}',
        '{"age": 1, "work class": "a"',
    ],
)
def test_names_that_no_struct_takes_are_served_alike(odd: str, row: str) -> None:
    inputs = tuple(
        msgspec.structs.replace(field, name=odd) if field.name == "age" else field for field in SCHEMA.inputs
    )
    other = RowDecoder(msgspec.structs.replace(SCHEMA, inputs=inputs))
    body = f'{{"rows": [{json.dumps(PLAIN)}, {row}]}}'
    assert outcome(other, body.replace('"age"', json.dumps(odd)), odd) == outcome(DECODER, body, "age")


def outcome(decoder: RowDecoder, body: str, name: str) -> object:
    try:
        groups = decoder.decode(body.encode())
    except RowFaults as raised:
        # the text of broken JSON tells the place in it, which the name moves
        return [
            (
                fault.row,
                "AGE" if fault.field == name else fault.field,
                fault.code,
                fault.code != "json" and fault.message,
            )
            for fault in raised.faults
        ]
    return repr((groups.numeric.tolist(), groups.categorical.tolist(), groups.datetime.tolist()))


@pytest.mark.parametrize("value", ["1", "1.0", '"1"', '"1.0"', '" 1. "', "1e0"])
def test_a_whole_number_is_one_category_however_it_is_written(value: str) -> None:
    field = Field(name="c", kind="categorical", required=True, json_type="integer", categories=("1", "2"))
    decoder = RowDecoder(Schema(inputs=(field,), outputs=SCHEMA.outputs))
    assert decoder.decode(f'{{"rows": [{{"c": {value}}}]}}'.encode()).categorical.tolist() == [["1"]]
    with pytest.raises(RowFaults, match="expected a string or a whole number"):
        decoder.decode(b'{"rows": [{"c": 1.5}]}')


@pytest.mark.parametrize(
    ("value", "number"), [("12.5", 12.5), ('"12.5%"', 12.5), ('" 1,234 %"', 1234.0), ('"(3)"', -3.0), ('"NA"', None)]
)
def test_amounts_are_read_in_the_format_of_the_column(value: str, number: float | None) -> None:
    written = NumberFormat(thousands=",", unit="%", negative="(3)")
    field = Field(name="rate", kind="numeric", required=False, number_format=written)
    decoder = RowDecoder(Schema(inputs=(field,), outputs=SCHEMA.outputs))
    found = decoder.decode(f'{{"rows": [{{"rate": {value}}}]}}'.encode()).numeric[0, 0]
    assert np.isnan(found) if number is None else found == number


@pytest.mark.parametrize("value", ['"12 kg"', '"1.2.3%"', '"inf"', "true", '"1e999%"'])
def test_amounts_in_another_format_are_faults(value: str) -> None:
    field = Field(name="rate", kind="numeric", required=False, number_format=NumberFormat(unit="%"))
    decoder = RowDecoder(Schema(inputs=(field,), outputs=SCHEMA.outputs))
    with pytest.raises(RowFaults) as caught:
        decoder.decode(f'{{"rows": [{{"rate": {value}}}]}}'.encode())
    assert caught.value.faults[0].field == "rate"


def test_a_date_in_digits_may_be_a_number() -> None:
    day = Field(name="day", kind="datetime", required=True, date_format="%Y%m%d", json_type="integer")
    decoder = RowDecoder(Schema(inputs=(day,), outputs=SCHEMA.outputs))
    body = b'{"rows": [{"day": 20240131}, {"day": "20240131"}, {"day": 20240131.0}, {"day": "2024-01-31"}]}'
    assert decoder.decode(body).datetime[:, 0].tolist() == [1706659200] * 4
    with pytest.raises(RowFaults, match="expected a date-time like 20240131"):
        decoder.decode(b'{"rows": [{"day": 20241301}]}')
