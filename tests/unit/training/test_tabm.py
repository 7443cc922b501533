"""The model family `tabm`: heads are networks of their own, learn by their own loss, and answer together."""

import os
import signal
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Literal

import numpy as np
import pytest
import torch
from tests import people
from torch import Tensor
from torch.nn import functional as F

from dle_bundle.errors import Interrupted
from dle_bundle.groups import Groups
from dle_bundle.schema import Field, Kind, Outputs, Schema, Task
from dle_training.config import run_config
from dle_training.export.bundle import export_run
from dle_training.fitting.listeners import Listener
from dle_training.models._base import mean_answer, parts
from dle_training.models.tabm import NumberEmbeddings, SharedLinear, Tabm, TabmConfig
from dle_training.optimization import objectives
from dle_training.preprocessing import pipeline
from dle_training.preprocessing.settings import PreprocessingConfig
from dle_training.preprocessing.shape import Bins, InputShape
from dle_training.runs import evaluate, prepare, train

SHAPE = InputShape(9, (6,), ((0, 3, 1, 1, 1, 1),), bins=(Bins(0, 3, 4), Bins(2, 7, 2)))
SMALL = TabmConfig(heads=3, width=8, blocks=2, number_dim=4, embedding_dim=5)
ROWS = {"dense": torch.randn(7, 9), "codes": torch.randint(2, 6, (7, 1))}


def made(outputs: int = 2, shape: InputShape = SHAPE, settings: TabmConfig = SMALL) -> Tabm:
    """A network without dropout whose adapters and biases all differ."""
    network = Tabm(settings, shape, outputs, dropout=0.0)
    for parameter in network.parameters():
        parameter.data += 0.3 * torch.randn_like(parameter)
    return network


def layers(network: Tabm) -> list[SharedLinear]:
    return [layer for layer in network.layers if isinstance(layer, SharedLinear)]


def alone(network: Tabm, head: int) -> Tensor:
    """What one head answers to `ROWS`, computed as a network of its own: ((x ⊙ r) W) ⊙ s + b in each layer."""
    units = network._features(ROWS)
    for layer in layers(network):
        units = F.relu((units * layer.before[head]) @ layer.matrix * layer.after[head] + layer.bias[head])
    return units @ network.weight[head] + network.bias[head]


def test_heads_are_networks_of_their_own() -> None:
    network = made()
    answers = network.train()(ROWS)
    assert answers.shape == (3, 7, 2)
    torch.testing.assert_close(answers, torch.stack([alone(network, head) for head in range(3)]))
    assert (answers[0] - answers[1]).abs().max() > 0.01


@pytest.mark.parametrize("outputs", [1, 3])
def test_the_mean_of_their_probabilities_answers(outputs: int) -> None:
    network = made(outputs)
    each = network.train()(ROWS)
    answer = network.eval()(ROWS)
    if outputs == 1:
        torch.testing.assert_close(torch.sigmoid(answer), torch.sigmoid(each).mean(dim=0))
    else:
        torch.testing.assert_close(torch.softmax(answer, 1), torch.softmax(each, 2).mean(dim=0))


def test_values_are_averaged_as_such() -> None:
    network = Tabm(SMALL, SHAPE, 1, dropout=0.0, probabilities=False)
    torch.testing.assert_close(network.train()(ROWS).mean(dim=0), network.eval()(ROWS))


def test_many_heads_are_computed_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    network = made().eval()
    whole = network(ROWS)
    monkeypatch.setattr(network, "_parts", parts(network.heads, [1_024]))  # two heads at once
    torch.testing.assert_close(network(ROWS), whole)


