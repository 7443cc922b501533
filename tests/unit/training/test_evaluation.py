import json
import math

import numpy as np
import pytest

from dle_bundle import documents
from dle_bundle.errors import InputError
from dle_bundle.schema import Outputs
from dle_training.scoring import metrics
from dle_training.scoring.evaluation import Evaluation, defined, evaluate

COLOURS = Outputs(target="colour", task="multiclass", classes=("red", "green", "blue"))
PRICE = Outputs(target="price", task="regression")


def sure(*labels: int, classes: int = 3) -> np.ndarray:
    """Probabilities that answer these labels."""
    return np.where(np.eye(classes, dtype=bool)[list(labels)], 0.9, 0.1 / (classes - 1)).astype(np.float32)


def document(evaluation: Evaluation) -> dict[str, object]:
    decoded: dict[str, object] = json.loads(documents.encode(evaluation), parse_constant=pytest.fail)
    return decoded


def test_classification_has_every_metric_and_the_confusions() -> None:
    actual = np.array([0, 0, 1, 2, 2, 2])
    evaluation = evaluate(COLOURS, actual, sure(0, 1, 1, 2, 2, 0), run="runs/paint")
    assert document(evaluation) == {
        "run": "runs/paint",
        "task": "multiclass",
        "rows": 6,
        "test": metrics.all_scores("multiclass", sure(0, 1, 1, 2, 2, 0), actual),
        "per_class": {
            "red": {"precision": 0.5, "recall": 0.5, "f1": 0.5, "support": 2},
            "green": {"precision": 0.5, "recall": 1.0, "f1": pytest.approx(2 / 3), "support": 1},
            "blue": {"precision": 1.0, "recall": pytest.approx(2 / 3), "f1": pytest.approx(0.8), "support": 3},
        },
        "confusion_matrix": {"labels": ["red", "green", "blue"], "counts": [[1, 1, 0], [0, 1, 0], [1, 0, 2]]},
        "forecast": None,
        "baselines": None,
        "comparison": None,
    }


def test_regression_has_the_same_keys_without_classes() -> None:
    evaluation = evaluate(PRICE, np.array([1.0, 2.0, 4.0]), np.array([1, 3, 4], np.float32), run="runs/houses")
    found = document(evaluation)
    assert found["test"] == {"mae": pytest.approx(1 / 3), "rmse": pytest.approx(3**-0.5), "r2": pytest.approx(11 / 14)}
    assert (found["rows"], found["per_class"], found["confusion_matrix"]) == (3, None, None)


def test_a_class_without_rows_is_null_where_the_rows_cannot_tell() -> None:
    absent = evaluate(COLOURS, np.array([0, 1, 1]), sure(0, 1, 0), run="run").per_class
    assert absent is not None
    assert (absent["blue"].precision, absent["blue"].recall, absent["blue"].f1) == (None, None, None)
    mistaken = evaluate(COLOURS, np.array([0, 1, 1]), sure(0, 1, 2), run="run").per_class
    assert mistaken is not None
    assert (mistaken["blue"].precision, mistaken["blue"].recall, mistaken["blue"].f1) == (0, None, 0)


def test_one_row_is_enough_for_what_one_row_can_tell() -> None:
    evaluation = evaluate(COLOURS, np.array([1]), sure(1), run="run")
    assert evaluation.test["accuracy"] == 1
    assert evaluation.test["roc_auc"] is None
    assert evaluate(PRICE, np.array([3.0]), np.array([3.5]), run="run").test == {"mae": 0.5, "rmse": 0.5, "r2": None}


def test_labels_keep_their_json_type() -> None:
    truth = Outputs(target="left", task="binary", classes=(False, True))
    evaluation = evaluate(truth, np.array([0, 1]), sure(0, 1, classes=2), run="run")
    assert evaluation.confusion_matrix is not None
    assert evaluation.confusion_matrix.labels == (False, True)
    assert list(evaluation.per_class or ()) == ["false", "true"]


def test_what_is_not_finite_is_null() -> None:
    assert defined({"a": math.nan, "b": -math.inf, "c": None, "d": 0.5}) == {"a": None, "b": None, "c": None, "d": 0.5}


def test_no_rows_is_an_input_error() -> None:
    with pytest.raises(InputError, match="no rows to evaluate"):
        evaluate(PRICE, np.array([]), np.array([]), run="run")
