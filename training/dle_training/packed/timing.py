"""Measures whether packed training is faster, which depends on the machine, its threads, widths and batch size."""

import math
import tempfile
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import msgspec
import torch

from dle_bundle.errors import DleError, Interrupted
from dle_training.config.run_config import RunConfig
from dle_training.fitting import loop
from dle_training.fitting.listeners import Listener, Stopped
from dle_training.fitting.loop import FitInputs
from dle_training.optimization import objectives
from dle_training.packed.loop import Member, fit
from dle_training.settings.base import chosen

_STEPS, _WARM = 12, 3
"""Measured steps, and how many of the first ones are ignored because they are slower."""


class _Watch(Listener):
    """Records the time after each step, and ends the training after `_STEPS` steps."""

    def __init__(self) -> None:
        self.times: list[float] = []

    def on_step(self, epoch: int, step: int) -> None:
        self.times.append(time.perf_counter())
        if len(self.times) == _STEPS:
            raise Stopped

    def seconds(self) -> float:
        """Seconds of the fastest step, which other work on the machine disturbs least."""
        return min((later - earlier for earlier, later in pairwise(self.times[_WARM:])), default=math.inf)


def faster(members: Sequence[Member]) -> bool:
    """Whether a step of all members at once takes less time than their steps one after another.

    Networks like theirs make a few steps on their rows. Nothing is written, and PyTorch's generators keep their states.
    False if a step fails; the training alone then reports the error.
    """
    try:
        return _measured(members)
    except Interrupted:
        raise
    except (DleError, RuntimeError, MemoryError):
        return False


def _measured(members: Sequence[Member]) -> bool:
    together, alone = _Watch(), _Watch()
    with torch.random.fork_rng(), tempfile.TemporaryDirectory() as empty:
        briefs = _briefs(members, Path(empty))
        with suppress(Stopped):
            fit([replace(briefs[0], listeners=[together]), *briefs[1:]])
        config, data = briefs[0].config, briefs[0].data
        with suppress(Stopped):
            objective = objectives.restore(data.objective)
            loop.fit(
                FitInputs(data.network(config), objective, data.train, data.validation, config, Path(empty), [alone])
            )
    return together.seconds() < len(members) * alone.seconds()


def _briefs(members: Sequence[Member], folder: Path) -> list[Member]:
    """The members with rows for a few steps, and settings by which they neither end early, diverge nor save."""
    data = {
        id(each): replace(each, train=each.train.slice(slice(_STEPS * chosen(config.training.batch_size))))
        for config, each in ((member.config, member.data) for member in members)
    }
    return [Member(_brief(member.config), data[id(member.data)], folder) for member in members]


def _brief(config: RunConfig) -> RunConfig:
    change = msgspec.structs.replace
    training = change(
        config.training,
        epochs=_STEPS,
        patience=0,
        checkpoint_seconds=math.inf,
    )
    return change(config, training=training, optimizer=change(config.optimizer, lr=1e-6))