@pytest.mark.parametrize(
    ("task", "classes", "weights"),
    [
        ("binary", ("a", "b"), None),
        ("binary", ("a", "b"), "balanced"),
        ("multiclass", ("a", "b", "c"), None),
        ("multiclass", ("a", "b", "c"), "balanced"),
        ("regression", None, None),
    ],
)
def test_the_loss_is_the_mean_of_the_losses_of_the_heads(
    task: Task, classes: Sequence[str] | None, weights: Literal["balanced"] | None
) -> None:
    draw = np.random.default_rng(0)
    target = draw.normal(size=30)
    if classes is not None:
        target = np.array(classes)[np.minimum(draw.geometric(0.7, 30), len(classes)) - 1]
    objective = objectives.fit(task, target, classes, weights)
    targets = objective.encode(target)
    outputs = 3 * torch.randn(4, 30, objective.outputs)
    losses = torch.stack([objective.loss(head, targets) for head in outputs])
    torch.testing.assert_close(objective.loss(outputs, targets), losses.mean())
    answer = mean_answer(outputs, probabilities=classes is not None)
    assert objective.loss(answer, targets) < losses.mean() - 0.1, "another number, by which heads must not learn"


def test_a_head_learns_as_if_the_others_were_not_there() -> None:
    """The gradient of a head's own weights does not depend on the other heads' answers."""
    objective = objectives.fit("binary", np.array(["a", "b"]), ("a", "b"))
    targets = torch.tensor([0, 1, 1, 0, 1, 0, 0])
    network = made(1).train()
    gradients = []
    for shift in (0.0, 5.0):
        network.bias.data[1:] += shift
        network.zero_grad()
        objective.loss(network(ROWS), targets).backward()  # type: ignore[no-untyped-call]
        assert network.weight.grad is not None
        gradients.append(network.weight.grad.clone())
    torch.testing.assert_close(gradients[0][0], gradients[1][0])
    assert (gradients[0][1] - gradients[1][1]).abs().max() > 1e-3


def test_heads_differ_at_first_by_one_factor_for_each_column() -> None:
    def first(shape: InputShape) -> Tensor:
        network = Tabm(TabmConfig(heads=200, width=8, number_dim=4, embedding_dim=5), shape, 1, dropout=0.0)
        for layer in layers(network):
            assert torch.equal(layer.after, torch.ones_like(layer.after))
            assert torch.equal(layer.bias, layer.bias[:1].expand_as(layer.bias))
        assert all(torch.equal(layer.before, torch.ones_like(layer.before)) for layer in layers(network)[1:])
        return layers(network)[0].before.detach()

    factors = first(SHAPE)  # two numbers of 4, one plain column, one category of 5
    assert factors.shape == (200, 4 + 4 + 1 + 5)
    for start, stop in ((0, 4), (4, 8), (9, 14)):
        assert (factors[:, start:stop] == factors[:, start : start + 1]).all()
    assert factors[:, 0].std().item() == pytest.approx(1, abs=0.2)
    assert (factors[:, 0] != factors[:, 4]).all()
    assert set(first(InputShape(3)).flatten().tolist()) == {-1.0, 1.0}, "without bins"


def test_a_number_begins_as_a_line_and_may_learn_a_curve() -> None:
    embeddings = NumberEmbeddings((Bins(0, 2, 3), Bins(1, 5, 1)), dimension=2)
    dense = torch.zeros(3, 6)
    dense[:, 0] = torch.tensor([0.0, 1.0, 2.0])
    dense[:, 2:5] = torch.tensor([[0.0, 0, 0], [1, 0.5, 0], [1, 1, 1]])
    dense[:, 5] = 1
    line = embeddings(dense)
    torch.testing.assert_close(line[2] - line[1], line[1] - line[0])
    embeddings.weight.data[0, 2] = 4.0  # of the second bin
    embeddings.weight.data[1, 2:] = 100.0  # of bins that the other number does not have
    torch.testing.assert_close(embeddings(dense) - line, torch.tensor([[0.0, 0, 0, 0], [2, 2, 0, 0], [4, 4, 0, 0]]))


