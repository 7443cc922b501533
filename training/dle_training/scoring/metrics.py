"""The metrics, one entry for each; loop, evaluation, report, bundle and service use the same names.

A small part may lack classes or hold a single row. These rules avoid errors and warnings:
- Macro averages cover the classes that occur as actual or predicted labels. Balanced accuracy, ROC AUC and average
  precision cover the classes that occur as actual labels.
- A ratio 0/0 counts as 0.
- An undefined score is None, for example the ROC AUC of a single class or the R² of constant targets.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import numpy.typing as npt

from dle_bundle.errors import InputError, nearest
from dle_bundle.schema import Label, Task
from dle_bundle.values.categories import category

Predictions = npt.NDArray[np.floating]  # probabilities (N, classes), or values (N,)
Actual = npt.NDArray[Any]  # class indices (N,), or values (N,)
Scores = dict[str, float | None]
"""Scores by the name of their metric; None for an undefined one."""
ECE_BINS = 15
_TINY = float(np.finfo(np.float32).eps)  # probabilities are float32, so 0 means less than this


@dataclass(frozen=True, slots=True)
class Metric:
    """A metric: its description, its direction, and the function that computes it.

    `score(predictions, actual)` takes probabilities (N, classes) and class indices (N,), or values and actual values
    (N,) or (N, horizon), where NaN is unknown and does not count. It returns None if the score is undefined. A metric
    without `score` is the loss itself: it can choose the epoch, but no evaluation reports it.
    """

    name: str
    description: str
    higher_is_better: bool
    score: Callable[[Predictions, Actual], float | None] | None
    regression: bool = False

    def better(self, score: float, than: float) -> bool:
        """Whether `score` is strictly better than `than`."""
        return score > than if self.higher_is_better else score < than


def confusion(probabilities: Predictions, actual: Actual) -> npt.NDArray[np.int64]:
    """Counts (classes, classes): rows are actual classes, columns predicted ones (the most probable class)."""
    classes = probabilities.shape[1]
    pairs = actual.astype(np.int64) * classes + probabilities.argmax(axis=1)
    return np.bincount(pairs, minlength=classes * classes).reshape(classes, classes)


def per_class(classes: Sequence[Label], counts: npt.NDArray[np.int64]) -> dict[str, dict[str, float]]:
    """Precision, recall, f1 and support (rows) of each class, by label as text, from a confusion matrix."""
    columns = _precision_recall_f1(counts)
    support = counts.sum(axis=1)
    names = [category(label) for label in classes]
    return {
        name: {
            **{key: float(column[index]) for key, column in columns.items()},
            "support": int(support[index]),
        }
        for index, name in enumerate(names)
    }


def _precision_recall_f1(counts: npt.NDArray[np.int64]) -> dict[str, npt.NDArray[np.float64]]:
    right, rows, given = np.diag(counts).astype(np.float64), counts.sum(axis=1), counts.sum(axis=0)
    return {
        "precision": right / np.maximum(given, 1),
        "recall": right / np.maximum(rows, 1),
        "f1": 2 * right / np.maximum(rows + given, 1),
    }


def _accuracy(probabilities: Predictions, actual: Actual) -> float:
    return float((probabilities.argmax(axis=1) == actual).mean())


def _balanced_accuracy(probabilities: Predictions, actual: Actual) -> float:
    counts = confusion(probabilities, actual)
    return float(_precision_recall_f1(counts)["recall"][counts.sum(axis=1) > 0].mean())


def _macro(column: str, probabilities: Predictions, actual: Actual) -> float:
    """The mean of a column over the classes that occur as actual or predicted labels."""
    counts = confusion(probabilities, actual)
    occurs = (counts.sum(axis=1) > 0) | (counts.sum(axis=0) > 0)
    return float(_precision_recall_f1(counts)[column][occurs].mean())


def _f1_weighted(probabilities: Predictions, actual: Actual) -> float:
    counts = confusion(probabilities, actual)
    return float(np.average(_precision_recall_f1(counts)["f1"], weights=counts.sum(axis=1)))


def _one_vs_rest(
    score: Callable[[npt.NDArray[np.bool_], npt.NDArray[np.floating]], float],
    probabilities: Predictions,
    actual: Actual,
) -> float | None:
    """The mean of a ranking score over the classes that occur; with two classes the score of the second."""
    occurring = np.unique(actual)
    if len(occurring) < 2:
        return None
    classes = [1] if probabilities.shape[1] == 2 else occurring
    return float(np.mean([score(actual == index, probabilities[:, index]) for index in classes]))


def _roc_auc(positive: npt.NDArray[np.bool_], scores: npt.NDArray[np.floating]) -> float:
    """Computed from the ranks of the positive rows (Mann and Whitney, 1947); equal scores share their mean rank."""
    from scipy.stats import rankdata

    count = int(positive.sum())
    above = float(rankdata(scores)[positive].sum()) - count * (count + 1) / 2
    return above / (count * (len(scores) - count))


def _average_precision(positive: npt.NDArray[np.bool_], scores: npt.NDArray[np.floating]) -> float:
    """Mean over positive rows of the precision at their score: the share of positives among rows scored as high."""
    order = np.argsort(-scores, kind="stable")
    found, ranked = np.cumsum(positive[order]), scores[order]
    last = np.append(np.flatnonzero(ranked[1:] != ranked[:-1]), len(ranked) - 1)  # last row of each score
    gained = np.diff(found[last], prepend=0)
    return float((gained * found[last] / (last + 1)).sum() / found[-1])


def _log_loss(probabilities: Predictions, actual: Actual) -> float:
    return float(log_losses(probabilities, actual).mean())


def log_losses(probabilities: Predictions, actual: Actual) -> npt.NDArray[np.float64]:
    """−ln p(actual label) of each row (N,), with p at least float32's 1.2e-7, which bounds the influence of a row."""
    chosen = probabilities[np.arange(len(actual)), actual].astype(np.float64)
    losses: npt.NDArray[np.float64] = -np.log(np.maximum(chosen, _TINY))
    return losses


