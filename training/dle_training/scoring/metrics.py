"""The scores of a model, under one name everywhere: loop, evaluation, report, bundle and service.

Small parts may lack classes, or hold one row. Rules, so that nothing crashes or warns:
macro averages are over the classes that occur as actual or predicted label (balanced accuracy, ROC AUC and average
precision: as actual label); a ratio 0/0 counts as 0; and a score that has no meaning is None, as a ROC AUC with a
single class or an R² of constant targets is.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from dle_bundle.errors import InputError, nearest
from dle_bundle.schema import Label, Task
from dle_bundle.values.categories import category

Predictions = npt.NDArray[np.floating]  # probabilities (N, classes), or values (N,)
Actual = npt.NDArray[Any]  # class indices (N,), or values (N,)
ECE_BINS = 15
_TINY = float(np.finfo(np.float32).eps)  # probabilities are float32: 0 there means less than this


@dataclass(frozen=True, slots=True)
class Metric:
    """A score: what it says, and whether more of it is better."""

    name: str
    description: str
    higher_is_better: bool
    regression: bool = False

    def better(self, score: float, than: float) -> bool:
        """Whether `score` is strictly the better one."""
        return score > than if self.higher_is_better else score < than


METRICS = {
    metric.name: metric
    for metric in (
        Metric("accuracy", "Fraction of right labels.", True),
        Metric("balanced_accuracy", "Recall averaged over the classes: each class counts alike.", True),
        Metric("precision_macro", "Of the rows given a label, the fraction that has it; class average.", True),
        Metric("recall_macro", "Of the rows that have a label, the fraction given it; class average.", True),
        Metric("f1_macro", "Harmonic mean of precision and recall; class average.", True),
        Metric("f1_weighted", "The same, each class weighted by its number of rows.", True),
        Metric("roc_auc", "Chance that a row of a class ranks above one of another; one-vs-rest average.", True),
        Metric("average_precision", "Area under precision over recall; of the second of two classes.", True),
        Metric("log_loss", "Mean −ln of the actual label's probability: rewards honest probabilities.", False),
        Metric("ece", "Expected calibration error: mean gap of confidence and accuracy, 15 bins.", False),
        Metric("mae", "Mean absolute error, in the target's unit.", False, regression=True),
        Metric(
            "rmse", "Root mean squared error, in the target's unit: large errors weigh most.", False, regression=True
        ),
        Metric("r2", "Fraction of the target's variance that is explained.", True, regression=True),
    )
}


def choose(name: str | None, task: Task) -> Metric:
    """The metric for early stopping; null stands for log_loss or rmse.

    Raises InputError for a metric of the other kind of task.
    """
    if name is None:
        return METRICS["rmse" if task == "regression" else "log_loss"]
    names = [metric.name for metric in METRICS.values() if metric.regression == (task == "regression")]
    if name not in names:
        raise InputError(
            f"training.metric: expected a metric for {task} ({', '.join(names)}), found {name!r}{nearest(name, names)}"
        )
    return METRICS[name]


def score(name: str, predictions: Predictions, actual: Actual) -> float | None:
    """One metric; None where it has no meaning."""
    if METRICS[name].regression:
        return regression(predictions, actual)[name]
    if name == "log_loss":
        return log_loss(predictions, actual)
    if name == "ece":
        return ece(predictions, actual)
    if name in ("roc_auc", "average_precision"):
        return ranking(predictions, actual)[name]
    return labelling(confusion(predictions, actual))[name]


def all_scores(task: Task, predictions: Predictions, actual: Actual) -> dict[str, float | None]:
    """Every metric of the task, in the order of METRICS."""
    if task == "regression":
        return regression(predictions, actual)
    return {
        **labelling(confusion(predictions, actual)),
        **ranking(predictions, actual),
        "log_loss": log_loss(predictions, actual),
        "ece": ece(predictions, actual),
    }


def confusion(probabilities: Predictions, actual: Actual) -> npt.NDArray[np.int64]:
    """Counts (classes, classes): rows = actual, columns = predicted, the most probable class."""
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


def labelling(counts: npt.NDArray[np.int64]) -> dict[str, float | None]:
    """The metrics that need labels alone, from a confusion matrix (rows = actual)."""
    rows, given = counts.sum(axis=1), counts.sum(axis=0)
    occurs = (rows > 0) | (given > 0)
    columns = _precision_recall_f1(counts)
    return {
        "accuracy": float(np.trace(counts) / counts.sum()),
        "balanced_accuracy": float(columns["recall"][rows > 0].mean()),
        "precision_macro": float(columns["precision"][occurs].mean()),
        "recall_macro": float(columns["recall"][occurs].mean()),
        "f1_macro": float(columns["f1"][occurs].mean()),
        "f1_weighted": float(np.average(columns["f1"], weights=rows)),
    }


def _precision_recall_f1(counts: npt.NDArray[np.int64]) -> dict[str, npt.NDArray[np.float64]]:
    right, rows, given = np.diag(counts).astype(np.float64), counts.sum(axis=1), counts.sum(axis=0)
    return {
        "precision": right / np.maximum(given, 1),
        "recall": right / np.maximum(rows, 1),
        "f1": 2 * right / np.maximum(rows + given, 1),
    }


def ranking(probabilities: Predictions, actual: Actual) -> dict[str, float | None]:
    """The metrics that order rows by probability: one-vs-rest, averaged over the classes that occur.

    With two classes the ROC AUC is the same for both, and the average precision is the second class's.
    """
    occurring = np.unique(actual)
    if len(occurring) < 2:
        return {"roc_auc": None, "average_precision": None}
    binary = probabilities.shape[1] == 2
    pairs = [(actual == index, probabilities[:, index]) for index in ([1] if binary else occurring)]
    return {
        "roc_auc": float(np.mean([_roc_auc(*pair) for pair in pairs])),
        "average_precision": float(np.mean([_average_precision(*pair) for pair in pairs])),
    }


def _roc_auc(positive: npt.NDArray[np.bool_], scores: npt.NDArray[np.floating]) -> float:
    """From the ranks of the positive rows (Mann and Whitney, 1947), equal scores sharing theirs."""
    from scipy.stats import rankdata

    count = int(positive.sum())
    above = float(rankdata(scores)[positive].sum()) - count * (count + 1) / 2
    return above / (count * (len(scores) - count))


def _average_precision(positive: npt.NDArray[np.bool_], scores: npt.NDArray[np.floating]) -> float:
    """Mean over the positive rows of the precision at their score: the share of positive rows among all as high."""
    order = np.argsort(-scores, kind="stable")
    found, ranked = np.cumsum(positive[order]), scores[order]
    last = np.append(np.flatnonzero(ranked[1:] != ranked[:-1]), len(ranked) - 1)  # of each score
    gained = np.diff(found[last], prepend=0)
    return float((gained * found[last] / (last + 1)).sum() / found[-1])


def log_loss(probabilities: Predictions, actual: Actual) -> float:
    """Mean of −ln p(actual label), p at least float32's 1.2e-7: no single row can outweigh the rest without bound."""
    chosen = probabilities[np.arange(len(actual)), actual].astype(np.float64)
    return float(-np.log(np.maximum(chosen, _TINY)).mean())


def ece(probabilities: Predictions, actual: Actual) -> float:
    """Expected calibration error: |accuracy − mean confidence| over 15 equal bins of confidence, weighted by rows.

    Confidence is the predicted label's probability (Guo et al., 2017).
    """
    confidence = probabilities.max(axis=1).astype(np.float64)
    right = probabilities.argmax(axis=1) == actual
    bins = np.minimum((confidence * ECE_BINS).astype(np.int64), ECE_BINS - 1)
    gaps = np.bincount(bins, weights=right - confidence, minlength=ECE_BINS)
    return float(np.abs(gaps).sum() / len(actual))


def regression(values: Predictions, actual: Actual) -> dict[str, float | None]:
    """Errors in the target's unit, and R², which is None for constant targets."""
    errors = values.astype(np.float64) - actual
    variance = float(np.var(actual))
    squared = float(np.mean(errors**2))
    return {
        "mae": float(np.abs(errors).mean()),
        "rmse": squared**0.5,
        "r2": 1 - squared / variance if variance > 0 else None,
    }
