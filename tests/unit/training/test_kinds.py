"""Kinds of columns: by Arrow type, by text, and what is refused."""

import re
from datetime import date
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from dle_bundle.errors import InputError
from dle_bundle.schema import Kind
from dle_bundle.values.missing import NA_TEXTS, NA_VALUES
from dle_training.data.columns import kinds
from dle_training.data.columns.column_settings import ColumnSettings
from dle_training.data.columns.kinds import Reading
from dle_training.settings.proposals import setting


def read(values: Any, kind: Kind | None = None, date_format: str | None = None) -> Reading:
    column = pa.chunked_array([values if isinstance(values, pa.Array) else pa.array(values)])
    return kinds.read("c", column, ColumnSettings(NA_VALUES, NA_TEXTS, kind, date_format), np.arange(len(column)))


@pytest.mark.parametrize(
    ("values", "kind"),
    [
        ([1, 2, None], "numeric"),
        ([0.5, 1.5], "numeric"),
        ([True, None], "boolean"),
        (["1", " -2.5e3 ", "NA"], "numeric"),
        (["True", "false", "?"], "boolean"),
        (["yes", "no"], "categorical"),
        (["a", "b"], "categorical"),
        (["01234", "98765"], "categorical"),
        (["0", "10"], "numeric"),
        ([date(2024, 1, 1)], "datetime"),
        (["2024-01-31", "2024-02-01T10:00:00+02:00"], "datetime"),
        (pa.array([1, 2, 1]).dictionary_encode(), "categorical"),
        (pa.array(["1", "2"]).dictionary_encode(), "numeric"),
    ],
)
def test_inferred(values: Any, kind: str) -> None:
    assert read(values).kind == kind


@pytest.mark.parametrize(
    ("values", "date_format"),
    [
        (["2024-01-31", ""], None),
        (["2024/01/31"], "%Y/%m/%d"),
        (["31.01.2024 10:30"], "%d.%m.%Y %H:%M"),
        (["01/31/2024", "02/03/2024"], "%m/%d/%Y"),
        (["31/01/2024", "03/02/2024"], "%d/%m/%Y"),
        (["31 Jan 2024"], "%d %b %Y"),
        (["2024-01"], "%Y-%m"),
    ],
)
def test_date_formats(values: list[str], date_format: str | None) -> None:
    reading = read(values)
    assert (reading.kind, reading.date_format) == ("datetime", date_format)
    assert date_format is None or date_format in (reading.note or "")


@pytest.mark.parametrize(
    "values",
    [
        ["31/01/2023", "01/02/2023", "00/00/0000"],
        ["2023-01-01", "2023-01-02", "0000-00-00", "0000-00-00"],
        ["23:59", "00:30", "24:00"],
        ["2023-01-01", "2023-01-02", "pending"],
    ],
)
def test_half_of_the_values_are_dates(values: list[str]) -> None:
    with pytest.raises(InputError, match=r"a column of date-times.*something else.*data\.na_values=.*categorical"):
        read(values)


def test_a_few_dates_and_names_of_months_among_words_are_categories() -> None:
    assert read(["2023-01-01", "lost", "sold"]).kind == "categorical"
    assert read(["May", "June", "never"]).kind == "categorical"


def test_swapped_day_and_month_is_said() -> None:
    reading = read(["01/02/2024", "03/04/2024"])
    assert reading.date_format == "%m/%d/%Y"
    assert "%d/%m/%Y fits as well" in (reading.note or "")
    assert "data.date_formats" in (reading.note or "")


def test_the_year_that_is_nearly_the_same_stands_first_or_last() -> None:
    assert read(["24/01/02", "24/03/12", "23/12/05"]).date_format == "%y/%m/%d"
    assert read(["02/01/24", "12/03/24", "05/12/23"]).date_format in ("%m/%d/%y", "%d/%m/%y")


