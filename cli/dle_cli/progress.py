"""Progress on the terminal: images read; epoch, losses, metric, rows per second and time left of a training.

Commands import this module inside functions, never at the top, because it imports the training loop.
"""

import sys
import time
from collections.abc import Sequence
from types import TracebackType
from typing import Any, Self

from rich.console import Console as Terminal
from rich.progress import BarColumn, Progress, TaskID, TaskProgressColumn, TextColumn, TimeElapsedColumn
from rich.table import Column

# see above
from dle_training.fitting.listeners import EpochRecord, Listener, TrainingPlan  # noqa: TID253
from dle_training.fitting.progress import PLAIN_SECONDS, Pace, duration_text, rate_text, scores_text  # noqa: TID253

WIDE = 100
"""Width of a terminal with room for all fields, in characters."""


class ReadingProgress:
    """Shows how many images have been read: a bar on a terminal, or a line every ten seconds elsewhere."""

    def __init__(self) -> None:
        self._terminal = Terminal(stderr=True)
        self._bar = Progress(
            TextColumn("[bold]reading images", table_column=Column(no_wrap=True)),
            BarColumn(bar_width=24),
            TaskProgressColumn(table_column=Column(no_wrap=True)),
            TextColumn("{task.fields[far]}", table_column=Column(no_wrap=True)),
            console=self._terminal,
            transient=True,
            disable=not sys.stderr.isatty(),
        )
        self._task = self._bar.add_task("", total=None, far="")
        self._begun: float | None = None
        self._done = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bar.stop()

    def __call__(self, done: int, total: int) -> None:
        """Show that `done` of `total` images have been read."""
        now = time.monotonic()
        if self._begun is None or done < self._done:  # the first column of images, or a further one
            self._begun = self._said = now
            self._before = done
            self._bar.start()
        self._done = done
        rate = (done - self._before) / max(now - self._begun, 1e-9)
        far = f"{done:,} of {total:,}"
        if rate:
            far += f" · {rate_text(rate, 'images')} · left {duration_text((total - done) / rate)}"
        if not self._bar.disable:
            self._bar.update(self._task, completed=done, total=total, far=far)
        elif now - self._said >= PLAIN_SECONDS:
            self._said = now
            self._terminal.print(f"reading images: {far}", soft_wrap=True)


class TrainingBars:
    """A bar for each running training, on a terminal."""

    def __init__(self) -> None:
        self.terminal = Terminal(stderr=True)
        self._bars = Progress(
            # only the bar may wrap, so that it shrinks first on a narrow terminal
            TextColumn(
                "[bold]{task.description}epoch {task.fields[epoch]}/{task.fields[epochs]}",
                table_column=Column(no_wrap=True),
            ),
            BarColumn(bar_width=24),
            TaskProgressColumn(table_column=Column(no_wrap=True)),
            TextColumn("{task.fields[scores]}", table_column=Column(no_wrap=True)),
            TextColumn("[cyan]{task.fields[rate]}", table_column=Column(no_wrap=True)),
            *([TimeElapsedColumn(table_column=Column(no_wrap=True))] if self.terminal.width >= WIDE else []),
            TextColumn("{task.fields[left]}", table_column=Column(no_wrap=True)),
            console=self.terminal,
            transient=True,
            disable=not sys.stderr.isatty(),
        )

    @property
    def shown(self) -> bool:
        """Whether the bars are visible: standard error is a terminal."""
        return not self._bars.disable

    def begin(self, what: str, plan: TrainingPlan) -> TaskID:
        """Add a bar."""
        done = len(plan.history)
        task = self._bars.add_task(
            what, total=plan.epochs * plan.steps, completed=done * plan.steps, epoch=done + 1, epochs=plan.epochs,
            scores="", rate="", left="",
        )  # fmt: skip
        self._bars.start()
        return task

    def update(self, task: TaskID, **fields: Any) -> None:
        """Change the fields of a bar."""
        self._bars.update(task, **fields)

    def end(self, task: TaskID) -> None:
        """Remove a bar. Removing the last one frees the terminal."""
        if len(self._bars.tasks) == 1:
            self._bars.stop()
        self._bars.remove_task(task)


class TrainingProgress(Listener):
    """Shows one training: a bar on a terminal; elsewhere a line after the first epoch, then every ten seconds.

    `what` names the training unless it is the single model of a run.
    """

    def __init__(self, bars: TrainingBars, what: str = "") -> None:
        self._bars = bars
        self._what = f"{what}: " if what else ""
        self._said = 0.0

    def on_start(self, plan: TrainingPlan) -> None:
        self._plan = plan
        self._pace = Pace(plan)
        self._task = self._bars.begin(self._what, plan)

    def on_step(self, epoch: int, step: int) -> None:
        if self._bars.shown:
            self._bars.update(self._task, completed=(epoch - 1) * self._plan.steps + step, epoch=epoch)

    def on_epoch(self, history: Sequence[EpochRecord], best_epoch: int) -> None:
        record = history[-1]
        wide = not self._bars.shown or self._bars.terminal.width >= WIDE
        scores = scores_text(history, self._plan.metric.name, best_epoch, wide=wide)
        rate, left = rate_text(record.rows_per_second), self._pace.left(record.epoch)
        if self._bars.shown:
            self._bars.update(self._task, scores=scores, rate=rate, left=left)
        elif time.monotonic() - self._said >= PLAIN_SECONDS:
            self._said = time.monotonic()
            self._bars.terminal.print(
                f"{self._what}epoch {record.epoch}/{self._plan.epochs}: {scores}, {rate}, {left}", soft_wrap=True
            )

    def on_end(self) -> None:
        self._bars.end(self._task)
