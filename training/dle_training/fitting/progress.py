"""How far a training is, in words: the parts that all displays of progress share, and plain lines for Python users."""

import math
import sys
import time
from collections.abc import Sequence

from dle_training.fitting.listeners import EpochRecord, Listener, TrainingPlan

PLAIN_SECONDS = 10.0
"""Seconds between two lines where a line cannot be replaced."""


class Pace:
    """The time that a training takes, from now on."""

    def __init__(self, plan: TrainingPlan) -> None:
        self._plan = plan
        self._begun = time.monotonic()
        self._before = len(plan.history) * plan.steps

    def left(self, epoch: int) -> str:
        """Return the time until the last epoch in words, when `epoch` has just ended."""
        done = epoch * self._plan.steps - self._before
        seconds = (time.monotonic() - self._begun) / done * (self._plan.epochs - epoch) * self._plan.steps
        return f"left ≤ {duration_text(seconds)}"


class ProgressLines(Listener):
    """Writes a line about each epoch to standard output, for a notebook, a terminal or a file.

    In a notebook and on a terminal, each line replaces the one before. Elsewhere there is a line after the first epoch,
    then one every ten seconds. `what` names the training unless it is the single model of a run.
    """

    def __init__(self, what: str = "") -> None:
        self._what = f"{what}: " if what else ""
        self._said = 0.0
        self._width = 0

    def on_start(self, plan: TrainingPlan) -> None:
        self._plan = plan
        self._pace = Pace(plan)
        self._replaced = _replaces_lines()

    def on_epoch(self, history: Sequence[EpochRecord], best_epoch: int) -> None:
        now = time.monotonic()
        if not self._replaced and now - self._said < PLAIN_SECONDS:
            return
        self._said = now
        record = history[-1]
        scores = scores_text(history, self._plan.metric.name, best_epoch, wide=True)
        line = (
            f"{self._what}epoch {record.epoch}/{self._plan.epochs}: {scores}, {rate_text(record.rows_per_second)}, "
            f"{self._pace.left(record.epoch)}"
        )
        sys.stdout.write(f"\r{line:<{self._width}}" if self._replaced else f"{line}\n")
        sys.stdout.flush()
        self._width = len(line)

    def on_end(self) -> None:
        if self._replaced and self._width:
            sys.stdout.write("\n")


def _replaces_lines() -> bool:
    """Whether a carriage return on standard output begins the line again. The output of a notebook is no terminal."""
    return sys.stdout.isatty() or type(sys.stdout).__module__.startswith("ipykernel")


def scores_text(history: Sequence[EpochRecord], metric: str, best_epoch: int, *, wide: bool) -> str:
    """The losses, the metric if it differs from the validation loss, and the best epoch if there is room.

    The metrics `loss` and `log_loss` repeat the validation loss, unless classes are weighted. The first epoch decides
    whether the metric is shown: in later epochs the two can differ because log_loss bounds improbable answers.
    """
    first, record = history[0], history[-1]
    repeated = metric in ("loss", "log_loss") and math.isclose(first.metric, first.validation_loss, rel_tol=0.01)
    shown = [f"loss {record.train_loss:.3f}", f"val {record.validation_loss:.3f}"]
    if not repeated:
        shown.append(f"{metric} {record.metric:.3f}")
    if repeated or wide:
        shown.append(f"best {best_epoch}")
    return " · ".join(shown)


def rate_text(rate: float, what: str = "rows") -> str:
    """`950 rows/s`, `31k rows/s`, `1.2M rows/s`."""
    if rate >= 999_500:
        return f"{rate / 1e6:.1f}M {what}/s"
    return f"{rate / 1000:.0f}k {what}/s" if rate >= 9_999.5 else f"{rate:.0f} {what}/s"


def duration_text(seconds: float) -> str:
    """`27 s`, `4:05`, `1:02:03`."""
    whole = round(seconds)
    if whole < 100:
        return f"{whole} s"
    minutes, rest = divmod(whole, 60)
    return f"{minutes}:{rest:02}" if minutes < 60 else f"{minutes // 60}:{minutes % 60:02}:{rest:02}"
