"""The linear model beside forecasts, and the ways to scale windows that it compares."""

from dataclasses import replace

import numpy as np
import numpy.typing as npt
import pytest

from dle_training.preprocessing.settings import Scaling
from dle_training.scoring import linear
from dle_training.scoring.linear import Comparison, Windows

WINDOW, HORIZON = 8, 3


def windows(series: dict[str, npt.NDArray[np.float64]], known: tuple[int, ...] = ()) -> Windows:
    """The windows of these series (steps,) or (steps, channels) that have a value to predict."""
    values = [each.reshape(len(each), -1) for each in series.values()]
    starts = np.cumsum([0, *map(len, values)])[:-1]
    ends = [np.arange(WINDOW - 1, len(each) - HORIZON) + start for each, start in zip(values, starts, strict=True)]
    names = np.repeat(list(series), list(map(len, ends)))
    found = Windows(np.concatenate(values), np.concatenate(ends), names, np.array(known, dtype=np.int64))
    return found.take(np.flatnonzero(~np.isnan(found.ahead(0, HORIZON)).all(axis=1)))


def compare(
    series: dict[str, npt.NDArray[np.float64]], *kinds: Scaling, known: tuple[int, ...] = ()
) -> tuple[Comparison, Windows]:
    """Fit on the first three quarters of the windows of each series, and compare on the others, with the unit 1."""
    whole = windows(series, known)
    places = np.concatenate([np.arange(count) / count for count in np.unique(whole.names, return_counts=True)[1]])
    validation = whole.take(np.flatnonzero(places >= 0.75))
    made = linear.compare(
        whole.take(np.flatnonzero(places < 0.75)),
        validation,
        np.ones(len(validation)),
        target=0,
        window=WINDOW,
        horizon=HORIZON,
        kinds=kinds or ("window", "none"),
    )
    return made, validation


def wave(steps: int, noise: float = 0.0) -> npt.NDArray[np.float64]:
    values: npt.NDArray[np.float64] = np.sin(np.arange(steps) / 7 * 2 * np.pi)
    return values + np.random.default_rng(0).normal(0, noise, steps)


def test_a_linear_process_is_found() -> None:
    found, validation = compare({"": wave(200)})
    assert np.abs(found.model.predict(validation) - validation.ahead(0, HORIZON)).max() < 0.001
    assert found.said("window").startswith("MASE ")


def test_least_squares_of_the_known_targets() -> None:
    """With gaps, each step of the horizon is fitted to the windows that know it."""
    values = wave(400, noise=0.3)
    values[np.random.default_rng(1).random(400) < 0.1] = np.nan
    found, _ = compare({"": values}, "none")
    whole = windows({"": values})
    training, scales = whole.take(np.flatnonzero(np.arange(len(whole)) / len(whole) < 0.75)), found.model.scales
    features, level, spread = linear._features(training, WINDOW, scales, HORIZON)
    targets = (training.ahead(0, HORIZON) - level) / spread
    for step in range(HORIZON):
        known = ~np.isnan(targets[:, step])
        rows = np.column_stack([features[known], np.ones(known.sum())])
        expected = np.linalg.lstsq(rows, targets[known, step], rcond=None)[0]
        fitted = np.append(found.model.weights[:, step], found.model.bias[step])
        assert rows @ fitted == pytest.approx(rows @ expected, abs=0.1)


def test_series_of_different_levels() -> None:
    """A level of 1 and one of 10,000: windows or series are scaled by themselves, and others are not lost."""
    series = {"high": 10_000 + 2_000 * wave(120), "low": 1 + 0.2 * wave(120)}
    found, validation = compare(series, "window", "series", "none")
    low = validation.names == "low"
    assert found.choose("none", HORIZON) in ("window", "series")
    for kind in ("window", "series"):
        own, _ = compare(series, kind)
        error = np.abs(own.model.predict(validation) - validation.ahead(0, HORIZON))
        assert error[low].max() < 0.05
        assert error[~low].max() < 500
    by_series, _ = compare(series, "series")
    unknown = replace(validation, names=np.full(len(validation), "mean"))
    error = np.abs(by_series.model.predict(unknown) - validation.ahead(0, HORIZON))
    assert error[low].max() < 0.3  # by its own window


def test_what_is_known_of_the_steps_ahead(monkeypatch: pytest.MonkeyPatch) -> None:
    """The target jumps with a column that is known in advance, and gaps in it count as its mean."""
    offers = np.random.default_rng(0).integers(0, 2, 400).astype(np.float64)
    values = np.stack([wave(400) + 5 * offers, offers], axis=1)
    values[::50, 1] = np.nan
    errors = []
    for known in ((), (1,)):
        found, validation = compare({"": values}, "none", known=known)
        errors.append(float(np.median(np.abs(found.model.predict(validation) - validation.ahead(0, HORIZON)))))
        again = linear.restore(found.model.arrays)
        assert np.array_equal(again.predict(validation), found.model.predict(validation))
    assert errors[0] > 1
    assert errors[1] < 0.1
    monkeypatch.setattr(linear, "MOST_FEATURES", 5)
    assert compare({"": values}, "none", known=(1,))[0].model.weights.shape == (5, HORIZON)


def test_levels_that_training_has_not_seen() -> None:
    assert compare({"": wave(200)})[0].outside < 0.1
    assert compare({"": wave(200) + np.arange(200) / 10})[0].outside == 1
    # each series has its own range
    assert compare({"a": wave(200) + np.arange(200) / 10, "b": wave(200) + 10})[0].outside == pytest.approx(
        0.5, abs=0.05
    )


def test_the_preferred_scaling_stays_within_noise() -> None:
    errors: dict[Scaling, npt.NDArray[np.float64]]
    errors = {"window": np.array([1.0, 1.2] * 50), "none": np.array([1.21, 1.0] * 50)}
    model = compare({"": wave(60)})[0].model
    assert Comparison(model, errors, scaled=True).choose("none", 1) == "none"
    compared = Comparison(model, errors, scaled=True)
    assert compared.choose("window", 1) == "window"
    said = "MASE 1.1 with window_scaling=window, 1.1 with window_scaling=none"
    assert compared.said("none") == f"{said} (window gains less than 2 % or one standard error)"
    assert "gains" not in compared.said("window")
    errors["window"] = errors["none"] - 0.2
    assert Comparison(model, errors, scaled=True).choose("none", 1) == "window"
    # ten windows of one hundred steps ahead are hardly more than one
    errors = {"window": np.array([0.0, 1.9] * 5), "none": errors["none"][:10]}
    assert Comparison(model, errors, scaled=True).choose("none", 100) == "none"


def test_wide_windows_are_read_in_part(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(linear, "MOST_FEATURES", 5)
    monkeypatch.setattr(linear, "MOST_NUMBERS", 200)
    beside = np.random.default_rng(0).normal(size=300)
    found, validation = compare({"": np.stack([wave(300), beside], axis=1)})
    assert found.model.weights.shape == (5, HORIZON)
    assert np.abs(found.model.predict(validation) - validation.ahead(0, HORIZON)).max() < 0.05


def test_windows_without_values_or_change() -> None:
    values = wave(200)
    values[20:50] = np.nan
    values[60:90] = 3
    found, _ = compare({"": values}, "window")
    assert np.isfinite(found.model.predict(windows({"": values}))).all()


def test_it_is_restored() -> None:
    found, validation = compare({"a": wave(60), "b": wave(80)}, "series")
    again = linear.restore(found.model.arrays)
    assert np.array_equal(again.predict(validation), found.model.predict(validation))
