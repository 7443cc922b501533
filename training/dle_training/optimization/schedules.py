"""How the learning rate changes: pure functions of the progress, which carry no state and so need no checkpoint."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from dle_training.settings.base import Count, Settings


class ScheduleConfig(Settings, frozen=True):
    """How the learning rate changes in the course of training."""

    name: Annotated[
        Literal["cosine", "constant", "step", "exponential"],
        Meta(description="Entry of the schedule registry."),
    ] = "cosine"
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


@dataclass(frozen=True, slots=True)
class ScheduleEntry:
    """A schedule that can be chosen by name.

    `factor(config, gamma, epoch, epochs)` is what the peak learning rate is multiplied by; `epoch` counts the passes
    over the training part that are done, with a fraction within a pass, and `epochs` those that there will be.
    `gamma` is the schedule's own default for `schedule.gamma`, None where it has no use for one.
    """

    name: str
    description: str
    gamma: float | None
    factor: Callable[[ScheduleConfig, float, float, int], float]


def _constant(config: ScheduleConfig, gamma: float, epoch: float, epochs: int) -> float:
    return 1.0


def _step(config: ScheduleConfig, gamma: float, epoch: float, epochs: int) -> float:
    return math.pow(gamma, epoch // config.step_epochs)


def _exponential(config: ScheduleConfig, gamma: float, epoch: float, epochs: int) -> float:
    return math.pow(gamma, epoch)


def _cosine(config: ScheduleConfig, gamma: float, epoch: float, epochs: int) -> float:
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


def resolve(config: ScheduleConfig) -> ScheduleConfig:
    """The configuration with the schedule's own default in the place of a null gamma."""
    if config.gamma is not None:
        return config
    return msgspec.structs.replace(config, gamma=SCHEDULES[config.name].gamma)


def factor(config: ScheduleConfig, epoch: float, epochs: int) -> float:
    """What to multiply the peak learning rate by after `epoch` of `epochs` passes: a number in [0, 1]."""
    return SCHEDULES[config.name].factor(config, resolve(config).gamma or 1.0, epoch, epochs)