def _ece(probabilities: Predictions, actual: Actual) -> float:
    """Expected calibration error: |accuracy − mean confidence| over 15 equal bins of confidence, weighted by rows.

    Confidence is the predicted label's probability (Guo et al., 2017).
    """
    confidence = probabilities.max(axis=1).astype(np.float64)
    right = probabilities.argmax(axis=1) == actual
    bins = np.minimum((confidence * ECE_BINS).astype(np.int64), ECE_BINS - 1)
    gaps = np.bincount(bins, weights=right - confidence, minlength=ECE_BINS)
    return float(np.abs(gaps).sum() / len(actual))


def _errors(values: Predictions, actual: Actual) -> npt.NDArray[np.float64]:
    """The errors of all values (M,) whose actual value is known."""
    return (values.astype(np.float64) - actual)[~np.isnan(actual)]


def _mae(values: Predictions, actual: Actual) -> float:
    return float(np.abs(_errors(values, actual)).mean())


def _rmse(values: Predictions, actual: Actual) -> float:
    return math.sqrt(np.mean(_errors(values, actual) ** 2))


def _r2(values: Predictions, actual: Actual) -> float | None:
    variance = float(np.nanvar(actual))
    return 1 - float(np.mean(_errors(values, actual) ** 2)) / variance if variance > 0 else None


METRICS = {
    metric.name: metric
    for metric in (
        Metric("accuracy", "Fraction of correct labels.", True, _accuracy),
        Metric(
            "balanced_accuracy", "Mean of the classes' recalls: each class counts equally.", True, _balanced_accuracy
        ),
        Metric(
            "precision_macro",
            "Fraction of the rows predicted as a class that belong to it; class average.",
            True,
            partial(_macro, "precision"),
        ),
        Metric(
            "recall_macro",
            "Fraction of the rows of a class that are predicted correctly; class average.",
            True,
            partial(_macro, "recall"),
        ),
        Metric("f1_macro", "Harmonic mean of precision and recall; class average.", True, partial(_macro, "f1")),
        Metric(
            "f1_weighted",
            "Harmonic mean of precision and recall; class average, weighted by the rows of each class.",
            True,
            _f1_weighted,
        ),
        Metric(
            "roc_auc",
            "Probability that a row of a class ranks above a row of another; one-vs-rest average.",
            True,
            partial(_one_vs_rest, _roc_auc),
        ),
        Metric(
            "average_precision",
            "Area under the precision-recall curve; one-vs-rest average, or the second of two classes.",
            True,
            partial(_one_vs_rest, _average_precision),
        ),
        Metric(
            "log_loss",
            "Mean −ln of the actual label's probability: rewards calibration.",
            False,
            _log_loss,
        ),
        Metric("ece", "Expected calibration error: mean gap of confidence and accuracy, 15 bins.", False, _ece),
        Metric("mae", "Mean absolute error, in the target's unit.", False, _mae, regression=True),
        Metric(
            "rmse",
            "Root mean squared error, in the target's unit: large errors weigh most.",
            False,
            _rmse,
            regression=True,
        ),
        Metric("r2", "Fraction of the target's variance that is explained.", True, _r2, regression=True),
        Metric(
            "loss", "The loss that training minimises, with its class weights; it only chooses the epoch.", False, None
        ),
    )
}
if TYPE_CHECKING:
    MetricName = str
else:
    MetricName = Literal[tuple(METRICS)]


def choose(name: str | None, task: Task, *, weighted: bool = False) -> Metric:
    """The metric for early stopping.

    Without a name: log_loss, or rmse for regression; `weighted`, the loss, because of class weights or window scaling.
    Raises InputError for a metric of the other kind of task.
    """
    if name is None:
        return METRICS["loss" if weighted else "rmse" if task == "regression" else "log_loss"]
    names = [metric.name for metric in of(task)]
    if name not in names:
        raise InputError(
            f"training.metric: expected a metric for {task} ({', '.join(names)}), found {name!r}{nearest(name, names)}"
        )
    return METRICS[name]


def of(task: Task) -> list[Metric]:
    """The metrics of a task."""
    regression = task == "regression"
    return [metric for metric in METRICS.values() if metric.score is None or metric.regression == regression]


def all_scores(task: Task, predictions: Predictions, actual: Actual) -> Scores:
    """Every metric of the task but the loss, in the order of METRICS."""
    return {metric.name: metric.score(predictions, actual) for metric in of(task) if metric.score is not None}
