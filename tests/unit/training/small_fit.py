"""A small fit with everything in it that a resumption could get wrong; as a program, it is there to be killed.

python small_fit.py FOLDER CHECKPOINT_SECONDS EPOCH STEP: fits, or continues where FOLDER has a checkpoint, and waits
for its end after STEP of EPOCH.
"""

import signal
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from dle_bundle.schema import Field, Outputs, Schema
from dle_training.config import run_config
from dle_training.config.resolve import resolve
from dle_training.config.run_config import RunConfig
from dle_training.fitting import loop
from dle_training.fitting.batches import PreparedRows
from dle_training.fitting.listeners import Listener
from dle_training.fitting.loop import FitInputs
from dle_training.models._base import Network
from dle_training.models.registry import build
from dle_training.optimization import objectives
from dle_training.preprocessing.shape import InputShape

ROWS, BATCH, EPOCHS = 321, 32, 4  # the last batch would be a single row
STEPS = 10
SCHEMA = Schema(
    inputs=(Field(name="a", kind="numeric", required=True),),
    outputs=Outputs(target="y", task="multiclass", classes=("a", "b", "c")),
)


def problem() -> tuple[objectives.Objective, PreparedRows, PreparedRows, InputShape]:
    """Three classes that depend on two numbers and an embedded category."""
    draw = np.random.default_rng(3)
    dense = draw.normal(size=(ROWS + 80, 5)).astype(np.float32)
    codes = draw.integers(2, 14, size=(ROWS + 80, 1))
    target = np.array(["a", "b", "c"])[(dense[:, 0] + dense[:, 1] > 0).astype(int) + (codes[:, 0] > 9)]
    objective = objectives.fit("multiclass", target[:ROWS], ("a", "b", "c"), "balanced")
    every = PreparedRows({"dense": torch.from_numpy(dense), "codes": torch.from_numpy(codes)}, objective.encode(target))
    counts = tuple(np.bincount(codes[:ROWS, 0], minlength=14).tolist())
    return objective, every.slice(slice(ROWS)), every.slice(slice(ROWS, None)), InputShape(5, (14,), (counts,))


def configured(*assignments: str) -> RunConfig:
    """A small configuration changed by `assignments`, without an open choice."""
    small = [
        "preset=fast",
        "model.hidden=[16, 16]",
        "model.batch_norm=true",
        f"training.batch_size={BATCH}",
        "optimizer.lr=0.01",
    ]
    config = run_config.load(None, [*small, f"training.epochs={EPOCHS}", "device=cpu", *assignments])
    return resolve(config, SCHEMA, ROWS)


def run(folder: Path, *assignments: str, listeners: Sequence[Listener] = ()) -> tuple[Network, loop.FitResult]:
    """Fit into `folder`, or go on with what is there, with `assignments` over a small configuration."""
    config = configured(*assignments)
    objective, train, validation, shape = problem()
    torch.manual_seed(config.seed)
    network = build(config.model, shape, objective.outputs)
    fitted = loop.fit(FitInputs(network, objective, train, validation, config, folder, listeners))
    return network, fitted


class Pause(Listener):
    """Says on standard output what has happened, and waits for a signal after one step."""

    def __init__(self, epoch: int, step: int) -> None:
        self.when = (epoch, step)

    def on_step(self, epoch: int, step: int) -> None:
        if (epoch, step) == self.when:
            print("paused", flush=True)  # noqa: T201
            signal.pause()

    def on_checkpoint(self, path: Path) -> None:
        print("saved", flush=True)  # noqa: T201


if __name__ == "__main__":
    torch.set_num_threads(1)  # as in conftest.py: the order of additions follows the number
    folder, seconds, epoch, step = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
    run(folder, f"training.checkpoint_seconds={seconds}", listeners=[Pause(epoch, step)])
