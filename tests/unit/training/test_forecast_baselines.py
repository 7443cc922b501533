"""Forecasts without a model, and the scores of a model beside them."""

from dataclasses import replace as change
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from msgspec.structs import replace

from dle_bundle.schema import SeriesLayout
from dle_bundle.values.missing import NA_VALUES
from dle_training.config.run_config import SplitConfig
from dle_training.data.series import windows
from dle_training.scoring import forecast_baselines, forecasts
from dle_training.scoring.forecast_baselines import Baselines, Fitted

LAYOUT = SeriesLayout(channels=("load",), time="t", window=3)


def made(values: list[float | None], layout: SeriesLayout = LAYOUT, horizon: int = 3) -> Baselines:
    table = pa.table({"t": range(len(values)), "load": values})
    return windows.make(table, layout, "load", horizon, SplitConfig(), NA_VALUES).baselines


def test_the_season_is_the_strongest() -> None:
    steps = np.arange(400)
    noise = np.random.default_rng(0).normal(0, 0.1, 400)
    assert made(list(np.sin(steps / 24 * 2 * np.pi) + steps / 10 + noise)).season == 24
    assert made(list((steps % 7 == 0) + noise / 10)).season == 7
    assert made(list(np.cumsum(np.random.default_rng(1).normal(0, 1, 400)))).season == 1


def test_values_that_a_baseline_repeats() -> None:
    """The season is longer than the window, and the fourth step ahead repeats the first."""
    found = made([float(step) for step in range(60)], replace(LAYOUT, season=4), horizon=5)
    assert found.last[:2].tolist() == [2, 3]
    assert np.isnan(found.seasonal[0, 0])
    assert found.seasonal[1].tolist() == [0, 1, 2, 3, 0]
    assert set(found.scale.tolist()) == {4.0}


def test_missing_values_repeat_the_value_before() -> None:
    found = made([0, 1, None, 3, 4, 5, *range(6, 40)], replace(LAYOUT, season=1), horizon=1)
    assert found.last[:3].tolist() == [1, 3, 4]


def test_series_do_not_mix() -> None:
    steps = np.arange(60)
    layout = replace(LAYOUT, sequence_id="id", season=4)
    table = pa.table({"id": ["a"] * 60 + ["b"] * 60, "t": [*steps, *steps], "load": [*(steps * 1.0), *(steps * 100.0)]})
    found = windows.make(table, layout, "load", 2, SplitConfig(), NA_VALUES).baselines
    assert set(zip(found.series.tolist(), found.scale.tolist(), strict=True)) == {("a", 4.0), ("b", 400.0)}
    first_of_b = int(np.argmax(found.series == "b"))
    assert np.isnan(found.seasonal[first_of_b, 0])
    assert found.last[first_of_b] == 200


def test_saved(tmp_path: Path) -> None:
    path = tmp_path / "baselines.npz"
    assert forecast_baselines.load(path) is None
    found = made([float(step) for step in range(60)])
    found.save(path)
    again = forecast_baselines.load(path)
    assert again is not None
    assert again.season == found.season
    assert again.series.tolist() == found.series.tolist()
    for name in ("seasonal", "linear", "scale"):
        assert np.array_equal(getattr(again, name), getattr(found, name), equal_nan=True)
    part = found.take(np.arange(3))
    part.take(np.arange(0)).save(path)
    empty = forecast_baselines.load(path)
    assert empty is not None
    assert (len(empty.series), empty.fitted.scales.tolist()) == (0, found.fitted.scales.tolist())


def two_series(season: int = 1) -> Baselines:
    """Series a at a level of 1 and series b at a level of 100, a window each."""
    last = np.array([1.0, 100.0])
    seasonal, linear = np.repeat(last[:, None], 2, axis=1), np.array([[4.0, 4.0], [100.0, 200.0]])
    return Baselines(fitted(season), np.array(["a", "b"]), last, seasonal, linear, np.array([1.0, 50.0]))


def fitted(season: int) -> Fitted:
    """What was fitted, without a model that anything asks."""
    return change(made([float(step) for step in range(60)]).fitted, season=season)


def test_scores_for_each_series() -> None:
    actual = np.array([[1.0, 3.0], [150.0, 100.0]])
    scores = forecasts.score(actual, actual + np.array([[0.5, -0.5], [10.0, 30.0]]), two_series())
    assert scores.model.mae == pytest.approx(41 / 4)
    assert scores.model.mase == pytest.approx((0.5 + 0.5 + 0.2 + 0.6) / 4)
    assert scores.baselines["last value"].mae == pytest.approx((0 + 2 + 50 + 0) / 4)
    assert scores.per_series["b"].model.mae == pytest.approx(20)
    assert scores.per_series["b"].baselines["last value"].mase == pytest.approx(0.5)
    assert scores.warning is None
    assert list(scores.baselines) == ["last value", "linear"]


def test_a_model_that_is_no_better_is_named() -> None:
    actual = np.array([[1.0, 3.0], [150.0, 100.0]])
    scores = forecasts.score(actual, np.tile([[1.0], [100.0]], 2), two_series(season=24))
    assert scores.warning == "The model is no better than the last value: MASE 0.75 against 0.75"
    named = [name for name, *_ in forecasts.table(scores)]
    assert named == ["model", "last value", "seasonal value (24 steps earlier)", "linear model"]
    unscaled = two_series()
    unscaled = change(unscaled, series=np.array(["", ""]), scale=np.full(2, np.nan), linear=np.zeros((2, 2)))
    scores = forecasts.score(actual, np.zeros((2, 2)), unscaled)
    assert scores.model.mase is None
    assert scores.per_series == {}
    assert scores.warning == "The model is worse than the last value: MAE 63.5 against 13"
    better = forecasts.score(actual, actual + 1, change(unscaled, linear=actual + 0.5))
    assert better.warning == "The model is worse than the linear model: MAE 1 against 0.5"
    hardly = forecasts.score(actual, actual + 1, change(unscaled, linear=actual + 1.01))
    assert hardly.warning == "The model is hardly better than the linear model: MAE 1 against 1.01"
    hardly = forecasts.score(actual, actual + 1, change(unscaled, linear=actual + 0.99))
    assert hardly.warning == "The model is no better than the linear model: MAE 1 against 0.99"
