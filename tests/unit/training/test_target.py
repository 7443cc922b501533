"""Targets: the column, the task, the type of the labels, and what cannot be predicted."""

from datetime import date
from typing import Any, Literal

import numpy as np
import pyarrow as pa
import pytest

from dle_bundle.errors import InputError
from dle_bundle.schema import Outputs
from dle_bundle.values.missing import NA_TEXTS, NA_VALUES
from dle_training.data import target
from dle_training.data.columns.column_settings import ColumnSettings
from dle_training.data.target import Target


def infer(values: Any, task: Literal["classification", "regression"] | None = None) -> Target:
    return target.infer("y", pa.chunked_array([pa.array(values)]), ColumnSettings(NA_VALUES, NA_TEXTS), task)


@pytest.mark.parametrize(
    ("values", "classes", "labels"),
    [
        (["b", "a", None, "b "], ("a", "b"), ["b", "a", None, "b"]),
        ([True, False, None], (False, True), [True, False, None]),
        (["true", "FALSE", "?"], (False, True), [True, False, None]),
        ([2, 1] * 5, (1, 2), [2, 1] * 5),
        ([2.0, 1.0] * 5 + [np.nan], (1, 2), [2, 1] * 5 + [None]),
        (["1", "2.0", "10"] * 5, (1, 2, 10), [1, 2, 10] * 5),
        (["01", "02"] * 5, ("01", "02"), ["01", "02"] * 5),
        (["5 stars", "1 star"] * 5, ("1 star", "5 stars"), ["5 stars", "1 star"] * 5),
        (["5%", "10%"] * 5, ("10%", "5%"), ["5%", "10%"] * 5),
        (["caf\u00e9", "cafe\u0301", "tea"], ("caf\u00e9", "tea"), ["caf\u00e9", "caf\u00e9", "tea"]),
    ],
)
def test_classes_keep_their_type(values: Any, classes: tuple[Any, ...], labels: list[Any]) -> None:
    goal = infer(values)
    assert goal.outputs.classes == classes
    assert [type(label) for label in goal.outputs.classes or ()] == [type(label) for label in classes]
    assert goal.values.tolist() == labels
    assert goal.known.tolist() == [label is not None for label in labels]
    assert goal.outputs.task == ("binary" if len(classes) == 2 else "multiclass")
    assert goal.outputs.positive_class == (classes[1] if len(classes) == 2 else None)


@pytest.mark.parametrize("values", [[0.5, 1.5] * 5, list(range(30)), [1, 2, 1, 2], ["1.5", "2", "NA"]])
def test_regression(values: Any) -> None:
    goal = infer(values)
    assert goal.outputs.task == "regression"
    assert goal.values.dtype == np.float64


def test_the_task_can_be_given() -> None:
    assert infer([1, 2] * 5, "regression").outputs.task == "regression"
    assert infer([1, 2, 1, 2], "classification").outputs.classes == (1, 2)
    assert infer([0.5, 1.5] * 5, "classification").outputs.classes == ("0.5", "1.5")
    assert infer(["1", "2", "-", "-"], "classification").outputs.classes == ("-", "1", "2")
    assert infer(["2024-01-01", "2024-01-02"], "classification").outputs.task == "binary"


@pytest.mark.parametrize("values", [["Jan", "Feb"] * 5, ["20240131", "20240201", "20240301", "20240401", "20240501"]])
def test_dates_may_be_classes(values: list[str]) -> None:
    with pytest.raises(InputError, match=r"if these are classes, set objective\.task=classification$"):
        infer(values)
    assert list(map(str, infer(values, "classification").values)) == values


def test_classes_that_differ_in_case_only_are_said() -> None:
    assert "'Yes' and 'yes' are different categories" in " ".join(infer(["Yes", "yes", "no"]).notes)


def test_notes_on_codes_name_no_kind() -> None:
    assert infer(["007", "7", "8"] * 5).notes[-1] == "y: '007' is read as 7"


def test_whole_numbers_as_classes_are_said() -> None:
    assert "objective.task=regression" in infer([1, 2] * 5).notes[0]


def test_missing_targets_are_counted() -> None:
    assert infer([0.5, None, 1.5, None]).notes == ("y: 2 of 4 rows have no value and were left out",)
    assert infer([0.5, None, 1.5]).notes == ("y: 1 of 3 rows has no value and was left out",)


@pytest.mark.parametrize(
    ("values", "task", "message"),
    [
        ([1, 1, 1], None, r"one value only \(1\)"),
        (["a", "a", None], None, r"one value only \('a'\)"),
        ([None, None], None, "no value in any row"),
        (["a", "b"], "regression", r"numbers with something else in 2 of 2 rows.*objective\.task=classification"),
        ([*map(str, range(9)), "x"], None, r"row 10 'x'.*objective\.task=classification"),
        ([1.0, np.inf], None, "infinite values in 1 of 2 rows: row 2"),
        ([date(2024, 1, 1), date(2024, 1, 2)], None, "date-time is no target"),
        ([index + 0.5 for index in range(30)], "classification", r"30 distinct numbers.*objective\.task=regression"),
        ([[1], [2]], None, "a series is no target"),
    ],
)
def test_no_target(values: Any, task: Literal["classification", "regression"] | None, message: str) -> None:
    with pytest.raises(InputError, match=message):
        infer(values, task)


def test_choose() -> None:
    assert target.choose(["a", "b"], "b", None) == ("b", None)
    assert target.choose(["a", "b"], None, "b") == ("b", None)
    assert target.choose(["a", "Class"], None, None) == ("Class", "Class: taken as the target because of its name")


@pytest.mark.parametrize(
    ("names", "wanted", "message"),
    [
        (["income", "age"], "incom", r"no column 'incom' to predict \(did you mean 'income'\?\)"),
        (["income", "age"], None, "--target"),
        (["label", "class"], None, "--target"),
    ],
)
def test_no_choice(names: list[str], wanted: str | None, message: str) -> None:
    with pytest.raises(InputError, match=message) as caught:
        target.choose(names, wanted, None)
    assert caught.value.details == (f"columns: {', '.join(names)}",)


@pytest.mark.parametrize(
    ("classes", "values", "labels"),
    [
        ((1, 2), ["2", "1.0", " 1 ", ""], [2, 1, 1, None]),
        ((1, 2), [2.0, np.nan], [2, None]),
        ((False, True), ["TRUE", "no", 1], [True, False, True]),
        (("0.5", "1.5"), [0.5, 1.5], ["0.5", "1.5"]),
    ],
)
def test_labels_of_another_table(classes: tuple[Any, ...], values: list[Any], labels: list[Any]) -> None:
    outputs = Outputs(target="y", task="binary", classes=classes)
    column = pa.array([str(value) for value in values] if isinstance(values[0], str) else values)
    found, known = target.labels(pa.chunked_array([column]), outputs)
    assert found.tolist() == labels
    assert known.tolist() == [label is not None for label in labels]


def test_labels_that_the_model_does_not_know() -> None:
    outputs = Outputs(target="y", task="binary", classes=("a", "b"))
    with pytest.raises(InputError, match="1 label that the model does not know; it knows a, b") as caught:
        target.labels(pa.chunked_array([["a", "c", "c"]]), outputs)
    assert caught.value.details == ("'c' in 2 rows",)


def test_class_index() -> None:
    assert target.class_index(np.array(["b", "a"], dtype=object), ("a", "b")).tolist() == [1, 0]
