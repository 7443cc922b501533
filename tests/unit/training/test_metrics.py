"""Metrics against values worked out by hand, and on parts that lack classes."""

import math

import numpy as np
import pytest
from sklearn import metrics as sklearn_metrics

from dle_bundle.errors import InputError
from dle_training.scoring import metrics

# rows: actual a a b b c, predicted a b b b a
PROBABILITIES = np.array(
    [[0.8, 0.1, 0.1], [0.3, 0.6, 0.1], [0.2, 0.7, 0.1], [0.1, 0.5, 0.4], [0.5, 0.2, 0.3]], dtype=np.float32
)
ACTUAL = np.array([0, 0, 1, 1, 2])


def score(name: str, predictions: metrics.Predictions, actual: metrics.Actual) -> float | None:
    compute = metrics.METRICS[name].score
    assert compute is not None
    return compute(predictions, actual)


def test_labels_by_hand() -> None:
    counts = metrics.confusion(PROBABILITIES, ACTUAL)
    assert counts.tolist() == [[1, 1, 0], [0, 2, 0], [1, 0, 0]]
    scores = metrics.all_scores("multiclass", PROBABILITIES, ACTUAL)
    assert scores["accuracy"] == pytest.approx(3 / 5)
    assert scores["balanced_accuracy"] == scores["recall_macro"] == pytest.approx((1 / 2 + 1 + 0) / 3)
    assert scores["precision_macro"] == pytest.approx((1 / 2 + 2 / 3 + 0) / 3)
    assert scores["f1_macro"] == pytest.approx((1 / 2 + 4 / 5 + 0) / 3)
    assert scores["f1_weighted"] == pytest.approx((2 * 1 / 2 + 2 * 4 / 5 + 0) / 5)
    assert metrics.per_class(["a", "b", True], counts)["b"] == {
        "precision": pytest.approx(2 / 3),
        "recall": 1.0,
        "f1": pytest.approx(0.8),
        "support": 2,
    }
    assert metrics.per_class([1, False, True], counts)["true"]["support"] == 1


def test_probabilities_by_hand() -> None:
    chosen = [0.8, 0.3, 0.7, 0.5, 0.3]
    assert score("log_loss", PROBABILITIES, ACTUAL) == pytest.approx(-sum(map(math.log, chosen)) / 5)
    # 0.8 right; 0.6 wrong and 0.7 right in bins of their own; 0.5 right and 0.5 wrong share one
    assert score("ece", PROBABILITIES, ACTUAL) == pytest.approx((0.2 + 0.6 + 0.3 + 0.0) / 5, abs=1e-6)
    # a: {.8 .3} over {.2 .1 .5}: 5 of 6; b: {.7 .5} over {.1 .6 .2}: 5 of 6; c: .3 over {.1 .1 .1 .4}: 3 of 4
    assert score("roc_auc", PROBABILITIES, ACTUAL) == pytest.approx((5 / 6 + 5 / 6 + 3 / 4) / 3)
    # precision at each hit: a at ranks 1 and 3, b likewise, c at rank 2
    assert score("average_precision", PROBABILITIES, ACTUAL) == pytest.approx((5 / 6 + 5 / 6 + 1 / 2) / 3)


def test_two_classes_score_the_second() -> None:
    second = np.array([0.1, 0.4, 0.35, 0.8])
    probabilities = np.stack([1 - second, second], axis=1)
    scores = metrics.all_scores("multiclass", probabilities, np.array([0, 0, 1, 1]))
    assert scores["roc_auc"] == pytest.approx(0.75)
    assert scores["average_precision"] == pytest.approx((1 + 2 / 3) / 2)


