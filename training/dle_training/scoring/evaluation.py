"""Evaluation of a model on rows that it has not seen: overall scores, scores per class, and the confusion matrix.

An `Evaluation` is the test part of `metrics.json` and the document that `dle-evaluate --json` prints. It is computed
from plain arrays, so the same code scores a run, a new table and a served bundle. An undefined score is null: the
recall of a class without rows, the precision of a class that was never predicted, the ROC AUC of a single class, the R²
of constant targets. JSON has no NaN, and 0 would look like a bad model.
"""

import math

import msgspec
import numpy as np
import numpy.typing as npt

from dle_bundle.errors import InputError
from dle_bundle.schema import Label, Outputs, Task
from dle_training.scoring import forecasts, metrics
from dle_training.scoring.forecast_baselines import Baselines
from dle_training.scoring.forecasts import ForecastScores
from dle_training.scoring.metrics import Actual, Predictions, Scores


class ClassScores(msgspec.Struct, frozen=True, kw_only=True):
    """The scores of one class against all others; `support` is its number of rows."""

    precision: float | None
    recall: float | None
    f1: float | None
    support: int


class ConfusionMatrix(msgspec.Struct, frozen=True, kw_only=True):
    """`counts[i][j]` is the number of rows of class `labels[i]` for which the model predicted `labels[j]`."""

    labels: tuple[Label, ...]
    counts: tuple[tuple[int, ...], ...]


class Evaluation(msgspec.Struct, frozen=True, kw_only=True):
    """Scores of `run` on `rows` rows.

    Only classification has `per_class` (by label as text) and `confusion_matrix`, and only forecasts have `forecast`.
    `baselines` are the scores of the baselines of a table, by name, and `comparison` says which is ahead.
    """

    run: str
    task: Task
    rows: int
    test: Scores
    per_class: dict[str, ClassScores] | None = None
    confusion_matrix: ConfusionMatrix | None = None
    forecast: ForecastScores | None = None
    baselines: dict[str, Scores] | None = None
    comparison: str | None = None


def evaluate(
    outputs: Outputs, actual: Actual, predicted: Predictions, *, run: str, baselines: Baselines | None = None
) -> Evaluation:
    """Score `predicted` (probabilities (N, K) or values (N,)) against `actual` (class indices or values (N,)).

    `baselines` are those of the rows of a forecast.
    Raises InputError if there are no rows.
    """
    if len(actual) == 0:
        raise InputError(f"{run}: no rows to evaluate on")
    scores = defined(metrics.all_scores(outputs.task, predicted, actual))
    if outputs.classes is None:
        beside = None if baselines is None else forecasts.score(actual, predicted, baselines)
        return Evaluation(run=run, task=outputs.task, rows=len(actual), test=scores, forecast=beside)
    counts = metrics.confusion(predicted, actual)
    return Evaluation(
        run=run,
        task=outputs.task,
        rows=len(actual),
        test=scores,
        per_class=_per_class(outputs.classes, counts),
        confusion_matrix=ConfusionMatrix(labels=outputs.classes, counts=tuple(map(tuple, counts.tolist()))),
    )


def defined(scores: Scores) -> Scores:
    """The same scores, with None in place of values that are not finite."""
    return {name: None if value is None or not math.isfinite(value) else value for name, value in scores.items()}


def _per_class(classes: tuple[Label, ...], counts: npt.NDArray[np.int64]) -> dict[str, ClassScores]:
    given, rows = counts.sum(axis=0), counts.sum(axis=1)
    return {
        name: ClassScores(
            precision=scores["precision"] if given[index] else None,
            recall=scores["recall"] if rows[index] else None,
            f1=scores["f1"] if given[index] or rows[index] else None,
            support=int(rows[index]),
        )
        for index, (name, scores) in enumerate(metrics.per_class(classes, counts).items())
    }
