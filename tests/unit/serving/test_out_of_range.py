"""Numbers and dates outside of the range of training are counted, and warned of if they are many or far away."""

from typing import Any

import numpy as np
import pytest

from dle_bundle.groups import MISSING_TIME, Groups
from dle_bundle.schema import Field, Outputs, Schema
from dle_bundle.values.dates import epoch_seconds
from dle_serving.offline.out_of_range import OutOfRange, ValuesOutOfRange

AGE = Field(name="age", kind="numeric", required=False, observed_range=(20.0, 60.0), unit="years")
RATE = Field(name="rate", kind="numeric", required=False, observed_range=(2.5, 95.0), unit="%")
SINCE = Field(name="since", kind="datetime", required=False, observed_range=("2020-01-01T00:00:00Z", "2022-01-01"))


def counted(field: Field, *parts: list[Any], without_unit: bool = False) -> tuple[OutOfRange, ...]:
    values = ValuesOutOfRange(Schema(inputs=(field,), outputs=Outputs(target="y", task="regression")))
    number = field.kind == "numeric"
    for part in parts:
        groups = Groups(
            np.array(part, dtype=np.float64)[:, None] if number else np.empty((len(part), 0)),
            np.empty((len(part), 0), dtype=object),
            np.empty((len(part), 0), dtype=np.int64) if number else np.array(part, dtype=np.int64)[:, None],
        )
        values.add(groups)
    return values.found(frozenset([field.name]) if without_unit else frozenset())


def test_values_of_all_parts_are_counted_and_the_farthest_are_examples() -> None:
    (found,) = counted(AGE, [20, 60, 61.5, np.nan], [19, 70, 70, 30, 65], [40] * 20)
    assert (found.column, found.rows, found.of) == ("age", 5, 28)
    assert (found.examples, found.seen, found.warning) == ((70.0, 65.0, 61.5), (20.0, 60.0), None)
    assert found.in_words == "5 rows, such as 70, 65, 61.5; training saw 20 to 60 years"


def test_values_in_the_range_and_missing_ones_are_no_news() -> None:
    assert counted(AGE, [20, 60, np.nan]) == ()
    assert counted(AGE, [np.nan], []) == ()


def test_a_third_of_the_values_is_many() -> None:
    assert counted(AGE, [61, 30, 30, 30])[0].warning is None
    assert counted(AGE, [61, 30, 30])[0].warning == (
        "age: 1 of 3 values is outside of what training saw, 20 to 60 years, such as 61, so the predictions may be "
        "wrong; check the unit"
    )


def test_a_value_three_times_as_far_away_as_the_range_is_wide() -> None:
    assert counted(AGE, [180.0, *[30] * 99])[0].warning is None
    found = counted(AGE, [180.5, -1, *[30] * 98])[0]
    assert found.warning is not None
    assert found.warning.startswith("age: 2 of 100 values are outside of what training saw, 20 to 60 years, such as")


def test_new_rows_of_a_skewed_column_are_normal() -> None:
    rng = np.random.default_rng(1)
    for _ in range(50):
        seen, new = rng.lognormal(size=(2, 2_000))
        field = Field(name="x", kind="numeric", required=False, observed_range=(float(seen.min()), float(seen.max())))
        assert all(found.warning is None for found in counted(field, new.tolist()))


def test_dates_after_the_range_are_normal_unless_they_are_far() -> None:
    def seconds(*texts: str) -> list[int]:
        return [MISSING_TIME, *map(epoch_seconds, texts)]

    (found,) = counted(SINCE, seconds("2023-12-31", "2022-01-01", "2022-01-02"))
    assert (found.rows, found.of, found.warning) == (2, 3, None)
    assert found.examples == ("2023-12-31T00:00:00Z", "2022-01-02T00:00:00Z")
    (found,) = counted(SINCE, [2**50, -(2**50)])  # as Parquet can hold them
    assert found.examples == ("0001-01-01T00:00:00Z", "9999-12-31T23:59:59Z")
    (found,) = counted(SINCE, seconds("1924-05-01", "2021-01-01"))
    assert found.warning is not None
    assert found.warning.endswith("such as 1924-05-01T00:00:00Z, so the predictions may be wrong; check how dates are "
                                  "written")  # fmt: skip


@pytest.mark.parametrize(
    ("values", "without_unit", "said"),
    [
        ([0.05, 0.3, 0.0], True, "rate: all values are from 0 to 0.3, and training saw 2.5 to 95 %; if they are"),
        ([0.05, 0.3, 0.0], False, "rate: 3 of 3 values are outside of what training saw"),
        ([0.05, 1.5], True, "rate: 2 of 2 values are outside of what training saw"),
        ([3.0, 50.0], True, None),
        ([0.0], True, "rate: 1 of 1 value is outside of what training saw"),
    ],
)
def test_fractions_in_a_column_of_percent(values: list[float], without_unit: bool, said: str | None) -> None:
    found = counted(RATE, values, without_unit=without_unit)
    assert (found[0].warning or "").startswith(said) if said else found == ()


def test_fractions_within_the_range_are_warned_of() -> None:
    field = Field(name="rate", kind="numeric", required=False, observed_range=(0.0, 95.0), unit="%")
    (found,) = counted(field, [0.05, 0.3], without_unit=True)
    assert (found.rows, found.examples) == (0, ())
    assert found.warning is not None
    assert counted(field, [0.05, 0.3]) == ()


def test_numbers_without_a_range_are_not_counted() -> None:
    assert counted(Field(name="x", kind="numeric", required=False), [1e9]) == ()
