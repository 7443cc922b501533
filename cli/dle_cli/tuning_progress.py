"""Progress of a study on the terminal: ended trials, the best so far, running trials, time left.

Commands import this module inside functions, never at the top, because it imports the study.
"""

import sys
import time
from types import TracebackType
from typing import Self

from rich.console import Console as Terminal
from rich.progress import BarColumn, Progress, TaskID, TextColumn
from rich.table import Column

from dle_training.fitting.progress import PLAIN_SECONDS, duration_text  # noqa: TID253 (see above)
from dle_training.search import storage  # noqa: TID253
from dle_training.search.points import Point  # noqa: TID253
from dle_training.search.study import Study  # noqa: TID253
from dle_training.search.trial import Watcher  # noqa: TID253

_ESTIMATE_SECONDS = 1.0
"""Seconds of work after which the time left can be estimated."""


class TuningProgress(Watcher):
    """A bar for the study and one for each running trial; without a terminal, a line every ten seconds."""

    def __init__(self, study: Study, timeout: float | None = None) -> None:
        self._study = study
        self._timeout = timeout
        self._terminal = Terminal(stderr=True)
        self._bar = Progress(
            TextColumn("[bold]{task.description}", table_column=Column(no_wrap=True)),
            BarColumn(bar_width=24),
            TextColumn("{task.fields[far]}", table_column=Column(no_wrap=True)),
            console=self._terminal,
            transient=True,
            disable=not sys.stderr.isatty(),
        )
        with storage.errors_translated("read"):
            trials = study.trials.all()
        self._ended = self._before = sum(trial.state in storage.ENDED for trial in trials)
        self._best: tuple[float, int] | None = None
        self._running: dict[int, TaskID] = {}
        self._epochs: dict[int, int] = {}
        self._shares: dict[int, float] = {}  # the share of its epochs that each running trial has done
        self._given = 0.0  # the sum of the shares that were done before this command
        for trial in trials:
            if trial.state.name == "COMPLETE" and trial.value is not None:
                self._note(trial.number, trial.value)
        self._started = self._said = time.monotonic()
        self._begun: float | None = None
        self._timeout_announced = False
        self._whole = self._bar.add_task("trials", total=study.count, completed=self._ended, far=self._far())
        self._bar.start()

    def on_begin(self, number: int, point: Point, epochs: int) -> None:
        self._epochs[number] = epochs
        if number not in self._running:  # else this process takes over a trial whose process died
            self._running[number] = self._bar.add_task(f"trial {number}", total=epochs, far="")

    def on_epoch(self, number: int, epoch: int, score: float) -> None:
        far = f"epoch {epoch} · {self._study.metric.name} {score:.4g}"
        self._bar.update(self._running[number], completed=epoch, far=far)
        if self._begun is None:  # start-up and the first epoch are slower than the rest
            self._begun = time.monotonic()
            self._given += epoch / self._epochs[number]
        elif number not in self._shares:
            self._given += (epoch - 1) / self._epochs[number]
        self._shares[number] = epoch / self._epochs[number]
        self._announce_timeout()
        self._bar.update(self._whole, far=self._far())
        self._say()

    def on_end(self, number: int, state: str, score: float | None, error: str | None) -> None:
        self._ended += 1
        self._shares.pop(number, None)
        if score is not None:
            self._note(number, score)
        if number in self._running:  # it may have failed before its first epoch
            self._bar.remove_task(self._running.pop(number))
        self._bar.update(self._whole, completed=self._ended, far=self._far())
        if error is not None:
            self._terminal.print(f"trial {number} failed: {error}", soft_wrap=True, markup=False, highlight=False)
        self._say()

    def close(self) -> None:
        self._bar.stop()

    def _announce_timeout(self) -> None:
        """Say once that the time limit is over while trials are still running."""
        if self._timeout is None or self._timeout_announced or time.monotonic() - self._started < self._timeout:
            return
        self._timeout_announced = True
        running = sorted(self._running)
        numbers = f"trial{'s' if len(running) > 1 else ''} {', '.join(map(str, running))}"
        self._terminal.print(
            f"The time limit of {duration_text(self._timeout)} (study.timeout) is over: no further trial starts, and "
            f"{numbers} will be completed",
            soft_wrap=True, markup=False, highlight=False,
        )  # fmt: skip

    def _note(self, number: int, score: float) -> None:
        if self._best is None or self._study.metric.better(score, self._best[0]):
            self._best = (score, number)

    def _far(self) -> str:
        far = f"{self._ended:,} of {self._study.count:,}"
        if self._best is not None:
            far += f" · best {self._study.metric.name} {self._best[0]:.4g} (trial {self._best[1]})"
        spent = 0.0 if self._begun is None else time.monotonic() - self._begun
        running = sum(self._shares.values())
        done = self._ended - self._before + running - self._given
        if done > 0 and spent >= _ESTIMATE_SECONDS:
            each = spent / done
            left = each * (self._study.count - self._ended - running)
            if self._timeout is not None:  # running trials are completed after the time limit
                rest = self._timeout - (time.monotonic() - self._started)
                left = min(left, max(rest, 0) + each * (len(self._running) - running))
            rate = f"{each:.1f} s a trial" if each >= 1 else f"{1 / each:.1f} trials/s"
            far += f" · {rate}"
            if round(left):  # nothing is left once the time limit is over and no trial runs
                far += f" · left ≤ {duration_text(left)}"
        return far

    def _say(self) -> None:
        if self._bar.disable and time.monotonic() - self._said >= PLAIN_SECONDS:
            self._said = time.monotonic()
            self._terminal.print(f"trials: {self._far()}", soft_wrap=True, markup=False, highlight=False)


class LatencyProgress:
    """A bar on a terminal for the architectures that are exported and timed."""

    def __init__(self, *, silent: bool) -> None:
        self._bar = Progress(
            TextColumn("[bold]timing the exported models"),
            BarColumn(bar_width=24),
            TextColumn("{task.completed} of {task.total}"),
            console=Terminal(stderr=True),
            transient=True,
            disable=silent or not sys.stderr.isatty(),
        )
        self._task: TaskID | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bar.stop()

    def __call__(self, done: int, total: int) -> None:
        """Show that `done` of `total` architectures have been timed."""
        if self._task is None:
            self._task = self._bar.add_task("", total=total)
            self._bar.start()
        self._bar.update(self._task, completed=done)
