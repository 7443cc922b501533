"""How the command and the workers of one training speak to each other: through a mailbox, an actor of Ray.

The first worker posts the events of its training as messages. The command collects them and passes them to the real
listeners. The command itself can only ask the workers to stop. Neither side waits for the other.
"""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ray

from dle_bundle.errors import DleError
from dle_training.fitting.listeners import EpochRecord, Listener, TrainingPlan

LOOK_SECONDS = 0.2
"""Interval at which the command reads the mailbox, and least time between two posted steps."""


@dataclass(frozen=True, slots=True)
class TrainingBegan:
    """The workers begin, or resume."""

    plan: TrainingPlan


@dataclass(frozen=True, slots=True)
class StepEnded:
    """The workers have taken a step."""

    epoch: int
    step: int


@dataclass(frozen=True, slots=True)
class EpochEnded:
    """The workers have validated; the last record is new."""

    history: Sequence[EpochRecord]
    best_epoch: int


@dataclass(frozen=True, slots=True)
class StateSaved:
    """The first worker has written a checkpoint."""

    path: Path


TrainingEvent = TrainingBegan | StepEnded | EpochEnded | StateSaved


def deliver(message: TrainingEvent, listener: Listener) -> None:
    """Call the method of `listener` that `message` stands for. Raises what the listener raises."""
    match message:
        case TrainingBegan(plan):
            listener.on_start(plan)
        case StepEnded(epoch, step):
            listener.on_step(epoch, step)
        case EpochEnded(history, best_epoch):
            listener.on_epoch(history, best_epoch)
        case StateSaved(path):
            listener.on_checkpoint(path)


class Mailbox:
    """The actor. Ray runs it in a process on the command's machine and calls one method at a time."""

    def __init__(self) -> None:
        self._messages: list[TrainingEvent] = []
        self._error: DleError | None = None
        self._stopped = False

    def post(self, message: TrainingEvent) -> None:
        """The first worker adds a message."""
        self._messages.append(message)

    def fail(self, error: DleError) -> None:
        """A worker gives up with an error that new workers would meet as well."""
        self._error = error

    def collect(self) -> tuple[list[TrainingEvent], DleError | None]:
        """The command takes the new messages, and the error if a worker gave up."""
        messages, self._messages = self._messages, []
        return messages, self._error

    def stop(self) -> None:
        """The command asks the workers to stop."""
        self._stopped = True

    def is_stopped(self) -> bool:
        """The first worker asks whether the command wants the workers to stop."""
        return self._stopped


class Poster(Listener):
    """The first worker's listener: it posts messages to `mailbox`, and steps only as often as people can see."""

    def __init__(self, mailbox: Any) -> None:
        self._mailbox = mailbox
        self._posted = 0.0

    def on_start(self, plan: TrainingPlan) -> None:
        self._post(TrainingBegan(plan))

    def on_step(self, epoch: int, step: int) -> None:
        if time.monotonic() - self._posted >= LOOK_SECONDS:
            self._posted = time.monotonic()
            self._post(StepEnded(epoch, step))

    def on_epoch(self, history: Sequence[EpochRecord], best_epoch: int) -> None:
        self._post(EpochEnded(history, best_epoch))

    def on_checkpoint(self, path: Path) -> None:
        self._post(StateSaved(path))

    def on_end(self) -> None:
        ray.get(self._mailbox.is_stopped.remote())  # an actor answers calls in order, so every message has arrived

    def _post(self, message: TrainingEvent) -> None:
        self._mailbox.post.remote(message)


class StopFlag:
    """Says whether the command wants the workers to stop; it asks `mailbox` from time to time."""

    def __init__(self, mailbox: Any) -> None:
        self._mailbox = mailbox
        self._asked = 0.0

    def __call__(self) -> bool:
        if time.monotonic() - self._asked < LOOK_SECONDS:
            return False
        self._asked = time.monotonic()
        return bool(ray.get(self._mailbox.is_stopped.remote()))
