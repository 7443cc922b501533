"""The baselines of a table: boosted trees and a linear model of scikit-learn, with their defaults, on the raw columns.

On a table, people compare a model with these first. They learn from the same rows as the model, and are not exported.
"""

import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt

from dle_bundle.groups import MISSING_TIME, Groups
from dle_bundle.schema import Schema
from dle_bundle.values.dates import FIRST_TIME, LAST_TIME
from dle_training.scoring.metrics import Actual, Predictions, Scores

CELL_SECONDS, MOST_CELLS = 20e-9, 3_000_000_000
"""What trees take for each cell on a core, at most, and how many cells are too many for a baseline nobody asked for."""
_TREES = 100
_ROWS_OF_A_TREE = 7_000
"""Splitting the leaves of a tree takes as long as reading so many further rows."""
_DAY = 86_400
_DATE_PARTS = 5
_MOST_CATEGORIES = 255
_LARGEST = 1e100
_MOST_ITERATIONS = 1_000
_Floats = npt.NDArray[np.float64]
Predict = Callable[[Groups], Predictions]
_Learner = Callable[["_Columns", _Floats, Actual, "_Floats | None", int], Callable[[_Floats], _Floats]]


class BaselineScores(msgspec.Struct, frozen=True, kw_only=True):
    """The scores of a baseline, and the seconds that it took. `test` is None until the run is evaluated."""

    seconds: float
    validation: Scores
    test: Scores | None = None


def cells(schema: Schema, rows: int, fits: int) -> int:
    """The cells that trees read at most, for `fits` trainings on `rows` rows each; compare with `MOST_CELLS`.

    That is (rows + 7,000) × columns × trees × fits. There are 100 trees, or 100 for each of more than two classes.
    """
    columns = len(schema.numeric) + len(schema.categorical) + _DATE_PARTS * len(schema.datetime)
    classes = len(schema.outputs.classes or ())
    return (rows + _ROWS_OF_A_TREE) * columns * _TREES * (classes if classes > 2 else 1) * fits


def fit(
    name: str, groups: Groups, targets: Actual, classes: int, weights: Sequence[float] | None = None, seed: int = 0
) -> Predict:
    """Train the baseline called `name` in `BASELINES` on these rows, and return the function that answers other rows.

    `targets` (N,) are indices of `classes` classes, or values if `classes` is 0. The answers are probabilities
    (M, classes) float32 or values (M,). Class `weights` act as in the objective of a network: a row counts as often as
    its class says, and the probabilities have the weights taken out again. A class without rows has the probability 0.
    """
    columns, learn = _Columns(groups), BASELINES[name]
    with _quiet():
        matrix = columns.of(groups)
        if classes:
            return _classifier(learn, columns, matrix, targets, classes, weights, seed)
        unit = float(np.abs(targets).max()) or 1.0  # so that squares of the values do not overflow
        values = targets / unit
        centre, spread = float(values.mean()), float(values.std()) or 1.0
        answer = learn(columns, matrix, (values - centre) / spread, None, seed)

    def answered(rows: Groups) -> Predictions:
        with _quiet():
            answers: _Floats = (answer(columns.of(rows)) * spread + centre) * unit
        return answers

    return answered


def _classifier(
    learn: _Learner,
    columns: "_Columns",
    matrix: _Floats,
    targets: Actual,
    classes: int,
    weights: Sequence[float] | None,
    seed: int,
) -> Predict:
    known, codes = np.unique(targets, return_inverse=True)
    weight = np.ones(classes) if weights is None else np.array(weights)
    only = len(known) == 1  # scikit-learn refuses a single class
    answer = None if only else learn(columns, matrix, codes, None if weights is None else weight[targets], seed)

    def probabilities(rows: Groups) -> Predictions:
        answers = np.zeros((len(rows), classes))
        with _quiet():
            answers[:, known] = 1.0 if answer is None else answer(columns.of(rows))
        answers /= weight
        shares: _Floats = answers / answers.sum(axis=1, keepdims=True)
        return shares.astype(np.float32)

    return probabilities