def test_years_of_two_digits_are_said() -> None:
    assert "years 1969 to 2068" in (read(["31/01/69", "01/02/68"]).note or "")


@pytest.mark.parametrize(
    "values", [[20240131, 20240201, 20240229, 20231231, 20240301], [202401, 202402, 202403, 202312, 202311]]
)
def test_dates_in_digits(values: list[int]) -> None:
    column = pa.array(values)
    reading = read(column)
    assert (reading.kind, reading.whole) == ("datetime", True)
    assert reading.values.tolist() == read([str(value) for value in values]).values.tolist()
    assert "data.kinds.c=numeric" in (reading.note or "")
    assert read(column, "numeric").values.tolist() == values
    assert read(values[:4]).kind == "numeric", "four values may be anything"
    assert read([*values, 20241301]).kind == "numeric"


def test_amounts_with_a_few_other_values() -> None:
    texts = [f"${number}.50" for number in range(30)]
    with pytest.raises(InputError, match=r"a column of numbers with something else in 2 of 32 rows.*'Free'"):
        read([*texts, "Free", "-"])
    assert (read(["10+ years", "2 years", "3 years", "< 1 year"]).note or "").startswith(
        "numbers in years are read as categories because of"
    )


def test_given_date_format() -> None:
    reading = read(["3. 2. 24"], date_format="%d. %m. %y")
    assert (reading.kind, reading.values.tolist()) == ("datetime", [1706918400])


@pytest.mark.parametrize(
    "values",
    [
        [*map(str, range(9)), "oops"],  # nine tenths are numbers
        ["1", "2", "-", "-"],  # half are numbers, the others are spelled in few ways
    ],
)
def test_numbers_with_some_text(values: list[str]) -> None:
    with pytest.raises(InputError) as caught:
        read(values)
    message = str(caught.value)
    first = next(row for row, value in enumerate(values, start=1) if not value.isdigit())
    assert "a column of numbers with something else in" in message
    assert f"row {first} {values[first - 1]!r}" in message
    assert setting("data.na_values", [values[first - 1]]) in message
    assert "data.kinds.c=categorical" in message


def test_some_numbers_among_texts_are_categories() -> None:
    assert read(["1", "2", *"abc"]).kind == "categorical"
    assert read([*map(str, range(20)), *(f"x{index}" for index in range(15))]).kind == "categorical"


def test_given_kind() -> None:
    assert read(["1", "x"], "categorical").values.tolist() == ["1", "x"]
    assert read([1, 2], "categorical").whole
    assert read(["yes", "N", ""], "boolean").values[:2].tolist() == [1.0, 0.0]
    assert not read(["01", "2"], "categorical").whole
    assert read([1.0, 0.0], "boolean").kind == "boolean"


@pytest.mark.parametrize(
    ("values", "kind", "message"),
    [
        (["1", "x"], "numeric", "row 2 'x'"),
        ([0, 2], "boolean", "row 2 2"),
        ([1, 2], "datetime", "a column of date-times with something else in 2 of 2 rows"),
        ([[1], [2]], "numeric", "a column of numbers with something else"),
    ],
)
def test_values_that_do_not_fit_the_given_kind(values: Any, kind: Kind, message: str) -> None:
    with pytest.raises(InputError, match=message):
        read(values, kind)


@pytest.mark.parametrize("values", [[1.0, np.inf, -np.inf], ["1", "inf", "-1e999"]])
def test_infinite(values: Any) -> None:
    with pytest.raises(InputError, match=r"'c': infinite values in 2 of 3 rows: row 2 .*data\.drop"):
        read(values)


def test_a_type_that_is_no_kind() -> None:
    with pytest.raises(InputError, match=r"holds struct.*data\.drop"):
        read([{"x": 1}, {"x": 2}])
    with pytest.raises(InputError, match=r"says image.*found int64"):
        read([1, 2], "image")
    with pytest.raises(InputError, match=r"says sequence.*found string"):
        read(["1 2", "3 4"], "sequence")


