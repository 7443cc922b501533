"""Measures whether packed training is faster, which depends on the machine, its threads, widths and batch size."""

import math
import tempfile
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import torch

from dle_bundle.errors import DleError, Interrupted
from dle_training.fitting import loop
from dle_training.fitting.listeners import Stopped
from dle_training.fitting.loop import FitInputs
from dle_training.fitting.step_times import STEPS, StepTimes, brief
from dle_training.optimization import objectives
from dle_training.packed.loop import Member, fit
from dle_training.settings.base import chosen


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
    together, alone = StepTimes(), StepTimes()
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
    # other work on the machine disturbs the fastest step least
    return min(together.seconds, default=math.inf) < len(members) * min(alone.seconds, default=math.inf)


def _briefs(members: Sequence[Member], folder: Path) -> list[Member]:
    """The members with rows for a few steps, and settings by which they neither end early, diverge nor save."""
    data = {
        id(each): replace(each, train=each.train.slice(slice(STEPS * chosen(config.training.batch_size))))
        for config, each in ((member.config, member.data) for member in members)
    }
    return [Member(brief(member.config), data[id(member.data)], folder) for member in members]
