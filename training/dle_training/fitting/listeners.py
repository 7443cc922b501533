"""Listeners: the training loop calls them after each step, epoch and checkpoint. This file also has the history file.

Progress displays, TensorBoard and the trials of a search are listeners too.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import msgspec

from dle_bundle.files import sync, write_atomic
from dle_training.scoring.metrics import Metric

HISTORY = "history.jsonl"


class EpochRecord(msgspec.Struct, frozen=True, kw_only=True):
    """One line of history.jsonl.

    `epoch` counts from 1. `train_loss` is the mean over the epoch's steps (with dropout, while the weights change), and
    `validation_loss` is the loss of the weights at the end of the epoch. `metric` is the validation score that chooses
    the best epoch. `lr` is the learning rate of the last step. `seconds` includes validation; `rows_per_second` counts
    training only.
    """

    epoch: int
    train_loss: float
    validation_loss: float
    metric: float
    lr: float
    seconds: float
    rows_per_second: float


@dataclass(frozen=True, slots=True)
class TrainingPlan:
    """What the loop is about to train.

    `steps` is the number of steps in an epoch and `rows` the number of training rows. `history` holds the epochs that a
    resumed training has finished already.
    """

    epochs: int
    steps: int
    rows: int
    metric: Metric
    history: Sequence[EpochRecord]


class Stopped(Exception):
    """Raised by a listener in `on_epoch` to end a training that is not worth continuing."""


class Listener:
    """Receives the events of a training. Every method does nothing by default; override the ones that you need.

    Order:
        `on_start` comes first. `on_step` follows each step, `on_epoch` each validation, and `on_checkpoint` each saved
        state. `on_end` comes last.

    Threads:
        All calls come from the thread that trains, and training waits for each of them. Keep `on_step` cheap.

    Ownership:
        A listener observes and changes nothing: it draws no random numbers and keeps no tensor that it can reach. The
        loop owns `history`, which grows; copy what you keep.

    Failures:
        `on_epoch` may raise `Stopped` to end the training. Any other exception also ends it and reaches the caller of
        the loop. In both cases `on_end` is still called.
    """

    def on_start(self, plan: TrainingPlan) -> None:
        """Called before the first step, also when a run is resumed."""

    def on_step(self, epoch: int, step: int) -> None:
        """Called after step number `step` of `plan.steps` in `epoch`; both count from 1."""

    def on_epoch(self, history: Sequence[EpochRecord], best_epoch: int) -> None:
        """Called after validation: the last record of `history` is new, and `best_epoch` is the best epoch so far."""

    def on_checkpoint(self, path: Path) -> None:
        """Called after the state was saved to `path`."""

    def on_end(self) -> None:
        """Called last, also if training ended with an error."""


Listeners = Callable[[str], Sequence[Listener]]
"""The listeners of each training, by its name; the name of the single model of a run is empty."""


def no_listeners(name: str) -> Sequence[Listener]:
    """No training has listeners."""
    return ()


class HistoryFile(Listener):
    """Writes a file with one JSON line per epoch; a resumed run removes the lines of epochs that it repeats."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def on_start(self, plan: TrainingPlan) -> None:
        write_atomic(self.path, _lines(plan.history))

    def on_epoch(self, history: Sequence[EpochRecord], best_epoch: int) -> None:
        with self.path.open("ab") as file:
            file.write(_lines(history[-1:]))

    def on_end(self) -> None:
        # once and not per line: the checkpoint holds the history too, and syncing would dominate small trainings
        if self.path.exists():
            sync(self.path)


def _lines(records: Sequence[EpochRecord]) -> bytes:
    return msgspec.json.Encoder().encode_lines(records)


def read_history(path: Path) -> list[EpochRecord]:
    """The epochs of a history file, without a last line that a full disk or a power failure left incomplete."""
    content = path.read_bytes()
    return msgspec.json.Decoder(EpochRecord).decode_lines(content[: content.rfind(b"\n") + 1])
