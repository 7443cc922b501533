"""The time of a few steps of a training that is not kept."""

import math
import time
from itertools import pairwise

from msgspec.structs import replace

from dle_training.config.run_config import RunConfig
from dle_training.fitting.listeners import Listener, Stopped

STEPS, _WARM = 12, 3
"""Steps that are made, and how many of the first ones are ignored because they are slower."""


class StepTimes(Listener):
    """Records the time after each step, and raises `Stopped` after `STEPS` steps."""

    def __init__(self) -> None:
        self._times: list[float] = []

    def on_step(self, epoch: int, step: int) -> None:
        self._times.append(time.perf_counter())
        if len(self._times) == STEPS:
            raise Stopped

    @property
    def seconds(self) -> list[float]:
        """Seconds of each step that is not ignored."""
        return [later - earlier for earlier, later in pairwise(self._times[_WARM:])]


def brief(config: RunConfig) -> RunConfig:
    """Settings for `STEPS` steps, by which a training neither ends early, diverges nor saves."""
    training = replace(config.training, epochs=STEPS, patience=0, stop_after=None, checkpoint_seconds=math.inf)
    return replace(config, training=training, optimizer=replace(config.optimizer, lr=1e-6))
