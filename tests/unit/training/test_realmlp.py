"""The model family `realmlp`: its embedding, its first weights, its rates, and that it resumes, learns and exports."""

import os
import signal
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tests import people
from tests.configs import resolved

from dle_bundle.errors import Interrupted
from dle_training.config import run_config
from dle_training.export.bundle import export_run
from dle_training.fitting import loop, tensors
from dle_training.fitting.listeners import Listener
from dle_training.fitting.loop import FitInputs
from dle_training.models.dropout import Dropout
from dle_training.models.realmlp import Activation, CosineEmbeddings, RealMlp, RealMlpConfig, ScaledLinear
from dle_training.optimization import objectives
from dle_training.preprocessing.shape import InputShape
from dle_training.runs import evaluate, prepare, train
from dle_training.runs.prepare import Prepared

SHAPE = InputShape(5, (4, 3), ((0, 0, 2, 1), (0, 1, 2)), numbers=3)
SMALL = ["model.name=realmlp", "model.realmlp.hidden=[12, 12]", "device=cpu"]


def test_a_number_becomes_itself_and_mixtures_of_cosines() -> None:
    torch.manual_seed(0)
    embedding = CosineEmbeddings(numbers=2, cosines=5, dimension=4, frequency=0.1)
    numbers = torch.randn(7, 2)
    found = embedding(numbers).view(7, 2, 4)
    torch.testing.assert_close(found[:, :, 0], numbers)
    for row, number in ((3, 0), (5, 1)):
        angles = 2 * torch.pi * numbers[row, number] * embedding.frequency[number] + embedding.phase[number]
        mixed = torch.cos(angles) @ embedding.weight[number] + embedding.bias[number]
        torch.testing.assert_close(found[row, number, 1:], mixed)


def test_the_first_weights_fit_the_training_rows() -> None:
    """Each layer's outputs without biases have standard deviation 1, and its biases put a 0 among the rows."""
    torch.manual_seed(0)
    network = RealMlp(RealMlpConfig(hidden=(64, 32)), SHAPE, outputs=3, dropout=0.5)
    rows = {"dense": torch.randn(500, 5) * 7 + 3, "codes": torch.randint(2, 3, (500, 2))}
    network.initialise(rows)
    units = network._features(rows)
    for layer in network.eval().layers:
        if isinstance(layer, ScaledLinear):
            outputs = layer(units)
            torch.testing.assert_close(outputs.std(dim=0, correction=0), torch.ones(outputs.shape[1]))
            assert (outputs.min(dim=0).values < 0).all()
            assert (outputs.max(dim=0).values > 0).all()
        units = layer(units)


def test_equal_rows_leave_first_weights_of_moderate_size() -> None:
    network = RealMlp(RealMlpConfig(hidden=(8,)), InputShape(2, numbers=2), outputs=1, dropout=0.0)
    network.initialise({"dense": torch.ones(9, 2)})
    assert all(torch.isfinite(parameter).all() and parameter.abs().max() < 1e3 for parameter in network.parameters())


def test_every_parameter_has_its_rate_and_biases_do_not_decay() -> None:
    network = RealMlp(RealMlpConfig(hidden=(8, 8)), SHAPE, outputs=1, dropout=0.0)
    found = {id(parameter): group for group in network.parameter_groups() for parameter in group.parameters}
    assert len(found) == len(list(network.parameters()))
    for name, parameter in network.named_parameters():
        group = found[id(parameter)]
        bias = name.startswith("layers.") and name.endswith(".bias")
        slow = bias or name.startswith("embedding.") or name.endswith(".share")
        assert group.rate == (6.0 if name == "scale" else 0.1 if slow else 1.0), name
        assert group.decays is not bias, name


def test_the_activation_follows_the_task() -> None:
    units = torch.linspace(-2, 2, 5)
    torch.testing.assert_close(Activation(5, regression=False)(units), torch.nn.functional.selu(units))
    mish = Activation(5, regression=True)
    torch.testing.assert_close(mish(units), torch.nn.functional.mish(units))
    mish.share.data.zero_()
    assert torch.equal(mish(units), units)


