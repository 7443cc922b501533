"""Numbers mapped to a normal distribution by their ranks in training."""

import numpy as np
import numpy.typing as npt
import pytest
import torch
from scipy.special import ndtri

from dle_training.preprocessing import quantiles
from dle_training.preprocessing.quantiles import Quantiles

FALSE = np.array([False])


def mapped(training: npt.NDArray[np.float64], values: list[float], median: float = 0.0) -> list[float]:
    fitted = quantiles.fit(training[:, None], FALSE, (median,), wanted=True)
    scores: list[float] = Quantiles(fitted)(torch.tensor(values, dtype=torch.float64)[:, None])[:, 0].tolist()
    return scores


def test_the_score_of_a_value_is_that_of_its_rank() -> None:
    training = np.random.default_rng(0).lognormal(0, 2, 20_000)
    scores = np.array(mapped(training, training.tolist()))
    assert abs(scores.mean()) < 0.01
    assert scores.std() == pytest.approx(1, abs=0.02)
    assert (np.diff(scores[np.argsort(training)]) >= 0).all()
    middle = mapped(training, [float(np.median(training))])[0]
    assert middle == pytest.approx(0, abs=0.01)


def test_equal_values_share_the_mean_of_their_ranks() -> None:
    training = np.array([0.0] * 90 + [1.0] * 6 + [7.0] * 4)
    assert mapped(training, [0.0, 1.0, 7.0]) == pytest.approx(ndtri([0.45, 0.93, 0.98]), abs=1e-6)
    between = ndtri([0.93, 0.98])
    assert mapped(training, [4.0])[0] == pytest.approx(between.mean(), abs=1e-6), "half-way between 1 and 7"


def test_values_beyond_training_get_the_score_of_its_ends_and_missing_ones_that_of_the_median() -> None:
    training = np.arange(100.0)
    low, high = mapped(training, [0.0, 99.0])
    assert mapped(training, [-1e300, float("-inf"), 1e300, float("inf")]) == [low, low, high, high]
    assert mapped(training, [float("nan")], median=49.5) == mapped(training, [49.5])


@pytest.mark.parametrize("unit", [1e-200, 1e-12, 1.0, 1e12, 1e200])
@pytest.mark.parametrize("offset", [0.0, 1e6])
def test_the_unit_makes_no_difference(unit: float, offset: float) -> None:
    training = np.random.default_rng(1).normal(size=500) + offset
    values = [*training[:50].tolist(), offset + 0.123]
    plain = mapped(training, values)
    assert mapped(training * unit, [value * unit for value in values]) == pytest.approx(plain, abs=1e-5)


def test_columns_without_two_values_have_no_map() -> None:
    values = np.column_stack(
        [np.full(50, 3.0), np.full(50, np.nan), 0.1 + 1e-17 * np.arange(50), np.arange(50.0), np.arange(50) % 2]
    )
    boolean = np.array([False, False, False, False, True])
    fitted = quantiles.fit(values, boolean, (3.0, 0.0, 0.1, 24.5, 0.0), wanted=True)
    assert fitted.numbers == (3,)
    assert Quantiles(fitted)(torch.from_numpy(values)).shape == (50, 1)
    assert quantiles.fit(values, boolean, (3.0, 0.0, 0.1, 24.5, 0.0), wanted=False).numbers == ()


def test_a_number_is_discrete_if_each_value_has_200_rows_on_average() -> None:
    rows = np.arange(2_000)
    values = np.column_stack([rows % 10, rows % 11, rows % 2, np.where(rows % 3, np.nan, rows % 7)]).astype(float)
    fitted = quantiles.fit(values, np.zeros(4, bool), (0.0,) * 4, wanted=True)
    assert fitted.discrete == (True, False, True, False)
    assert Quantiles(fitted).discrete == fitted.discrete


def test_the_number_of_knots_is_limited_for_all_columns_together() -> None:
    draw = np.random.default_rng(2).normal(size=(40_000, 20))
    fitted = quantiles.fit(draw, np.zeros(20, bool), (0.0,) * 20, wanted=True)
    assert len(fitted.numbers) == 20
    assert len(fitted.columns) <= 4096
    assert np.bincount(fitted.columns).min() > 150