def test_numbered_image_files_are_no_amounts() -> None:
    assert read([f"{row}.png" for row in range(30)]).kind == "image"


def test_only_the_first_rows_are_shown() -> None:
    with pytest.raises(InputError) as caught:
        read(["x"] * 8, "numeric")
    assert "row 5" in str(caught.value)
    assert "row 6" not in str(caught.value)


@pytest.mark.parametrize(
    ("values", "numbers", "unit"),
    [
        (["0,14", "1,5", "2"], [0.14, 1.5, 2.0], ""),
        (["1.234,5", "2.000,25", "7,0"], [1234.5, 2000.25, 7.0], ""),
        (["1,234", "123,456.78", "5"], [1234.0, 123456.78, 5.0], ""),
        (["12.5%", " 3 %", "NA"], [12.5, 3.0, np.nan], "%"),
        (["$1,234.00", "($3.50)", "$2"], [1234.0, -3.5, 2.0], "$"),
        (["1.234,50 €", "−3,00 €", "0,5\u00a0€"], [1234.5, -3.0, 0.5], "€"),
        (["1\u202f234,5", "12 345,25"], [1234.5, 12345.25], ""),
        (["1’234.50", "3"], [1234.5, 3.0], ""),
        (["12,34,567.5", "3"], [1234567.5, 3.0], ""),
        (["12 kg", "3.5 kg"], [12.0, 3.5], "kg"),
        (["EUR 12", "-EUR 3.5"], [12.0, -3.5], "EUR"),
        (["3.50-", "2"], [-3.5, 2.0], ""),
        (["36 months", "60 months"], [36.0, 60.0], "months"),
    ],
)
def test_amounts_are_numbers(values: list[str], numbers: list[float], unit: str) -> None:
    reading = read(values)
    assert reading.kind == "numeric"
    np.testing.assert_array_equal(reading.values, numbers)
    assert reading.number_format is not None
    assert reading.number_format.unit == unit
    assert reading.note is not None
    assert repr(values[0].strip()) in reading.note


@pytest.mark.parametrize(
    "values",
    [["12 kg", "3 g"], ["A12", "A13"], ["1st", "2nd"], ["12-34", "5-67"], ["1.2.3", "4.5.6"], ["1,2,3", "4,5,6"]],
)
def test_what_only_looks_like_amounts(values: list[str]) -> None:
    assert read(values).kind == "categorical"


def test_a_comma_that_may_be_either_is_refused_with_both_settings() -> None:
    column = pa.chunked_array([["1,234", "5,678"]])
    with pytest.raises(InputError, match=r"'1,234' may be 1.234 or 1234; set 'data.decimal=,' or 'data.decimal=\.'$"):
        kinds.read("price", column, ColumnSettings(NA_VALUES, NA_TEXTS), np.arange(2))
    for decimal, expected in ((",", [1.234, 5.678]), (".", [1234.0, 5678.0])):
        asked = ColumnSettings(NA_VALUES, NA_TEXTS, decimal=decimal)
        assert kinds.read("price", column, asked, np.arange(2)).values.tolist() == expected


def test_a_point_that_may_stand_between_thousands_is_noted() -> None:
    reading = read(["12.345", "1.000", "7"])
    assert reading.values.tolist() == [12.345, 1.0, 7.0]
    assert reading.note == "12.345 is read with a decimal point; if it means 12345, set 'data.thousands=.'"
    asked = ColumnSettings(NA_VALUES, NA_TEXTS, thousands=".")
    other = kinds.read("c", pa.chunked_array([["12.345", "1.000", "7"]]), asked, np.arange(3))
    assert other.values.tolist() == [12345.0, 1000.0, 7.0]
    assert read(["12.345", "0.5"]).note is None