def test_its_recipe_is_in_the_configuration() -> None:
    config = resolved("model.name=realmlp", task="regression")
    assert (config.optimizer.lr, config.optimizer.beta2, config.optimizer.weight_decay) == (0.2, 0.95, 0.02)
    assert (config.schedule.name, config.schedule.regularisation) == ("coslog4", "flat_cosine")
    assert (config.preprocessing.numeric, config.preprocessing.signs) == ("robust", True)
    assert (config.training.batch_size, config.training.patience, config.objective.clamp) == (256, 0, True)
    assert resolved("model.name=realmlp").optimizer.lr == 0.04
    other = resolved("model.name=mlp", task="regression")
    assert (other.optimizer.beta2, other.optimizer.weight_decay, other.objective.clamp) == (0.999, 1e-4, False)
    assert (other.preprocessing.numeric, other.preprocessing.signs) == ("standard", False)
    assert other.schedule.regularisation == "constant"


def prepared(tmp_path: Path, *settings: str, target: str = "buys") -> Prepared:
    source = people.write_people(tmp_path / "people.csv")
    return prepare.prepare(run_config.load(None, [f"data.source={source}", f"data.target={target}", *SMALL, *settings]))


class Watch(Listener):
    """Notes dropout, rates and decays of each step, and presses Ctrl-C at one."""

    def __init__(self, network: RealMlp, press: tuple[int, int] | None = None) -> None:
        self.network, self.press = network, press
        self.dropped: list[int] = []

    def on_step(self, epoch: int, step: int) -> None:
        self.dropped.append(next(each.dropped for each in self.network.layers if isinstance(each, Dropout)))
        if (epoch, step) == self.press:
            os.kill(os.getpid(), signal.SIGINT)


def fitted(made: Prepared, folder: Path, press: tuple[int, int] | None = None) -> tuple[RealMlp, Watch]:
    data = tensors.make(made.dataset, made.config)
    network = data.network(made.config)
    assert isinstance(network, RealMlp)
    watch = Watch(network, press)
    objective = objectives.restore(data.objective)
    loop.fit(FitInputs(network, objective, data.train, data.validation, made.config, folder, [watch]))
    return network, watch


def test_resumed_in_the_second_half_it_ends_in_the_same_weights(tmp_path: Path) -> None:
    made = prepared(tmp_path, "training.epochs=4", "training.batch_size=32", "model.dropout=0.5")
    whole, watch = fitted(made, tmp_path / "whole")
    half = len(watch.dropped) // 2
    assert len(set(watch.dropped[:half])) == 1, "dropout is flat at first"
    assert sorted(watch.dropped, reverse=True) == watch.dropped
    assert watch.dropped[-1] < 0.01 * watch.dropped[0]
    for place in ((1, 2), (4, 3)):
        with pytest.raises(Interrupted):
            fitted(made, tmp_path / "parts", place)
    resumed, _ = fitted(made, tmp_path / "parts")
    for (name, one), other in zip(whole.state_dict().items(), resumed.state_dict().values(), strict=True):
        assert one.numpy().tobytes() == other.numpy().tobytes(), name


@pytest.mark.parametrize("settings", [[], ["preprocessing.one_hot_limit=2"], ["training.ema=0.9"]])
def test_it_learns_and_is_exported(tmp_path: Path, settings: list[str]) -> None:
    made = prepared(tmp_path, "training.epochs=8", *settings)
    run = prepare.create(tmp_path / "run", made)
    train.train(run, made)
    assert (evaluate.evaluate(run).test["roc_auc"] or 0) > 0.6
    assert export_run(run, tmp_path / "bundle").parity.largest_difference < 1e-5


def test_answers_of_a_regression_stay_within_the_range_of_training(tmp_path: Path) -> None:
    draw = np.random.default_rng(0)
    x = draw.normal(size=400)
    lines = [f"{a},{1000 + 5 * a + b}" for a, b in zip(x, draw.normal(size=400), strict=True)]
    (tmp_path / "line.csv").write_text("\n".join(["x,y", *lines]))
    settings = [f"data.source={tmp_path / 'line.csv'}", "data.target=y", "training.epochs=20", *SMALL]
    made = prepare.prepare(run_config.load(None, settings))
    run = prepare.create(tmp_path / "run", made)
    train.train(run, made)
    model = train.open_model(run)
    groups, target = made.dataset.part("train")
    groups.numeric[:2] = [[1e6], [-1e6]]
    answers: Any = model.predict(groups)
    least, most = float(target.min()), float(target.max())
    assert least <= answers.min() <= answers.max() <= most
    assert (evaluate.evaluate(run).test["r2"] or 0) > 0.8
    assert export_run(run, tmp_path / "bundle").parity.largest_difference < 1e-5
