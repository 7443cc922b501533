"""How the learning rate changes: pure functions of the progress, which carry no state and so need no checkpoint."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Literal

from msgspec import Meta

from dle_training.settings.base import Count, Settings, chosen


@dataclass(frozen=True, slots=True)
class ScheduleEntry:
    """A schedule that `schedule.name` can choose.

    `gamma` is the decay factor where the configuration leaves it open; None: the schedule has no use for one.
    `factor(config, epoch, epochs)` multiplies the peak learning rate. `epoch` counts finished passes over the training
    part, with a fraction within a pass, out of `epochs` passes.
    """

    name: str
    description: str
    gamma: float | None
    factor: Callable[["ScheduleConfig", float, int], float]


def _constant(config: "ScheduleConfig", epoch: float, epochs: int) -> float:
    return 1.0


def _step(config: "ScheduleConfig", epoch: float, epochs: int) -> float:
    return math.pow(chosen(config.gamma), epoch // config.step_epochs)


def _exponential(config: "ScheduleConfig", epoch: float, epochs: int) -> float:
    return math.pow(chosen(config.gamma), epoch)


def _cosine(config: "ScheduleConfig", epoch: float, epochs: int) -> float:
    half_wave = 0.5 * (1 + math.cos(math.pi * min(epoch / epochs, 1.0)))
    return config.final_fraction + (1 - config.final_fraction) * half_wave


SCHEDULES = {
    entry.name: entry
    for entry in (
        ScheduleEntry("cosine", "Half a cosine wave from the peak down to final_fraction of it.", None, _cosine),
        ScheduleEntry("constant", "The peak learning rate throughout.", None, _constant),
        ScheduleEntry("step", "Multiplied by gamma (0.3) after every step_epochs epochs.", 0.3, _step),
        ScheduleEntry("exponential", "Multiplied by gamma (0.9) in the course of each epoch.", 0.9, _exponential),
    )
}


if TYPE_CHECKING:
    ScheduleName = str
else:
    ScheduleName = Literal[tuple(SCHEDULES)]


class ScheduleConfig(Settings, frozen=True):
    """How the learning rate changes in the course of training."""

    name: Annotated[ScheduleName, Meta(description="The schedule; `dle-train --list schedules` lists them.")] = "cosine"
    gamma: Annotated[
        Annotated[float, Meta(gt=0, le=1)] | None,
        Meta(
            description="Decay factor: of each stage (step) or epoch (exponential); null: the schedule's default.",
        ),
    ] = None
    step_epochs: Annotated[Count, Meta(description="Epochs in a stage of step.")] = 10
    final_fraction: Annotated[
        float, Meta(ge=0, le=1, description="Where cosine ends, as a fraction of the peak learning rate.")
    ] = 0.0


def factor(config: ScheduleConfig, epoch: float, epochs: int) -> float:
    """What the peak learning rate of a resolved `config` is multiplied by after `epoch` of `epochs`, in [0, 1]."""
    return SCHEDULES[config.name].factor(config, epoch, epochs)
