"""Muon: stacks of matrices step as `torch.optim.Muon` steps one by one, and which weights it trains."""

from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from torch import Tensor, nn

from dle_training.fitting.listeners import Listener
from dle_training.models.families import ModelConfig
from dle_training.models.registry import build
from dle_training.optimization import muon, optimizers
from dle_training.optimization.muon import MuonOptions
from dle_training.optimization.optimizers import OptimizerConfig
from dle_training.preprocessing.shape import InputShape

RATES, DECAY = (0.02, 0.05, 0.1), 0.3


def both(shape: tuple[int, ...], options: MuonOptions) -> tuple[Tensor, Tensor]:
    """A stack of matrices after four steps of ours, and the same matrices after four steps of PyTorch's Muon."""
    weights = torch.randn(shape)
    alone = [nn.Parameter(weight.T.clone()) for weight in weights]  # PyTorch's are (d_out, d_in)
    theirs = [
        torch.optim.Muon(
            [weight],
            lr=rate,
            weight_decay=DECAY,
            momentum=options.momentum,
            nesterov=options.nesterov,
            ns_steps=options.ns_steps,
            eps=options.eps,
            adjust_lr_fn=options.adjust_lr_fn,
        )
        for weight, rate in zip(alone, RATES, strict=True)
    ]
    momenta, rates = torch.zeros(shape), torch.tensor(RATES).view(-1, 1, 1)
    for _ in range(4):
        gradients = torch.randn(shape)
        muon.step(weights, gradients, momenta, rates, DECAY, options)
        for weight, gradient, optimizer in zip(alone, gradients, theirs, strict=True):
            weight.grad = gradient.T.clone()
            optimizer.step()  # type: ignore[no-untyped-call]
    return weights, torch.stack([weight.detach().T for weight in alone])


@pytest.mark.parametrize("shape", [(3, 24, 40), (3, 40, 24), (3, 16, 16), (3, 2, 9)])
@pytest.mark.parametrize(
    "options",
    [
        MuonOptions(),
        MuonOptions(adjust_lr_fn="original"),
        MuonOptions(momentum=0.8, nesterov=False),
        MuonOptions(ns_steps=2, eps=30.0),
    ],
)
def test_a_stack_steps_as_its_matrices_alone_in_pytorch(
    shape: tuple[int, ...], options: MuonOptions, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(muon, "_precision", lambda device: torch.float32)
    monkeypatch.setattr(Tensor, "bfloat16", Tensor.clone)  # PyTorch rounds to bfloat16, which hides small differences
    torch.testing.assert_close(*both(shape, options), rtol=1e-5, atol=1e-5)


def test_in_bfloat16_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(muon, "_precision", lambda device: torch.bfloat16)
    torch.testing.assert_close(*both((3, 24, 40), MuonOptions()), rtol=0, atol=0.02)


def test_a_cpu_that_multiplies_bfloat16_slowly_uses_float32(monkeypatch: pytest.MonkeyPatch) -> None:
    for supported, expected in ((True, torch.bfloat16), (False, torch.float32)):
        monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda found=supported: found)
        assert muon._precision(torch.device("cpu")) is expected
        assert muon._precision(torch.device("cuda")) is torch.bfloat16


def test_a_step_is_orthogonal() -> None:
    for shape in ((2, 12, 30), (2, 30, 12)):
        values = torch.linalg.svdvals(muon.orthogonal(torch.randn(shape), ns_steps=5, eps=1e-7))
        assert 0.5 < values.min() < values.max() < 1.5


def test_a_matrix_that_is_not_finite_harms_no_other() -> None:
    weights, gradients = torch.randn(2, 5, 6), torch.randn(2, 5, 6)
    gradients[0, 2, 3] = torch.inf
    muon.step(weights, gradients, torch.zeros(2, 5, 6), 0.1, 0.0, MuonOptions())
    assert not torch.isfinite(weights[0]).all()
    assert torch.isfinite(weights[1]).all()


def test_matrices_between_hidden_layers_step_by_muon_and_all_else_by_adamw() -> None:
    shape = InputShape(3, (12,), ((0, 0, *[9] * 10),))
    network = build(ModelConfig(name="mlp", hidden=(8, 6, 8), batch_norm=True, dropout=0.0), shape, outputs=2)
    names = {weight: name for name, weight in network.named_parameters()}
    assert [names[weight] for weight in network.hidden_matrices()] == [
        "encoders.table.layers.4.weight", "encoders.table.layers.8.weight",
    ]  # fmt: skip
    again = build(ModelConfig(name="mlp", hidden=(8, 6, 8), batch_norm=True, dropout=0.0), shape, outputs=2)
    again.load_state_dict(network.state_dict())
    ours = optimizers.build(OptimizerConfig(name="muon", lr=0.01, beta2=0.999, weight_decay=0.2), network)
    hidden = again.hidden_matrices()
    others = [weight for weight in again.parameters() if all(weight is not each for each in hidden)]
    theirs = [
        torch.optim.Muon(hidden, lr=0.01, weight_decay=0.2, adjust_lr_fn="match_rms_adamw"),
        torch.optim.AdamW(others, lr=0.01, weight_decay=0.2, fused=True),
    ]
    for _ in range(3):
        for one, other in zip(network.parameters(), again.parameters(), strict=True):
            one.grad = torch.randn_like(one)
            other.grad = one.grad.clone()
        ours.step()
        for optimizer in theirs:
            optimizer.step()
    for (name, one), other in zip(network.named_parameters(), again.parameters(), strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=2e-3 if "layers.4" in name or "layers.8" in name else 0)


def test_an_interrupted_training_ends_with_the_same_weights(small_fit: SimpleNamespace, tmp_path: Path) -> None:
    class Killed(Exception):
        pass

    class Kill(Listener):
        reached = False

        def on_step(self, epoch: int, step: int) -> None:
            self.reached = (epoch, step) == (2, 3)

        def on_checkpoint(self, path: Path) -> None:
            if self.reached:
                raise Killed

    settings = ["optimizer.name=muon", "training.checkpoint_seconds=0"]
    whole, _ = small_fit.run(tmp_path / "whole", *settings)
    with pytest.raises(Killed):
        small_fit.run(tmp_path / "again", *settings, listeners=[Kill()])
    resumed, _ = small_fit.run(tmp_path / "again", *settings)
    weights = resumed.state_dict()
    for name, tensor in whole.state_dict().items():
        assert torch.equal(tensor, weights[name]), name
    other, _ = small_fit.run(tmp_path / "adamw")
    assert not torch.equal(other.head.weight, whole.head.weight)
