"""Permutation importance: an input that the answers do not use has none."""

import numpy as np
import pytest

from dle_bundle.groups import Groups
from dle_bundle.schema import Field, Outputs, Schema
from dle_training.scoring import importance
from dle_training.scoring.metrics import Predictions

ROWS = 3_000


def rows() -> Groups:
    draw = np.random.default_rng(0)
    return Groups(
        numeric=draw.normal(size=(ROWS, 2)),
        categorical=draw.choice(["a", "b"], size=(ROWS, 1)).astype(object),
        datetime=np.zeros((ROWS, 0), np.int64),
    )


def schema(*, classes: bool) -> Schema:
    inputs = (
        Field(name="unused", kind="numeric", required=True),
        Field(name="letter", kind="categorical", required=True, categories=("a", "b")),
        Field(name="used", kind="numeric", required=True),
    )
    if classes:
        return Schema(inputs=inputs, outputs=Outputs(target="y", task="binary", classes=("no", "yes")))
    return Schema(inputs=inputs, outputs=Outputs(target="y", task="regression"))


def test_a_regression_that_uses_two_of_three_inputs() -> None:
    groups = rows()

    def predict(given: Groups) -> Predictions:
        answers: Predictions = 3 * given.numeric[:, 1] + 0.5 * (given.categorical[:, 0] == "a")
        return answers

    found = importance.measure(predict, groups, predict(groups), schema(classes=False))
    assert found is not None
    assert (found.measure, found.rows, found.loss) == ("mae", importance.MOST_ROWS, 0.0)
    assert [each.name for each in found.inputs] == ["used", "letter", "unused"]
    assert found.inputs[2].increase == found.inputs[2].error == 0
    # the mean distance of two draws of a normal distribution is 2/√π of its standard deviation
    assert found.inputs[0].increase == pytest.approx(3 * 2 / np.pi**0.5, rel=0.05)
    assert found.inputs[1].increase == pytest.approx(0.25, rel=0.1)


def test_classes_are_measured_by_the_log_loss() -> None:
    groups = rows()

    def predict(given: Groups) -> Predictions:
        positive = np.where(given.numeric[:, 1] > 0, 0.9, 0.1)
        return np.column_stack([1 - positive, positive])

    actual = (groups.numeric[:, 1] > 0).astype(np.int64)
    found = importance.measure(predict, groups, actual, schema(classes=True))
    assert found is not None
    assert found.measure == "log_loss"
    assert found.loss == pytest.approx(-np.log(0.9))
    assert found.inputs[0].name == "used"
    assert found.inputs[0].increase == pytest.approx(0.5 * np.log(9), rel=0.1)
    assert [each.increase for each in found.inputs[1:]] == [0, 0]


def test_the_rows_themselves_stay_as_they_are() -> None:
    groups = rows()
    before = groups.numeric.copy()
    importance.measure(lambda given: given.numeric[:, 0], groups, groups.numeric[:, 0], schema(classes=False))
    np.testing.assert_array_equal(groups.numeric, before)


def test_a_single_input_or_other_inputs_than_columns_have_no_importance() -> None:
    one = Schema(
        inputs=(Field(name="x", kind="numeric", required=True),), outputs=Outputs(target="y", task="regression")
    )
    picture = Schema(
        inputs=(*one.inputs, Field(name="photo", kind="image", required=True)),
        outputs=Outputs(target="y", task="regression"),
    )
    for each in (one, picture):
        assert importance.measure(lambda given: given.numeric[:, 0], rows(), np.zeros(ROWS), each) is None
