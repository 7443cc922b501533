"""Numbers without the unit of their column are counted, in text and in columns of numbers."""

import pyarrow as pa

from dle_bundle.schema import Field, Outputs, Schema
from dle_bundle.values.numbers import NumberFormat
from dle_serving.offline.bare_numbers import BareNumbers

SCHEMA = Schema(
    inputs=(
        Field(name="rate", kind="numeric", required=False, unit="%", number_format=NumberFormat(unit="%")),
        Field(name="size", kind="numeric", required=False),
    ),
    outputs=Outputs(target="y", task="regression"),
)


def test_numbers_of_a_workbook() -> None:
    bare = BareNumbers(SCHEMA)
    bare.add(pa.table({"rate": [0.05, 0.0, None], "size": [1, 2, 3]}))
    bare.add(pa.table({"rate": [0.25, 0.5], "size": [1, 2]}))
    assert bare.notes() == ("rate: 3 of 4 numbers have no unit; the unit of training is taken, so 0.05 is 0.05 %",)


def test_numbers_of_text() -> None:
    bare = BareNumbers(SCHEMA)
    bare.add(pa.table({"rate": ["5%", "7", "0", "NA", "3 %"]}))
    assert bare.notes() == ("rate: 1 of 4 numbers has no unit; the unit of training is taken, so 7 is 7 %",)


def test_nothing_to_say() -> None:
    bare = BareNumbers(SCHEMA)
    bare.add(pa.table({"rate": ["5%", "0"], "size": [3, 4]}))
    bare.add(pa.table({"size": [3, 4]}))
    assert bare.notes() == ()
