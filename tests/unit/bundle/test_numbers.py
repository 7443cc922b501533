"""Which numbers differ by more than rounding errors, whatever their unit, and how messages write an example."""

import re

import numpy as np
import pytest

from dle_bundle.values.numbers import NumberFormat, differ, parse_number

UNITS = [10.0**power for power in range(-30, 31, 6)]


@pytest.mark.parametrize("unit", UNITS)
@pytest.mark.parametrize(
    ("low", "high", "expected"),
    [
        (1.0, 5.0, True),
        (-1.0, 1.0, True),
        (0.0, 1.0, True),
        (1.0, 1.00001, True),
        (1.0, 1.0, False),
        (1.0, 1.0000004, False),
        (-1.0000004, -1.0, False),
        (0.0, 0.0, False),
    ],
)
def test_the_unit_makes_no_difference(low: float, high: float, expected: bool, unit: float) -> None:
    assert bool(differ(np.float32(low * unit), np.float32(high * unit))) is expected


def test_a_small_difference_of_large_numbers() -> None:
    assert not differ(np.float32(1e9), np.float32(1e9 + 500))
    assert differ(np.float32(1e9), np.float32(1e9 + 5000))
    # the type decides: float64 tells seconds since 1970 apart
    assert differ(np.float64(1.7e9), np.float64(1.7e9 + 1))
    assert not differ(np.float64(0.1 + 0.2), np.float64(0.3))


def test_rounding_errors_around_zero_in_a_column_of_larger_numbers() -> None:
    noise = np.float32(0.1 + 0.2 - 0.3)
    assert differ(np.float32(0), noise)
    assert not differ(np.float32(0), noise, largest=0.3)


def test_extremes_of_float32() -> None:
    largest, smallest = np.finfo(np.float32).max, np.finfo(np.float32).smallest_subnormal
    assert differ(-largest, largest)
    assert not differ(largest, largest)
    assert not differ(np.float32(0), smallest)
    assert not differ(np.float32(1e-40), np.float32(5e-40)), "1 / 4e-40 is beyond float32"


@pytest.mark.parametrize(
    ("written", "expected"),
    [
        (NumberFormat(thousands=",", unit="$"), "-$1,234.5"),
        (NumberFormat(unit="US$", negative="(3)"), "(US$1234.5)"),
        (NumberFormat(thousands=",", unit="£", negative="3-"), "£1,234.5-"),
        (NumberFormat(decimal=",", thousands=".", unit="€"), "-1.234,5 €"),
        (NumberFormat(decimal=",", thousands=" ", unit="kr"), "-1 234,5 kr"),
        (NumberFormat(unit="%"), "-1234.5 %"),
        (NumberFormat(unit="kg", negative="(3)"), "(1234.5 kg)"),
        (NumberFormat(thousands="'"), "-1'234.5"),
    ],
)
def test_an_example_of_a_format_has_its_unit_where_people_write_it(written: NumberFormat, expected: str) -> None:
    assert written.example == expected
    assert parse_number(expected, written) == -1234.5
    with pytest.raises(ValueError, match=re.escape(f"expected a number like {expected}, got 'x'")):
        parse_number("x", written)


def test_elementwise() -> None:
    low, high = np.array([1, 2, 3], np.float32), np.array([1, 3, 3], np.float32)
    assert differ(low, high).tolist() == [False, True, False]


@pytest.mark.parametrize(
    ("text", "written", "expected"),
    [
        ("1.143,6", NumberFormat(decimal=","), 1143.6),
        ("1.143.222,5", NumberFormat(decimal=","), 1143222.5),
        ("1 143,5", NumberFormat(decimal=","), 1143.5),
        ("1'143", NumberFormat(decimal=","), 1143.0),
        ("-$1,143.60", NumberFormat(unit="$"), -1143.6),
    ],
)
def test_a_separator_of_thousands_that_training_never_saw(text: str, written: NumberFormat, expected: float) -> None:
    assert parse_number(text, written) == expected


@pytest.mark.parametrize(
    ("text", "written"),
    [
        ("1.143", NumberFormat(decimal=",")),
        ("1.14,6", NumberFormat(decimal=",")),
        ("1.143 222,5", NumberFormat(decimal=",")),
        ("$1,143", NumberFormat(unit="$")),
    ],
)
def test_a_separator_of_thousands_that_may_be_something_else(text: str, written: NumberFormat) -> None:
    with pytest.raises(ValueError, match="expected a number like"):
        parse_number(text, written)
