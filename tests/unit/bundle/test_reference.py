"""Bins: every value falls in exactly one, frequent values have their own, fractions are never zero."""

import numpy as np
import pytest

from dle_bundle.drift.features import feature_names, table_columns
from dle_bundle.drift.reference import Bins, category_bins, number_bins
from dle_bundle.groups import MISSING_TIME, Groups
from dle_bundle.schema import Field, Outputs, Schema

RNG = np.random.default_rng(0)


def count(bins: Bins, values: np.ndarray) -> np.ndarray:
    return np.bincount(bins.assign_numbers(values), minlength=len(bins.names))


@pytest.mark.parametrize(
    ("values", "inner"),
    [
        (RNG.normal(size=1000), 10),
        ((RNG.random(1000) < 0.03).astype(float), 2),
        (RNG.integers(0, 5, 1000).astype(float), 5),
        (np.where(RNG.random(1000) < 0.8, 0, RNG.exponential(10, 1000)), 3),
        (np.full(10, 3.0), 1),
        (np.full(10, np.nan), 1),
    ],
)
def test_number_bins(values: np.ndarray, inner: int) -> None:
    bins = number_bins(values.astype(np.float32))
    assert len(bins.names) == len(bins.fractions) == inner + 3
    assert len(set(bins.names)) == len(bins.names)
    assert min(bins.fractions) > 0
    assert sum(bins.fractions) == pytest.approx(1)
    counts = count(bins, values.astype(np.float32))
    assert counts.sum() == len(values)
    assert counts[0] == counts[-2] == 0, "training values are neither below nor above"
    assert counts[-1] == np.isnan(values).sum()


@pytest.mark.parametrize("unit", [1e-30, 1e-8, 1.0, 1e30])
def test_bins_in_any_unit(unit: float) -> None:
    values = (RNG.normal(5, 1, size=1000) * unit).astype(np.float32)
    bins = number_bins(values)
    assert len(bins.names) == 13
    np.testing.assert_allclose(bins.fractions[1:-2], 0.1, atol=0.01)


@pytest.mark.parametrize("unit", [1e-8, 1.0, 1e8])
def test_rounding_errors_make_no_bins(unit: float) -> None:
    """A client that rounds otherwise would seem to drift."""
    nearly = (unit * (1 + 1e-7 * RNG.integers(0, 6, 1000))).astype(np.float32)
    assert len(number_bins(nearly).names) == 1 + 3
    # where differences of other values leave them, around zero
    noise, others = 1e-16 * RNG.normal(size=500), 1 + RNG.random(500)
    bins = number_bins((unit * np.concatenate([noise, others])).astype(np.float32))
    assert bins.fractions[1] == pytest.approx(0.5, abs=0.01)
    assert len(bins.names) == 1 + 5 + 3


def test_times_of_one_minute_have_bins_of_their_own() -> None:
    moments = 1.7e9 + np.arange(60, dtype=np.float64)
    assert len(number_bins(moments).names) == 10 + 3


def test_values_beyond_training_are_below_and_above() -> None:
    bins = number_bins(np.arange(100, dtype=np.float32))
    counts = count(bins, np.array([-1, 99, 99.5, np.nan], dtype=np.float32))
    assert (counts[0], counts[-3], counts[-2], counts[-1]) == (1, 1, 1, 1)


def test_category_bins_keep_the_most_frequent() -> None:
    known = tuple(f"c{index}" for index in range(40))
    values = np.array(["c39"] * 5 + ["c0", ""], dtype=object)
    bins = category_bins(values, known)
    assert len(bins.names) == 32
    assert bins.names[:2] == ("c39", "c0")
    places = bins.assign_categories(np.array(["c39", "c38", "", "new"], dtype=object))
    counts = dict(zip(bins.names, np.bincount(places, minlength=32), strict=True))
    assert {name: count for name, count in counts.items() if count} == {"c39": 1, "other": 1, "missing": 1, "unseen": 1}


def test_a_category_named_missing_keeps_its_own_bin() -> None:
    bins = category_bins(np.array(["missing"], dtype=object), ("missing",))
    assert bins.names == ("missing", "other", "(missing)", "unseen")


def test_columns_come_in_schema_order() -> None:
    schema = Schema(
        inputs=(
            Field(name="c", kind="categorical", required=False),
            Field(name="t", kind="datetime", required=False),
            Field(name="n", kind="numeric", required=False),
        ),
        outputs=Outputs(target="y", task="regression"),
    )
    groups = Groups(
        np.array([[1.0]], dtype=np.float32), np.array([["x"]], dtype=object), np.array([[MISSING_TIME]], dtype=np.int64)
    )
    found = {feature.name: feature.values[0] for feature in table_columns(groups, schema)}
    assert list(found) == ["c", "t", "n"]
    assert (found["c"], found["n"]) == ("x", 1.0)
    assert np.isnan(found["t"])
    assert feature_names(schema) == {"c": True, "t": False, "n": False}