def test_points_between_thousands_beside_small_whole_numbers_are_refused_with_both_settings() -> None:
    texts = ["971", "3.302", "1.040", "2.517", "1.206", "4.480"]
    with pytest.raises(InputError, match=r"3.302 stands .* may be 3302; set 'data.thousands=.' .* or 'data.decimal=.'"):
        read(texts)
    column, rows = pa.chunked_array([texts]), np.arange(len(texts))
    thousands = kinds.read("c", column, ColumnSettings(NA_VALUES, NA_TEXTS, thousands="."), rows)
    assert thousands.values.tolist() == [971, 3302, 1040, 2517, 1206, 4480]
    decimals = kinds.read("c", column, ColumnSettings(NA_VALUES, NA_TEXTS, decimal="."), rows)
    assert decimals.values.tolist() == [971, 3.302, 1.04, 2.517, 1.206, 4.48]
    assert decimals.note is None
    assert read(["3.302", "1.040", "2.517", "1.206", "4.480"]).note is not None, "no whole number beside them"


def test_lists_of_words_with_commas_are_text() -> None:
    column = pa.chunked_array([pa.array(["a,b", "1,2", "c"] * 10)])
    assert kinds.read("tags", column, ColumnSettings(NA_VALUES, NA_TEXTS), np.arange(len(column))).kind == "categorical"


def test_a_decimal_mark_of_the_file_leaves_codes_and_whole_numbers_alone() -> None:
    asked = ColumnSettings(NA_VALUES, NA_TEXTS, decimal=",")
    codes, whole = (
        kinds.read("c", pa.chunked_array([texts]), asked, np.arange(2)) for texts in (["01234", "98765"], ["7", "12"])
    )
    assert (codes.kind, codes.values.tolist()) == ("categorical", ["01234", "98765"])
    assert (whole.kind, whole.values.tolist(), whole.number_format, whole.note) == ("numeric", [7.0, 12.0], None, None)


PLAIN = [str(row % 41) for row in range(300)]


@pytest.mark.parametrize(
    ("slip", "value"), [("3/4", "3 /4"), ("5k", "5000"), ("12l", "12 l"), ("$5", "5 $"), ("7 %", "7 %")]
)
def test_a_unit_in_few_rows_is_a_slip(slip: str, value: str) -> None:
    with pytest.raises(InputError, match=f"in 1 of 300 rows: row 8 '{re.escape(slip)}'") as caught:
        read([*PLAIN[:7], slip, *PLAIN[8:]])
    assert f"to read '{slip}' as {value}, set data.kinds.c=numeric" in str(caught.value)
    asked = read([*PLAIN[:7], slip, *PLAIN[8:]], "numeric")
    assert asked.note is not None
    assert asked.note.startswith(f"numbers are read: '{slip}' as {value}, '0' as 0")
    assert "only 1 of 300 rows differs from plain numbers" in asked.note


def test_a_slip_among_numbers_with_a_comma() -> None:
    commas = [f"{row % 9},{row % 7}" for row in range(100)]
    with pytest.raises(InputError, match=r"in 1 of 101 rows: row 101 '5k'"):
        read([*commas, "5k"])


def test_a_unit_in_some_rows() -> None:
    scaled = read([f"{row}.5k" if row < 100 else "400" for row in range(300)])
    assert (scaled.values[1], scaled.values[200]) == (1500, 400)
    assert scaled.note is not None
    assert "only 100 of 300 rows differ from plain numbers" in scaled.note
    rain = read([f"{row % 9 + 1} mm" if row < 20 else "0" for row in range(300)])
    assert rain.number_format is not None
    assert rain.number_format.unit == "mm"


@pytest.mark.parametrize(
    ("odd", "shown"), [("1,5", "'1,5' as 1.5"), ("1 500", "'1 500' as 1500"), ("1.500.000", "'1.500.000' as 1500000")]
)
def test_marks_are_shown_first(odd: str, shown: str) -> None:
    note = read([*PLAIN, odd]).note
    assert note == f"numbers are read: {shown}, '0' as 0; only 1 of 301 rows differs from plain numbers"
