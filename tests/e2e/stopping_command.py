"""A command that saves its state and stops itself (SIGSTOP) at a given step of a training.

python stopping_command.py COMMAND ARGUMENT..., with PAUSE_AT=FOLDER:EPOCHS:STEPS in the environment: the process that
trains in a folder of that name saves and stops after so many epochs and so many steps of the next one. The worker
processes of the command run this file too, so the same holds for them.
"""

import importlib.metadata
import os
import signal
import sys
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from dle_training.fitting import checkpoint, loop
from dle_training.fitting.listeners import HistoryFile
from dle_training.packed import loop as packed_loop

PLACE, EPOCHS, STEPS = os.environ["PAUSE_AT"].split(":")
clock, write = [0.0], checkpoint.write


def on_step(self: HistoryFile, epoch: int, step: int) -> None:
    if f"/{PLACE}/" in str(self.path.absolute()) and (epoch, step) == (int(EPOCHS) + 1, int(STEPS)):
        clock[0] = 1e9  # so it is time to save


def write_and_stop(path: Path, tensors: Any, record: Any) -> None:
    write(path, tensors, record)
    if f"/{PLACE}/" in str(path.absolute()) and (record.epoch, record.step) == (int(EPOCHS), int(STEPS)):
        os.kill(os.getpid(), signal.SIGSTOP)


HistoryFile.on_step = on_step  # type: ignore[assignment, method-assign]
checkpoint.write = write_and_stop
for module in (loop, packed_loop):
    module.time = SimpleNamespace(monotonic=lambda: clock[0], perf_counter=time.perf_counter)  # type: ignore[attr-defined]

if __name__ == "__main__":
    sys.argv = sys.argv[1:]
    (command,) = importlib.metadata.entry_points(group="console_scripts", name=sys.argv[0])
    command.load()()
