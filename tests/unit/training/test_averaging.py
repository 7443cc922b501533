"""The average of the weights: what it follows, that it is validated and kept, and that it survives a stop."""

import os
import signal
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from torch import Tensor

from dle_bundle.errors import Interrupted
from dle_training.fitting import loop
from dle_training.fitting.averaging import WeightAverage
from dle_training.fitting.listeners import EpochRecord, Listener
from dle_training.models._base import Network
from dle_training.models.families import ModelConfig
from dle_training.models.registry import build
from dle_training.preprocessing.shape import InputShape


def network(*, batch_norm: bool = True) -> Network:
    return build(ModelConfig(name="mlp", hidden=(4,), dropout=0.0, batch_norm=batch_norm), InputShape(dense=3), 2)


def test_the_first_steps_are_a_plain_mean_and_the_others_decay() -> None:
    followed = network()
    average = WeightAverage(followed, 0.75)
    bias = followed.get_parameter("head.bias")
    expected = 0.0
    for step in range(1, 8):
        bias.data.fill_(step**2)
        average.follow(step)
        expected += max(0.25, 1 / step) * (step**2 - expected)
        assert average.network.get_parameter("head.bias").tolist() == pytest.approx([expected] * 2)
    assert bias.tolist() == [49.0, 49.0], "the network itself is not changed"
    four = torch.tensor([1.0, 4.0, 9.0, 16.0]).mean()
    assert expected == pytest.approx(float(((four * 0.75 + 25 / 4) * 0.75 + 36 / 4) * 0.75 + 49 / 4))


def test_running_statistics_are_averaged_and_counters_copied() -> None:
    followed = network()
    average = WeightAverage(followed, 0.5)
    (mean,) = (tensor for name, tensor in followed.named_buffers() if name.endswith("running_mean"))
    (seen,) = (tensor for name, tensor in followed.named_buffers() if name.endswith("num_batches_tracked"))
    for step, value in enumerate((2.0, 4.0), start=1):
        mean.fill_(value)
        seen.fill_(step)
        average.follow(step)
    buffers = dict(average.network.named_buffers())
    assert next(tensor for name, tensor in buffers.items() if name.endswith("running_mean")).tolist() == [3.0] * 4
    assert next(tensor for name, tensor in buffers.items() if name.endswith("num_batches_tracked")) == 2


def test_the_average_is_validated_and_becomes_the_model(small_fit: SimpleNamespace, tmp_path: Path) -> None:
    steps: list[dict[str, Tensor]] = []

    class Watch(Listener):
        def on_step(self, epoch: int, step: int) -> None:
            steps.append({name: tensor.detach().clone() for name, tensor in watched.named_parameters()})

    objective, train, validation, shape = small_fit.problem()
    config = small_fit.configured("training.ema=0.9", "model.hidden=[16]", "preprocessing.one_hot_limit=20")
    torch.manual_seed(config.seed)
    watched = build(config.model, shape, objective.outputs)
    inputs = loop.FitInputs(watched, objective, train, validation, config, tmp_path, [Watch()])
    fitted = loop.fit(inputs)
    mean = steps[0]
    for number, weights in enumerate(steps[: fitted.best_epoch * small_fit.STEPS], start=1):
        share = max(0.1, 1 / number)
        mean = {name: mean[name] + share * (weights[name] - mean[name]) for name in mean}
    for name, parameter in watched.named_parameters():
        if "embeddings" not in name:  # rows without training rows are filled in
            torch.testing.assert_close(parameter.detach(), mean[name])
    with torch.inference_mode():
        loss = objective.loss(loop.predict(watched, validation), validation.targets).item()
    assert loss == pytest.approx(fitted.history[fitted.best_epoch - 1].validation_loss)
    loaded = build(config.model, shape, objective.outputs)
    loop.load_best(loaded, tmp_path)
    assert all(torch.equal(one, other) for one, other in zip(loaded.parameters(), watched.parameters(), strict=True))


def test_stopped_and_resumed_ends_in_the_same_average(small_fit: SimpleNamespace, tmp_path: Path) -> None:
    class Press(Listener):
        def __init__(self, *places: tuple[int, int]) -> None:
            self.places = places

        def on_step(self, epoch: int, step: int) -> None:
            if (epoch, step) in self.places:
                os.kill(os.getpid(), signal.SIGINT)

        def on_epoch(self, history: Sequence[EpochRecord], best_epoch: int) -> None:
            if (history[-1].epoch, 0) in self.places:
                os.kill(os.getpid(), signal.SIGINT)

    whole, fitted = small_fit.run(tmp_path / "whole", "training.ema=0.95")
    for place in ((1, 3), (2, 4), (3, 0)):
        with pytest.raises(Interrupted):
            small_fit.run(tmp_path / "parts", "training.ema=0.95", listeners=[Press(place)])
    resumed, again = small_fit.run(tmp_path / "parts", "training.ema=0.95")
    assert again.best_epoch == fitted.best_epoch
    for (name, one), other in zip(whole.state_dict().items(), resumed.state_dict().values(), strict=True):
        assert one.numpy().tobytes() == other.numpy().tobytes(), name
    plain, _ = small_fit.run(tmp_path / "plain")
    assert not torch.equal(plain.state_dict()["head.weight"], whole.state_dict()["head.weight"])
