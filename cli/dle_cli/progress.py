"""Training as it goes, on the terminal: epoch, losses, metric, rows a second, time left.

Commands import this module where they work, never at the top: it knows the loop.
"""

import sys
import time
from collections.abc import Sequence

from rich.console import Console as Terminal
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeElapsedColumn

from dle_training.listeners import EpochRecord, Listener, Plan  # noqa: TID253 (see above)

PLAIN_SECONDS = 10.0


class TrainingProgress(Listener):
    """A bar on a terminal; elsewhere a line after the first epoch and then every ten seconds."""

    def __init__(self) -> None:
        self._terminal = Terminal(stderr=True)
        self._bar = Progress(
            TextColumn("[bold]epoch {task.fields[epoch]}/{task.fields[epochs]}"),
            BarColumn(bar_width=24),
            TaskProgressColumn(),
            TextColumn("{task.fields[scores]}"),
            TextColumn("[cyan]{task.fields[rate]}"),
            TimeElapsedColumn(),
            TextColumn("{task.fields[left]}"),
            console=self._terminal,
            transient=True,
            disable=not sys.stderr.isatty(),
        )
        self._said = 0.0

    def on_start(self, plan: Plan) -> None:
        self._plan = plan
        self._begun = time.monotonic()
        self._before = len(plan.history) * plan.steps
        self._task = self._bar.add_task(
            "", total=plan.epochs * plan.steps, completed=self._before, epoch=len(plan.history) + 1,
            epochs=plan.epochs, scores="", rate="", left="",
        )  # fmt: skip
        self._bar.start()

    def on_step(self, epoch: int, step: int) -> None:
        if not self._bar.disable:
            self._bar.update(self._task, completed=(epoch - 1) * self._plan.steps + step, epoch=epoch)

    def on_epoch(self, history: Sequence[EpochRecord], best_epoch: int) -> None:
        record = history[-1]
        scores = (
            f"loss {record.train_loss:.4f}, validation {record.validation_loss:.4f}, "
            f"{self._plan.metric.name} {record.metric:.4f} (best in epoch {best_epoch})"
        )
        rate, left = f"{record.rows_per_second:,.0f} rows/s", self._left(record.epoch)
        if not self._bar.disable:
            self._bar.update(self._task, scores=scores, rate=rate, left=left)
        elif time.monotonic() - self._said >= PLAIN_SECONDS:
            self._said = time.monotonic()
            self._terminal.print(f"epoch {record.epoch}/{self._plan.epochs}: {scores}, {rate}, {left}", soft_wrap=True)

    def on_end(self) -> None:
        self._bar.stop()

    def _left(self, epoch: int) -> str:
        done = epoch * self._plan.steps - self._before
        seconds = (time.monotonic() - self._begun) / done * (self._plan.epochs - epoch) * self._plan.steps
        return f"at most {seconds:.0f} s left"