def test_the_field_agrees() -> None:
    draw = np.random.default_rng(0)
    logits = draw.normal(size=(300, 4))
    probabilities = (np.exp(logits) / np.exp(logits).sum(1, keepdims=True)).astype(np.float32)
    actual = draw.integers(0, 4, 300)
    predicted = probabilities.argmax(1)
    scores = metrics.all_scores("multiclass", probabilities, actual)
    reference = {
        "accuracy": sklearn_metrics.accuracy_score(actual, predicted),
        "balanced_accuracy": sklearn_metrics.balanced_accuracy_score(actual, predicted),
        "precision_macro": sklearn_metrics.precision_score(actual, predicted, average="macro"),
        "recall_macro": sklearn_metrics.recall_score(actual, predicted, average="macro"),
        "f1_macro": sklearn_metrics.f1_score(actual, predicted, average="macro"),
        "f1_weighted": sklearn_metrics.f1_score(actual, predicted, average="weighted"),
        "roc_auc": np.mean([sklearn_metrics.roc_auc_score(actual == k, probabilities[:, k]) for k in range(4)]),
        "log_loss": sklearn_metrics.log_loss(actual, probabilities),
    }
    for name, value in reference.items():
        assert scores[name] == pytest.approx(value, rel=1e-5), name


def test_classes_absent_from_a_small_part() -> None:
    """Class 3 occurs neither as actual nor as predicted label: it is left out of every average."""
    wide = np.concatenate([PROBABILITIES, np.zeros((5, 1), np.float32)], axis=1)
    assert metrics.all_scores("multiclass", wide, ACTUAL) == metrics.all_scores("multiclass", PROBABILITIES, ACTUAL)
    assert metrics.per_class(list("abcd"), metrics.confusion(wide, ACTUAL))["d"] == {
        "precision": 0.0,
        "recall": 0.0,
        "f1": 0.0,
        "support": 0,
    }


def test_a_single_class_has_no_ranking() -> None:
    scores = metrics.all_scores("multiclass", PROBABILITIES[:1], ACTUAL[:1])
    assert scores["roc_auc"] is None
    assert scores["average_precision"] is None
    assert scores["accuracy"] == scores["balanced_accuracy"] == scores["f1_macro"] == 1.0


def test_log_loss_of_certain_errors_is_bounded() -> None:
    assert score("log_loss", np.array([[1.0, 0.0]], np.float32), np.array([1])) == pytest.approx(15.94, abs=0.01)


def test_regression_by_hand() -> None:
    scores = metrics.all_scores("regression", np.array([1.0, 2.0, 5.0], np.float32), np.array([1.0, 3.0, 3.0]))
    assert scores["mae"] == pytest.approx(1.0)
    assert scores["rmse"] == pytest.approx((5 / 3) ** 0.5)
    assert scores["r2"] == pytest.approx(1 - 5 / (8 / 3))


def test_r2_of_constant_targets_has_no_meaning() -> None:
    assert score("r2", np.array([1.0, 2.0]), np.array([3.0, 3.0])) is None


def test_direction() -> None:
    assert metrics.METRICS["accuracy"].better(0.9, 0.8)
    assert metrics.METRICS["log_loss"].better(0.1, 0.2)
    assert not metrics.METRICS["rmse"].better(0.1, 0.1)
    assert {name for name, metric in metrics.METRICS.items() if not metric.higher_is_better} == {
        "log_loss",
        "ece",
        "mae",
        "rmse",
        "loss",
    }


def test_the_metric_must_suit_the_task() -> None:
    assert metrics.choose(None, "binary").name == "log_loss"
    assert metrics.choose(None, "binary", weighted=True).name == "loss"
    assert metrics.choose("accuracy", "binary", weighted=True).name == "accuracy"
    assert metrics.choose("loss", "regression").name == "loss"
    assert metrics.choose(None, "regression").name == "rmse"
    assert metrics.choose("roc_auc", "multiclass").name == "roc_auc"
    with pytest.raises(InputError, match="expected a metric for regression"):
        metrics.choose("accuracy", "regression")
    with pytest.raises(InputError, match="expected a metric for binary"):
        metrics.choose("rmse", "binary")


def test_unknown_values_do_not_count() -> None:
    actual = np.array([[1.0, np.nan], [3.0, 5.0]])
    scores = metrics.all_scores("regression", np.array([[2.0, 100.0], [3.0, 4.0]]), actual)
    assert scores == metrics.all_scores("regression", np.array([2.0, 3.0, 4.0]), np.array([1.0, 3.0, 5.0]))
