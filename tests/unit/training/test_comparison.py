"""The sentence says which is ahead, by how much, and when that may be chance."""

import numpy as np

from dle_training.scoring import comparison


def probabilities(right: float, rows: int = 400) -> np.ndarray:
    """Answers for rows of the first of two classes."""
    return np.tile([right, 1 - right], (rows, 1)).astype(np.float32)


def test_the_model_is_ahead_of_the_better_baseline() -> None:
    actual = np.zeros(400, dtype=np.int64)
    others = {"trees": probabilities(0.5), "linear": probabilities(0.7)}
    assert comparison.sentence(actual, probabilities(0.8), others) == (
        "The model is ahead of the linear model: log loss 0.2231 against 0.3567, 37% less"
    )


def test_a_loss_of_nearly_nothing() -> None:
    actual = np.zeros(400, dtype=np.int64)
    said = comparison.sentence(actual, probabilities(0.9999), {"linear": probabilities(0.5)})
    assert said.endswith("more than 99% less")


def test_trees_are_ahead_of_the_model() -> None:
    actual = np.zeros(400, dtype=np.int64)
    others = {"trees": probabilities(0.61), "linear": probabilities(0.5)}
    assert comparison.sentence(actual, probabilities(0.6), others) == (
        "Boosted trees are ahead of the model: log loss 0.4943 against 0.5108, 3.2% less"
    )


def test_a_small_difference_on_few_rows_may_be_chance() -> None:
    draw = np.random.default_rng(0)
    actual = draw.normal(size=30)
    model, trees = actual + draw.normal(size=30), actual + draw.normal(size=30)
    said = comparison.sentence(actual, model, {"trees": trees})
    assert said.endswith(". On 30 rows, such a difference may be chance")
    assert "rmse" in said


def test_a_single_row_is_counted_as_one() -> None:
    actual = np.zeros(1)
    said = comparison.sentence(actual, actual + 1, {"linear": actual + 2})
    assert said.endswith(". On 1 row, such a difference may be chance")


def test_equal_answers_are_level() -> None:
    actual = np.arange(3.0)
    assert comparison.sentence(actual, actual + 1, {"linear": actual + 1}) == (
        "The model and the linear model are level: rmse 1"
    )
