"""Learning-rate schedules, one entry for each.

A schedule is a pure function of the progress, so it has no state to save in a checkpoint.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Literal

from msgspec import Meta

from dle_training.settings.base import Count, Settings, chosen


@dataclass(frozen=True, slots=True)
class ScheduleEntry:
    """A schedule that `schedule.name` can choose.

    `gamma` is the default decay factor; None if the schedule does not use one. `factor(config, epoch, epochs)` is the
    factor of the peak learning rate. `epoch` counts passes over the training part, with a fraction for the current
    pass, out of `epochs` passes.
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


def _coslog4(config: "ScheduleConfig", epoch: float, epochs: int) -> float:
    # the first waves are short; the last one takes half of the epochs
    return 0.5 * (1 - math.cos(2 * math.pi * math.log2(1 + 15 * min(epoch / epochs, 1.0))))


SCHEDULES = {
    entry.name: entry
    for entry in (
        ScheduleEntry(
            "cosine",
            "The learning rate follows half a cosine wave from the peak down to final_fraction of it.",
            None,
            _cosine,
        ),
        ScheduleEntry(
            "coslog4",
            "The learning rate rises from 0 to the peak and falls again in four waves, each about twice as long.",
            None,
            _coslog4,
        ),
        ScheduleEntry("constant", "The learning rate stays at the peak.", None, _constant),
        ScheduleEntry("step", "The learning rate is multiplied by gamma after every step_epochs epochs.", 0.3, _step),
        ScheduleEntry(
            "exponential", "The learning rate is multiplied by gamma over the course of each epoch.", 0.9, _exponential
        ),
    )
}


if TYPE_CHECKING:
    ScheduleName = str
else:
    ScheduleName = Literal[tuple(SCHEDULES)]


Regularisation = Literal["constant", "flat_cosine"]


class ScheduleConfig(Settings, frozen=True):
    """How the learning rate, dropout and weight decay change during training."""

    name: Annotated[
        ScheduleName | None,
        Meta(
            description="The schedule; `dle-train --list schedules` lists them; null: cosine, constant for pack, "
            "whose members end by themselves, or coslog4 for realmlp."
        ),
    ] = None
    gamma: Annotated[
        Annotated[float, Meta(gt=0, le=1)] | None,
        Meta(
            description="Decay factor per stage (step) or per epoch (exponential); null: the schedule's default.",
        ),
    ] = None
    step_epochs: Annotated[Count, Meta(description="Length of a stage of step, in epochs.")] = 10
    final_fraction: Annotated[
        float, Meta(ge=0, le=1, description="Final learning rate of cosine, as a fraction of the peak.")
    ] = 0.0
    regularisation: Annotated[
        Regularisation | None,
        Meta(
            description="Dropout and weight decay: constant, or flat_cosine, which leaves them as they are during the "
            "first half and takes them down to 0 during the second; null: flat_cosine for realmlp, else constant."
        ),
    ] = None


def factor(config: ScheduleConfig, epoch: float, epochs: int) -> float:
    """The factor in [0, 1] of the peak learning rate after `epoch` of `epochs`; `config` is resolved."""
    return SCHEDULES[chosen(config.name)].factor(config, epoch, epochs)


def regularisation(config: ScheduleConfig, epoch: float, epochs: int) -> float:
    """The factor in [0, 1] of dropout and weight decay after `epoch` of `epochs`; `config` is resolved."""
    second_half = max(2 * epoch / epochs - 1, 0.0)  # from 0 to 1
    return 1.0 if config.regularisation == "constant" else 0.5 * (1 + math.cos(math.pi * second_half))
