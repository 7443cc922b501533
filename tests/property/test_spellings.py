"""Numbers and dates come back as they were, however a file spells them."""

from datetime import UTC, datetime

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dle_bundle.errors import InputError
from dle_bundle.values.missing import NA_TEXTS, NA_VALUES
from dle_training.data.columns import kinds
from dle_training.data.columns.column_settings import ColumnSettings

MARKS = st.sampled_from(
    [(".", ""), (".", ","), (",", ""), (",", "."), (".", " "), (",", " "), (".", "'"), (",", "\u202f")]
)
UNITS = st.sampled_from(["{}", "{}%", "{} %", "{} kg", "${}", "{} €", "{}\u00a0€", "EUR {}", "{} km/h", "{} months"])
NEGATIVES = st.sampled_from(["-{}", "\u2212{}", "({})", "{}-"])
NUMBERS = st.lists(st.decimals(-10_000_000, 10_000_000, places=2, allow_nan=False).map(float), min_size=3, max_size=30)
DATE_FORMATS = st.sampled_from(
    [
        "%Y-%m-%d", "%Y-%m-%d %H:%M:%S", "%Y-%m-%dT%H:%M:%S%z", "%Y-%m-%d %H:%M:%S UTC", "%Y/%m/%d", "%d.%m.%Y %H:%M",
        "%m/%d/%Y %I:%M %p", "%d/%m/%Y %H:%M:%S", "%m/%d/%y %H:%M", "%d-%b-%Y %H:%M:%S", "%d. %B %Y", "%B %d, %Y",
        "%d-%m-%Y", "%d-%b-%Y", "%Y.%m.%d.", "%d.%m.%Y %H.%M", "%b %d, %Y %I:%M %p",
        "%a %b %d %H:%M:%S %Y", "%a, %d %b %Y %H:%M:%S %z", "%d %b %Y, %H:%M", "%Y-%m-%d %H:%M:%S.%f",
    ]
)  # fmt: skip
DATES = st.lists(
    st.datetimes(datetime(1971, 1, 1), datetime(2060, 12, 31)).map(lambda moment: moment.replace(tzinfo=UTC)),
    min_size=3,
    max_size=30,
)


def spelled(number: float, marks: tuple[str, str], unit: str, negative: str) -> str:
    point, mark = marks
    digits = f"{abs(number):,.2f}".replace(",", "\0").replace(".", point).replace("\0", mark)
    text = unit.format(digits)
    return negative.format(text) if number < 0 else text


def read(texts: list[str]) -> kinds.Reading:
    return kinds.read(
        "c", pa.chunked_array([pa.array(texts)]), ColumnSettings(NA_VALUES, NA_TEXTS), np.arange(len(texts))
    )


@given(NUMBERS, MARKS, UNITS, NEGATIVES)
def test_numbers(numbers: list[float], marks: tuple[str, str], unit: str, negative: str) -> None:
    reading = read([spelled(number, marks, unit, negative) for number in numbers])
    assert reading.kind == "numeric"
    np.testing.assert_array_equal(reading.values, numbers)


@given(st.lists(st.integers(-9_999, 9_999), min_size=1, max_size=30), st.sampled_from([(".", ","), (",", ".")]))
def test_whole_numbers_of_thousands_are_read_right_noted_or_refused(numbers: list[int], marks: tuple[str, str]) -> None:
    texts = [f"{number:,}".replace(",", marks[1]) for number in numbers]
    grouped = {text for text in texts if len(text.strip("-")) > 3}
    plain_beside = len(grouped) >= 5 and any(0 < abs(number) < 1000 for number in numbers)
    if marks[1] == "," and grouped and not plain_beside:
        with pytest.raises(InputError, match=r"set 'data.decimal=,' or 'data.decimal=\.'"):
            read(texts)
        return
    if marks[1] == "." and plain_beside:
        with pytest.raises(InputError, match=r"set 'data.thousands=.' to read it so, or 'data.decimal=.' to read"):
            read(texts)
        return
    reading = read(texts)
    if reading.values.tolist() != numbers:
        assert marks[1] == "."
        assert reading.note is not None
        assert "set 'data.thousands=.'" in reading.note


@given(DATES, DATE_FORMATS)
def test_dates(moments: list[datetime], written: str) -> None:
    texts = [moment.strftime(written) for moment in moments]
    reading = read(texts)
    assert reading.kind == "datetime"
    expected = [datetime.strptime(text, written).replace(tzinfo=UTC) for text in texts]
    found = reading.values.tolist()
    if reading.note is None or "fits as well" not in reading.note:
        assert found == [int(moment.timestamp() // 1) for moment in expected]
