"""Those who watch the loop: a progress display, TensorBoard, the history file. They see, and change nothing.

All that they may do is give a training up, by raising `Stopped` after an epoch.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import msgspec

from dle_bundle.files import sync, write_atomic
from dle_training.scoring.metrics import Metric

HISTORY = "history.jsonl"


class EpochRecord(msgspec.Struct, frozen=True, kw_only=True):
    """One line of history.jsonl.

    `epoch` counts from 1. `train_loss` is the mean over the epoch's steps (with dropout, while the weights moved),
    `validation_loss` that of the weights at its end. `metric` is the validation score by which the best epoch is
    chosen. `lr` is the last step's. `seconds` include validation, `rows_per_second` is of training alone.
    """

    epoch: int
    train_loss: float
    validation_loss: float
    metric: float
    lr: float
    seconds: float
    rows_per_second: float


@dataclass(frozen=True, slots=True)
class Plan:
    """What is about to be trained: steps in an epoch, rows in the training part, and the epochs done before."""

    epochs: int
    steps: int
    rows: int
    metric: Metric
    history: Sequence[EpochRecord]


class Stopped(Exception):
    """Raised by a listener after an epoch: this training is not worth going on with."""


class Listener:
    """Does nothing: override what is wanted. Calls come in this order, from the training thread.

    A call per step must be cheap; none may draw random numbers or keep the tensors it can reach.
    """

    def on_start(self, plan: Plan) -> None:
        """Before the first step, also of a resumed run."""

    def on_step(self, epoch: int, step: int) -> None:
        """After a step: `step` of `plan.steps` (from 1) in `epoch` (from 1)."""

    def on_epoch(self, history: Sequence[EpochRecord], best_epoch: int) -> None:
        """After validation: the last record is new, and `best_epoch` is the best so far."""

    def on_checkpoint(self, path: Path) -> None:
        """After the state was saved."""

    def on_end(self) -> None:
        """After the last of these calls, also when training stopped by an error."""


class HistoryFile(Listener):
    """Keeps a file with one JSON line per epoch; a resumed run drops what it does over."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def on_start(self, plan: Plan) -> None:
        write_atomic(self.path, _lines(plan.history))

    def on_epoch(self, history: Sequence[EpochRecord], best_epoch: int) -> None:
        with self.path.open("ab") as file:
            file.write(_lines(history[-1:]))

    def on_end(self) -> None:
        # not line by line: a state on disk has the epochs before it, and small trainings would wait for that most
        if self.path.exists():
            sync(self.path)


def _lines(records: Sequence[EpochRecord]) -> bytes:
    return msgspec.json.Encoder().encode_lines(records)


def read_history(path: Path) -> list[EpochRecord]:
    """The epochs of a history file, less a last line that a full disk or a power failure left unfinished."""
    content = path.read_bytes()
    return msgspec.json.Decoder(EpochRecord).decode_lines(content[: content.rfind(b"\n") + 1])
