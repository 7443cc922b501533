"""What the first worker's listener posts reaches the command's listeners, call by call."""

import importlib.util
import pickle
from collections.abc import Sequence
from pathlib import Path

import pytest

from dle_bundle.errors import WorkError
from dle_training.fitting.listeners import EpochRecord, Listener, TrainingPlan
from dle_training.scoring import metrics

pytestmark = pytest.mark.skipif(
    not importlib.util.find_spec("ray"), reason="NOT TESTED: messages of Ray's workers; Ray is not installed"
)
RECORD = EpochRecord(
    epoch=1, train_loss=0.5, validation_loss=0.6, metric=0.7, lr=0.01, seconds=2.0, rows_per_second=100.0
)


class Recorder(Listener):
    """Keeps the calls."""

    def __init__(self) -> None:
        self.calls: list[tuple[object, ...]] = []

    def on_start(self, plan: TrainingPlan) -> None:
        self.calls.append(("start", plan.epochs, plan.steps, plan.rows, plan.metric.name))

    def on_step(self, epoch: int, step: int) -> None:
        self.calls.append(("step", epoch, step))

    def on_epoch(self, history: Sequence[EpochRecord], best_epoch: int) -> None:
        self.calls.append(("epoch", history, best_epoch))

    def on_checkpoint(self, path: Path) -> None:
        self.calls.append(("checkpoint", path))


def test_every_message_reaches_its_method_also_from_another_process() -> None:
    from dle_training.distributed import mailbox

    plan = TrainingPlan(3, 10, 320, metrics.choose("accuracy", "binary"), [])
    box, recorder = mailbox.Mailbox(), Recorder()
    for message in (
        mailbox.TrainingBegan(plan),
        mailbox.StepEnded(1, 2),
        mailbox.EpochEnded([RECORD], 1),
        mailbox.StateSaved(Path("last.safetensors")),
    ):
        box.post(pickle.loads(pickle.dumps(message)))  # noqa: S301 - as Ray sends it
    messages, error = box.collect()
    assert error is None
    for message in messages:
        mailbox.deliver(message, recorder)
    assert recorder.calls == [
        ("start", 3, 10, 320, "accuracy"),
        ("step", 1, 2),
        ("epoch", [RECORD], 1),
        ("checkpoint", Path("last.safetensors")),
    ]
    assert box.collect() == ([], None)


def test_the_command_finds_the_error_and_the_workers_find_the_stop() -> None:
    from dle_training.distributed.mailbox import Mailbox

    box, error = Mailbox(), WorkError("the loss is not finite")
    box.fail(error)
    assert box.collect() == ([], error)
    assert not box.is_stopped()
    box.stop()
    assert box.is_stopped()