def test_preprocessing_tells_where_the_bins_are() -> None:
    """Behind numbers, truth values and indicators of missing values; a constant column has none."""
    draw = np.random.default_rng(0)
    numbers = draw.normal(size=(40, 4))
    numbers[:5, 0], numbers[:, 1], numbers[:, 2] = np.nan, draw.integers(0, 2, 40), 7.0
    kinds: tuple[Kind, ...] = ("numeric", "boolean", "numeric", "numeric")
    fields = tuple(Field(name=f"x{place}", kind=kind, required=False) for place, kind in enumerate(kinds))
    schema = Schema(inputs=fields, outputs=Outputs(target="y", task="regression"))
    rows = Groups(numbers, np.empty((40, 0), object), np.empty((40, 0), np.int64))
    settings = PreprocessingConfig(numeric="standard", signs=False, piecewise_bins=4, quantiles=True)
    preprocessing, _ = pipeline.fit(schema, rows, settings)
    shape = preprocessing.shape(frequencies=False)
    assert shape.bins == (Bins(0, 5, 4), Bins(3, 9, 4))
    dense = preprocessing.prepare(rows)["dense"].double().numpy()
    for bins in shape.bins:
        filled = dense[:, bins.start : bins.start + bins.count].sum(axis=1)
        order = np.argsort(dense[:, bins.column])
        assert (np.diff(filled[order]) >= 0).all()
        assert (filled.min(), filled.max()) == (0, 4)


def test_a_nearly_constant_column_does_not_carry_answers_away() -> None:
    """Its bins are 1e-8 wide; a value far outside of them fills them, and no more."""
    draw = np.random.default_rng(0)
    numbers = np.column_stack([1 + 1e-8 * draw.normal(size=400), draw.normal(size=400)])
    schema = Schema(
        inputs=tuple(Field(name=name, kind="numeric", required=True) for name in "ab"),
        outputs=Outputs(target="y", task="regression"),
    )
    none = np.empty((400, 0))
    rows = Groups(numbers, none.astype(object), none.astype(np.int64))
    settings = PreprocessingConfig(numeric="standard", signs=False, piecewise_bins=48, quantiles=False)
    preprocessing, _ = pipeline.fit(schema, rows, settings)
    network = made(1, preprocessing.shape(frequencies=False)).eval()
    far = np.tile([[1.0, 0.0], [1 - 1e-3, 0], [2, 0], [-1e30, 0], [1e300, 0]], (1, 1))
    few = Groups(far, none[:5].astype(object), none[:5].astype(np.int64))
    answers = network(preprocessing.prepare(few)).flatten()
    usual = network(preprocessing.prepare(rows)).flatten()
    assert (answers - usual.mean()).abs().max() < 20 * usual.std()


def test_interrupted_training_ends_in_the_same_weights(small_fit: SimpleNamespace, tmp_path: Path) -> None:
    class Press(Listener):
        def on_step(self, epoch: int, step: int) -> None:
            if (epoch, step) == (2, 4):
                os.kill(os.getpid(), signal.SIGINT)

    settings = ["model.name=tabm", "model.tabm={heads: 3, width: 8}", "model.dropout=0.2", "training.ema=0.9"]
    whole, _ = small_fit.run(tmp_path / "whole", *settings)
    with pytest.raises(Interrupted):
        small_fit.run(tmp_path / "parts", *settings, listeners=[Press()])
    torch.rand(7)  # as another process would have drawn, or not
    again, _ = small_fit.run(tmp_path / "parts", *settings)
    for (name, one), other in zip(whole.state_dict().items(), again.state_dict().values(), strict=True):
        assert torch.equal(one, other), name


@pytest.mark.e2e
@pytest.mark.parametrize("target", ["buys", "level", "spent"])
def test_the_graph_answers_alike(tmp_path: Path, target: str) -> None:
    source = people.write_people(tmp_path / "people.csv", target=target)
    settings = [f"data.source={source}", f"data.target={target}", "model.name=tabm", "device=cpu", "training.epochs=6"]
    sizes = ["model.tabm={heads: 4, width: 16}", "optimizer.lr=0.01", "preprocessing.piecewise_bins=8"]
    prepared = prepare.prepare(run_config.load(None, [*settings, *sizes]))
    run = prepare.create(tmp_path / "run", prepared)
    scores = train.train(run, prepared).validation
    assert (scores["r2" if target == "spent" else "accuracy"] or 0) > 0.5
    evaluate.evaluate(run)
    assert export_run(run, tmp_path / "bundle").parity.largest_difference < 1e-5
