"""Boosted trees and a linear model learn from the raw columns of any table."""

from datetime import UTC, datetime
from typing import Any

import numpy as np
import pytest

from dle_bundle.groups import MISSING_TIME, Groups
from dle_bundle.schema import Field, Kind, Outputs, Schema
from dle_training.scoring import metrics, table_baselines
from dle_training.scoring.table_baselines import BASELINES

N = 400
both = pytest.mark.parametrize("name", BASELINES)


def groups(numeric: Any = None, categorical: Any = None, datetime: Any = None) -> Groups:
    """Rows of one kind of column (N,), or of several."""
    given = [each for each in (numeric, categorical, datetime) if each is not None]
    empty = np.empty((len(given[0]), 0))
    return Groups(
        *(
            np.asarray(empty if column is None else column, dtype=kind).reshape(len(empty), -1)
            for column, kind in zip((numeric, categorical, datetime), (np.float64, object, np.int64), strict=True)
        )
    )


def accuracy(name: str, rows: Groups, targets: np.ndarray, classes: int = 2) -> float:
    """The accuracy for the rows themselves."""
    predicted = table_baselines.fit(name, rows, targets, classes)(rows)
    score = metrics.all_scores("multiclass", predicted, targets)["accuracy"]
    assert score is not None
    return score


@both
def test_numbers_with_gaps_and_of_any_size(name: str) -> None:
    draw = np.random.default_rng(0)
    told = draw.normal(size=N)
    targets = (told > 0).astype(np.int64)
    numbers = np.stack([told * 1e300, told * 1e-300, draw.normal(size=N), np.full(N, np.nan)], axis=1)
    numbers[draw.random((N, 4)) < 0.2] = np.nan
    assert accuracy(name, groups(numbers), targets) > 0.9
    far = groups(np.array([[1e308, 1e308, -1e308, 1.0], [np.nan] * 4]))
    answers = table_baselines.fit(name, groups(numbers), targets, 2)(far)
    np.testing.assert_allclose(answers.sum(axis=1), 1, rtol=1e-6)


@both
def test_categories_that_are_many_or_rare_or_unknown_or_missing(name: str) -> None:
    draw = np.random.default_rng(0)
    codes = np.concatenate([np.arange(300), draw.integers(0, 4, 600)])
    categories = np.array([f"c{code}" for code in codes], dtype=object)
    targets = np.where(codes < 4, codes % 2, 1)
    categories[-20:], targets[-20:] = "", 1
    assert accuracy(name, groups(categorical=categories), targets) > 0.97
    predict = table_baselines.fit(name, groups(categorical=categories), targets, 2)
    answers = predict(groups(categorical=["c0", "c1", "never seen", ""]))
    assert answers[0, 1] < 0.5 < answers[1, 1]
    assert np.isfinite(answers).all()


def test_the_linear_model_has_every_category() -> None:
    codes = np.repeat(np.arange(600), 6)
    targets = (np.random.default_rng(0).random(600) < 0.5).astype(np.int64)[codes]
    rows = groups(categorical=[f"c{code}" for code in codes])
    assert accuracy("linear", rows, targets) == 1


def test_parts_of_dates() -> None:
    days = [datetime(2024, month, day, 7, 30, tzinfo=UTC) for month in range(1, 13) for day in range(1, 29)]
    stamps = np.array([int(day.timestamp()) for day in days])
    parts = table_baselines._numbers(groups(datetime=stamps))
    assert parts[:, 1].tolist() == [day.month - 1 for day in days]
    assert parts[:, 2].tolist() == [day.day - 1 for day in days]
    assert parts[:, 3].tolist() == [day.weekday() for day in days]
    assert set(parts[:, 4]) == {7.5 * 3600}
    weekend = np.array([day.weekday() > 4 for day in days]).astype(np.int64)
    stamps[::50] = MISSING_TIME
    assert np.isnan(table_baselines._numbers(groups(datetime=stamps))[::50]).all()
    assert accuracy("linear", groups(datetime=stamps), weekend) > 0.95


@both
def test_values(name: str) -> None:
    draw = np.random.default_rng(0)
    x = draw.normal(size=N)
    for scale, level in ((1.0, 0.0), (1e-6, 0.0), (5.0, 1e9), (1e250, 0.0)):
        actual = x * scale + level
        predicted = table_baselines.fit(name, groups(x), actual, 0)(groups(x))
        assert np.abs(predicted - actual).mean() < 0.1 * scale
    constant = table_baselines.fit(name, groups(x), np.full(N, 7.0), 0)(groups(x))
    np.testing.assert_allclose(constant, 7)


@both
def test_class_weights_are_taken_out_of_the_probabilities(name: str) -> None:
    draw = np.random.default_rng(0)
    x = draw.normal(size=4 * N)
    targets = (draw.random(4 * N) < 0.1).astype(np.int64)
    plain = table_baselines.fit(name, groups(x), targets, 2)(groups(x))
    weighted = table_baselines.fit(name, groups(x), targets, 2, [0.5, 5.0])(groups(x))
    assert abs(weighted[:, 1].mean() - targets.mean()) < 0.03
    assert not np.array_equal(plain, weighted)


@both
def test_classes_without_rows(name: str) -> None:
    x = np.random.default_rng(0).normal(size=N)
    some = table_baselines.fit(name, groups(x), np.where(x > 0, 3, 1), 5)(groups(x))
    assert some[:, [0, 2, 4]].max() == 0
    assert (some.argmax(axis=1) == np.where(x > 0, 3, 1)).mean() > 0.95
    one = table_baselines.fit(name, groups(x), np.full(N, 2), 4)(groups(x[:3]))
    assert one.tolist() == [[0, 0, 1, 0]] * 3


@both
def test_a_class_of_one_row_in_a_large_table(name: str) -> None:
    x = np.random.default_rng(0).normal(size=10_100)
    targets = np.where(np.arange(len(x)) == 5, 2, (x > 0).astype(np.int64))
    assert accuracy(name, groups(x), targets, 3) > 0.9


def test_the_seed_decides() -> None:
    draw = np.random.default_rng(0)
    x = draw.normal(size=(10_100, 2))
    targets = (x[:, 0] + draw.normal(size=len(x)) > 0).astype(np.int64)
    first, again, other = (
        table_baselines.fit("trees", groups(x), targets, 2, seed=seed)(groups(x[:50])) for seed in (1, 1, 2)
    )
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)


@pytest.mark.parametrize(
    ("kinds", "classes", "rows", "folds", "expected"),
    [
        (("numeric", "categorical", "boolean"), None, 3_000, 1, 10_000 * 3 * 100),
        (("numeric",), ("a", "b"), 3_000, 5, 10_000 * 100 * 5),
        (("datetime",), ("a", "b", "c"), 3_000, 1, 10_000 * 5 * 100 * 3),
    ],
)
def test_the_estimate_counts_rows_columns_trees_classes_and_trainings(
    kinds: tuple[Kind, ...], classes: tuple[str, ...] | None, rows: int, folds: int, expected: int
) -> None:
    inputs = tuple(Field(name=kind, kind=kind, required=True) for kind in kinds)
    task: Any = "regression" if classes is None else "binary" if len(classes) == 2 else "multiclass"
    schema = Schema(inputs=inputs, outputs=Outputs(target="y", task=task, classes=classes))
    assert table_baselines.cells(schema, rows, folds) == expected