class _Columns:
    """The columns as one matrix (N, F): numbers and the parts of dates, then a code for each category; NaN = missing.

    Codes count from the most frequent category of the training rows, and a category that these lack has the next code.
    Numbers are divided by the largest of their column, so that no square of them overflows. A column is 0 if all values
    of the training rows are missing.
    """

    def __init__(self, training: Groups) -> None:
        import pandas as pd

        numbers = np.abs(_numbers(training))
        with _quiet():
            largest = np.nanmax(numbers, axis=0, initial=0.0)
        self._largest = np.where(largest > 0, largest, 1.0)
        self.categories: list[Any] = []
        for column in training.categorical.T:
            codes, found = pd.factorize(column[column != ""])
            order = np.argsort(-np.bincount(codes, minlength=len(found)), kind="stable")
            self.categories.append(pd.Index(found[order], dtype=object))
        self.numbers = numbers.shape[1]
        self._empty = np.append(np.isnan(numbers).all(axis=0), [not len(found) for found in self.categories])
        self._empty = self._empty.astype(bool)

    def of(self, rows: Groups) -> _Floats:
        """The matrix of these rows."""
        scaled = np.clip(_numbers(rows) / self._largest, -_LARGEST, _LARGEST)
        codes = np.empty((len(rows), len(self.categories)))
        for place, (column, known) in enumerate(zip(rows.categorical.T, self.categories, strict=True)):
            found = known.get_indexer(column)
            codes[:, place] = np.where(column == "", np.nan, np.where(found < 0, len(known), found))
        matrix = np.hstack([scaled, codes])
        matrix[:, self._empty] = 0
        return matrix


def _numbers(groups: Groups) -> _Floats:
    """Numbers, and for each date-time: seconds, month, day, weekday and second of the day."""
    missing = groups.datetime == MISSING_TIME
    seconds = np.clip(groups.datetime, FIRST_TIME, LAST_TIME)
    days = seconds // _DAY
    dates = days.astype("datetime64[D]")
    months = dates.astype("datetime64[M]")
    parts = (
        seconds,
        months.astype(np.int64) % 12,
        (dates - months.astype("datetime64[D]")).astype(np.int64),
        (days + 3) % 7,
        seconds % _DAY,
    )
    return np.hstack([groups.numeric, *(np.where(missing, np.nan, part) for part in parts)])


def _trees(
    columns: _Columns, matrix: _Floats, targets: Actual, weights: _Floats | None, seed: int
) -> Callable[[_Floats], _Floats]:
    """Gradient boosting. It takes 255 categories of a column, so in columns of more, the rare ones are one."""
    from sklearn.ensemble import HistGradientBoostingClassifier, HistGradientBoostingRegressor

    def merged(rows: _Floats) -> _Floats:
        rows = rows.copy()
        rows[:, columns.numbers :] = np.minimum(rows[:, columns.numbers :], _MOST_CATEGORIES - 1)
        return rows

    classifies = targets.dtype.kind == "i"
    settings: dict[str, Any] = {"random_state": seed}
    if columns.categories:
        settings["categorical_features"] = np.arange(matrix.shape[1]) >= columns.numbers
    if classifies and np.bincount(targets).min() < 2:  # the rows that stop it early are drawn from each class
        settings["early_stopping"] = False
    model = (HistGradientBoostingClassifier if classifies else HistGradientBoostingRegressor)(**settings)
    model.fit(merged(matrix), targets, sample_weight=weights)
    answer = model.predict_proba if classifies else model.predict
    return lambda rows: answer(merged(rows))


def _linear(
    columns: _Columns, matrix: _Floats, targets: Actual, weights: _Floats | None, seed: int
) -> Callable[[_Floats], _Floats]:
    """Logistic or ridge regression, on standardised numbers with the median for missing ones and one-hot categories."""
    from sklearn.compose import ColumnTransformer
    from sklearn.impute import SimpleImputer
    from sklearn.linear_model import LogisticRegression, Ridge
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import OneHotEncoder, StandardScaler

    numbers = make_pipeline(SimpleImputer(strategy="median"), StandardScaler())
    steps: list[tuple[str, Any, slice]] = []
    if columns.numbers:
        steps.append(("numbers", numbers, slice(0, columns.numbers)))
    if columns.categories:
        steps.append(("categories", OneHotEncoder(handle_unknown="ignore"), slice(columns.numbers, None)))
    prepared = ColumnTransformer(steps)
    inputs = prepared.fit_transform(matrix)
    classifies = targets.dtype.kind == "i"
    model = LogisticRegression(max_iter=_MOST_ITERATIONS) if classifies else Ridge()
    model.fit(inputs, targets, sample_weight=weights)
    answer = model.predict_proba if classifies else model.predict
    return lambda rows: answer(prepared.transform(rows))


@contextmanager
def _quiet() -> Iterator[None]:
    """Hide warnings: of iterations that end before they converge, and of numbers that overflow."""
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")
        yield


BASELINES: dict[str, _Learner] = {"trees": _trees, "linear": _linear}
"""The baselines by name, in the order of tables."""
