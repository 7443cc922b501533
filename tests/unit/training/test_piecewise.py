"""Bins that fill up: exact at the quantiles, flat outside, none where a column has nothing finer to say."""

import numpy as np
import pytest
import torch

from dle_training.preprocessing import piecewise
from dle_training.preprocessing.piecewise import Piecewise
from dle_training.preprocessing.settings import PreprocessingConfig

VALUES = np.array([[0, 1, 7], [1, 0, 7], [2, 1, 7], [4, 1, 7], [np.nan, 0, 7]], dtype=np.float32)
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
    values = np.array([[0.0]] * 90 + [[float(number)] for number in range(1, 11)], dtype=np.float32)
    fitted = piecewise.fit(values, np.array([False]), (0.0,), 20)
    assert fitted.starts[0] == 0.0
    assert 2 <= len(fitted.starts) <= 4, "nine tenths of the quantiles are one and the same"
    assert min(fitted.factors) > 0


@pytest.mark.parametrize(
    ("config", "rows", "bins"),
    [
        (PreprocessingConfig(), 9_999, 0),
        (PreprocessingConfig(), 10_000, 32),
        (PreprocessingConfig(numeric="unit_norm"), 10_000, 0),
        (PreprocessingConfig(piecewise_bins=4), 10, 4),
        (PreprocessingConfig(piecewise_bins=0), 10_000, 0),
    ],
)
def test_bins_follow_the_rows_unless_configured(config: PreprocessingConfig, rows: int, bins: int) -> None:
    assert piecewise.bins(config, rows) == bins
