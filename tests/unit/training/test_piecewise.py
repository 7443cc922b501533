"""Bins that fill up: exact at the quantiles, flat outside, none where a column has nothing finer to say."""

import numpy as np
import pytest
import torch
from tests.configs import resolved

from dle_training.preprocessing import piecewise
from dle_training.preprocessing.piecewise import Piecewise

VALUES = np.array([[0, 1, 7], [1, 0, 7], [2, 1, 7], [4, 1, 7], [np.nan, 0, 7]], dtype=np.float64)
BOOLEAN = np.array([False, True, False])
FITTED = piecewise.fit(VALUES, BOOLEAN, (1.5, 1.0, 7.0), 3)


def test_only_columns_with_something_to_say_are_cut() -> None:
    assert set(FITTED.columns) == {0}
    np.testing.assert_allclose(FITTED.starts, [0, 1, 2])
    np.testing.assert_allclose(FITTED.factors, [1, 1, 0.5])


@pytest.mark.parametrize(
    ("value", "filled"),
    [
        (-1e30, [0, 0, 0]),
        (0.25, [0.25, 0, 0]),
        (2.0, [1, 1, 0]),
        (3.0, [1, 1, 0.5]),
        (3e38, [1, 1, 1]),
        (np.nan, [1, 0.5, 0]),
    ],
)
def test_bins_fill_up_to_the_value(value: float, filled: list[float]) -> None:
    rows = torch.tensor([[value, 0.0, 0.0]])
    np.testing.assert_allclose(Piecewise(FITTED)(rows).numpy()[0], filled)


def test_no_bins_no_width() -> None:
    assert Piecewise(piecewise.fit(VALUES, BOOLEAN, (1.5, 1.0, 7.0), 0)).width == 0


def test_equal_quantiles_make_one_bin() -> None:
    values = np.array([[0.0]] * 90 + [[float(number)] for number in range(1, 11)], dtype=np.float64)
    fitted = piecewise.fit(values, np.array([False]), (0.0,), 20)
    assert fitted.starts[0] == 0.0
    assert 2 <= len(fitted.starts) <= 4, "nine tenths of the quantiles are one and the same"
    assert min(fitted.factors) > 0


@pytest.mark.parametrize("unit", [1e-30, 1e-8, 1e8, 1e30])
def test_small_and_large_units(unit: float) -> None:
    values = VALUES * unit
    fitted = piecewise.fit(values, BOOLEAN, (1.5 * unit, 1.0, 7.0), 3)
    plain = Piecewise(FITTED)(torch.from_numpy(VALUES)).numpy()
    np.testing.assert_allclose(Piecewise(fitted)(torch.from_numpy(values)).numpy(), plain, atol=1e-5)


def test_a_bin_among_values_far_apart_is_as_narrow_as_they_are() -> None:
    """One sentinel does not hide what the others say."""
    values = np.array([[-1e9], *([number / 10] for number in range(1, 21))], dtype=np.float64)
    fitted = piecewise.fit(values, np.array([False]), (1.0,), 4)
    np.testing.assert_allclose(fitted.starts[1:], [0.5, 1.0, 1.5], atol=0.05)


def test_rounding_errors_around_zero_make_no_bin() -> None:
    noise = 0.1 + 0.2 - 0.3
    values = np.array([[0.0], [noise], [2 * noise], [3 * noise], [0.5], [1.0], [1.5], [2.0], [2.5]], dtype=np.float64)
    fitted = piecewise.fit(values, np.array([False]), (0.5,), 8)
    assert max(fitted.factors) == pytest.approx(2)


@pytest.mark.parametrize(
    ("settings", "rows", "bins"),
    [
        ([], 9_999, 0),
        ([], 10_000, 32),
        (["preprocessing.numeric=unit_norm"], 10_000, 0),
        (["preprocessing.piecewise_bins=4"], 10, 4),
        (["preprocessing.piecewise_bins=0"], 10_000, 0),
    ],
)
def test_bins_follow_the_rows_unless_configured(settings: list[str], rows: int, bins: int) -> None:
    assert resolved(*settings, rows=rows).preprocessing.piecewise_bins == bins
