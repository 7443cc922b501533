"""The optimizers: the first step by hand, L2, and that each of them learns."""

import pytest
import torch
from msgspec.structs import replace
from torch import nn

from dle_training.models._base import Network
from dle_training.models.families import ModelConfig
from dle_training.models.registry import build
from dle_training.optimization import optimizers
from dle_training.optimization.optimizers import OptimizerConfig
from dle_training.preprocessing.shape import InputShape


def step(config: OptimizerConfig, value: float, gradient: float, steps: int = 1) -> float:
    network = Network()
    weight = network.weight = nn.Parameter(torch.tensor([value]))
    optimizer = optimizers.build(replace(config, beta2=0.999), network)
    for _ in range(steps):
        weight.grad = torch.tensor([gradient])
        optimizer.step()
    return weight.item()


@pytest.mark.parametrize(
    ("config", "expected"),
    [
        (OptimizerConfig(name="sgd", lr=0.1, weight_decay=0.0), 2 - 0.1 * 3),
        (OptimizerConfig(name="sgd", lr=0.1, weight_decay=0.5), 2 - 0.1 * (3 + 0.5 * 2)),
        (OptimizerConfig(name="adam", lr=0.1, weight_decay=0.0), 2 - 0.1),
        (OptimizerConfig(name="adamw", lr=0.1, weight_decay=0.0), 2 - 0.1),
        (OptimizerConfig(name="adamw", lr=0.1, weight_decay=0.5), 2 * (1 - 0.1 * 0.5) - 0.1),
        (OptimizerConfig(name="muon", lr=0.1, weight_decay=0.5), 2 * (1 - 0.1 * 0.5) - 0.1),
    ],
)
def test_first_step(config: OptimizerConfig, expected: float) -> None:
    assert step(config, 2.0, 3.0) == pytest.approx(expected, rel=1e-5)


def test_momentum() -> None:
    config = OptimizerConfig(name="sgd", lr=0.1, momentum=0.5, weight_decay=0.0)
    assert step(config, 0.0, 1.0, steps=2) == pytest.approx(-0.1 * (1 + 1.5))


def test_l2_of_adam_goes_through_the_gradient() -> None:
    assert step(OptimizerConfig(name="adam", lr=0.1, weight_decay=1.0), 2.0, 0.0) == pytest.approx(1.9)


@pytest.mark.parametrize("name", ["adam", "adamw"])
def test_beta2_decays_the_mean_of_squares(name: str) -> None:
    """With beta2 = 0, each step is divided by the size of its own gradient."""
    network = Network()
    weight = network.weight = nn.Parameter(torch.zeros(1))
    optimizer = optimizers.build(OptimizerConfig(name=name, lr=0.1, beta2=0.0, weight_decay=0.0), network)
    for gradient in (100.0, 1.0):
        weight.grad = torch.tensor([gradient])
        optimizer.step()
    mean = (0.9 * 0.1 * 100 + 0.1) / (1 - 0.9**2)
    assert weight.item() == pytest.approx(-0.1 * (1 + mean), rel=1e-5)


@pytest.mark.parametrize("name", optimizers.OPTIMIZERS)
def test_every_optimizer_learns_at_its_own_rate(name: str) -> None:
    lr = optimizers.OPTIMIZERS[name].lr or 2e-3
    config = OptimizerConfig(name=name, lr=lr, beta2=0.999, weight_decay=1e-4)
    network = build(ModelConfig(name="mlp", hidden=(8, 8), dropout=0.0), InputShape(dense=4), outputs=1)
    optimizer = optimizers.build(config, network)
    X = torch.randn(256, 4)
    y = X @ torch.tensor([[1.0], [-1], [0.5], [0]])
    losses = []
    for _ in range(200):
        loss = nn.functional.mse_loss(network({"dense": X}), y)
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.8 * losses[0]
