"""One rule for every way in: text to numbers, truth values, date-times, categories."""

import math
import unicodedata
from typing import Literal

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dle_bundle.values.categories import category
from dle_bundle.values.dates import epoch_seconds
from dle_bundle.values.numbers import float32, parse_boolean, parse_number


@pytest.mark.parametrize(
    ("text", "value"),
    [("1", 1.0), ("+1.5", 1.5), ("-.5", -0.5), ("1e3", 1000.0), ("5.", 5.0), ("1E-2", 0.01), ("-inf", -math.inf)],
)
def test_numbers(text: str, value: float) -> None:
    assert parse_number(text) == value


@pytest.mark.parametrize("text", ["", "1_000", "1,5", "0x10", "nan", "1 2", "½", "--1", "e5", "."])
def test_what_is_no_number(text: str) -> None:
    with pytest.raises(ValueError, match="expected a number"):
        parse_number(text)


@pytest.mark.parametrize(("text", "value"), [("TRUE", 1.0), ("no", 0.0), ("Y", 1.0), ("0", 0.0)])
def test_booleans(text: str, value: float) -> None:
    assert parse_boolean(text) == value


def test_what_is_no_boolean() -> None:
    with pytest.raises(ValueError, match="expected true or false, got '2'"):
        parse_boolean("2")


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("1970-01-01", 0),
        ("1970-01-01T00:00:01Z", 1),
        ("1970-01-01 01:00:00+01:00", 0),
        ("1969-12-31T23:59:59.999", -1),
        ("2020-02-29T12:00", 1582977600),
        ("0001-01-01", -62135596800),
        ("9999-12-31T23:59:59.999999", 253402300799),
    ],
)
def test_moments_are_utc_and_cut_towards_the_past(text: str, seconds: int) -> None:
    assert epoch_seconds(text) == seconds


@pytest.mark.parametrize("text", ["1673110800000", "2024-01-31012:30"])
@pytest.mark.parametrize("written", [None, "%d.%m.%Y"])
def test_a_figure_does_not_separate_date_and_time(text: str, written: str | None) -> None:
    assert epoch_seconds("20240131T1230", written) == epoch_seconds("2024-01-31 12:30", written)
    with pytest.raises(ValueError, match="ISO 8601"):
        epoch_seconds(text, written)


def test_a_date_format_is_tried_first_and_iso_is_still_understood() -> None:
    assert epoch_seconds("02.01.1970", "%d.%m.%Y") == 86_400
    assert epoch_seconds("1970-01-02", "%d.%m.%Y") == 86_400
    with pytest.raises(ValueError, match="ISO 8601"):
        epoch_seconds("soon", "%d.%m.%Y")


@pytest.mark.parametrize(
    ("value", "text"),
    [(" a ", "a"), (3, "3"), (3.0, "3"), (3.5, "3.5"), (True, "true"), (False, "false"), (1e300, "1e+300")],
)
def test_categories(value: str | int | float | bool, text: str) -> None:
    assert category(value) == text


@given(st.text(st.sampled_from("ae оиか각漢\u0301\u0306\u0327\u3099\u0bc6\u0bbe\u1100\u1161\u11a8"), max_size=400))
def test_accents_are_composed_in_texts_of_any_length(text: str) -> None:
    assert category(f"é{text}.") == unicodedata.normalize("NFC", f"é{text}.")


def test_the_time_to_compose_accents_grows_with_the_text_only(monkeypatch: pytest.MonkeyPatch) -> None:
    composed: list[int] = []
    normalize = unicodedata.normalize

    def counting(form: Literal["NFC"], text: str) -> str:
        composed.append(len(text))
        return normalize(form, text)

    monkeypatch.setattr(unicodedata, "normalize", counting)
    text = "a" + "\u0315\u0300" * 50_000
    found = category(text)
    assert max(composed) <= 130  # the time grows with the square of this
    assert sum(composed) == len(text)
    assert found.count("\u0315") == 50_000  # none is dropped
    assert category("e\u0301" * 50_000) == "é" * 50_000


def test_finite_numbers_stay_finite_in_float32() -> None:
    rounded = float32(np.array([1e300, -1e300, 0.1, np.nan]))
    assert rounded.dtype == np.float32
    assert np.isfinite(rounded[:3]).all()
    assert np.isnan(rounded[3])
