"""The model family `linear`: what one layer can say, and that it says it as well as scikit-learn's linear models."""

from pathlib import Path

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression, Ridge
from tests import people

from dle_training.config import run_config
from dle_training.export.bundle import export_run
from dle_training.models.linear import Linear
from dle_training.optimization import objectives
from dle_training.preprocessing.shape import InputShape
from dle_training.runs import evaluate, prepare, train

SHAPE = InputShape(2, (4, 3), ((0, 0, 2, 1), (0, 1, 2)))


def test_the_answer_is_a_sum_over_columns_and_categories() -> None:
    linear = Linear(SHAPE, outputs=2)
    assert linear.weight is not None
    assert linear.categories is not None
    linear.bias.data = torch.tensor([1.0, -1.0])
    linear.weight.data = torch.tensor([[1.0, 2.0], [3.0, 4.0]])
    linear.categories.table.data = torch.arange(14.0).view(7, 2)
    rows = {"dense": torch.tensor([[1.0, 10.0]]), "codes": torch.tensor([[3, 1]])}
    assert linear(rows).tolist() == [[1 + 31 + 6 + 10, -1 + 42 + 7 + 11]]


def test_a_category_without_training_rows_counts_as_the_average() -> None:
    linear = Linear(SHAPE, outputs=1)
    assert linear.categories is not None
    linear.categories.table.data = torch.tensor([[9.0], [9], [3], [6], [9], [1], [2]])
    linear.before_evaluation()
    dense = torch.zeros(2, 2)
    unseen = linear({"dense": dense, "codes": torch.tensor([[0, 1], [1, 2]])})
    assert unseen.flatten().tolist() == pytest.approx([4 + 1, 4 + 2])


@pytest.mark.parametrize("name", ["breast_cancer", "iris", "diabetes"])
def test_it_is_close_to_the_linear_models_of_scikit_learn(tmp_path: Path, name: str) -> None:
    settings = [f"data.source=sklearn:{name}", "model.name=linear", "device=cpu"]
    prepared = prepare.prepare(run_config.load(None, settings))
    run = prepare.create(tmp_path / "run", prepared)
    train.train(run, prepared)
    found = evaluate.scores_on_test(run, train.open_model(run))
    data = prepared.dataset
    (inputs, target), (rows, actual) = data.part("train"), data.part("test")
    mean, sd = inputs.numeric.mean(axis=0), inputs.numeric.std(axis=0)
    inputs, rows = (inputs.numeric - mean) / sd, (rows.numeric - mean) / sd
    classes = data.schema.outputs.classes
    if classes is None:
        answers = Ridge().fit(inputs, target).predict(rows)
        assert (found["rmse"] or np.inf) < 1.05 * np.sqrt(np.mean((answers - actual) ** 2))
    else:
        codes = objectives.fit(data.schema.outputs.task, target, classes).encode
        model = LogisticRegression(max_iter=1000).fit(inputs, codes(target))
        own = model.predict_proba(rows)[np.arange(len(rows)), codes(actual)]
        assert (found["log_loss"] or np.inf) < 0.03 - np.log(own).mean()


@pytest.mark.e2e
def test_it_is_exported_with_many_categories(tmp_path: Path) -> None:
    source = people.write_people(tmp_path / "people.csv")
    settings = [f"data.source={source}", "data.target=buys", "model.name=linear", "training.epochs=5", "device=cpu"]
    prepared = prepare.prepare(run_config.load(None, [*settings, "preprocessing.one_hot_limit=2"]))
    run = prepare.create(tmp_path / "run", prepared)
    train.train(run, prepared)
    evaluate.evaluate(run)
    assert export_run(run, tmp_path / "bundle").parity.largest_difference < 1e-5
