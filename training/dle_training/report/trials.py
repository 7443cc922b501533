"""The rows of a study's leaderboard, which its report shows too."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec


class TrialRow(msgspec.Struct, frozen=True, kw_only=True):
    """A trial: `point` has its settings that vary, by dotted key.

    `latency` is the time for a single row in milliseconds, and `seconds` is the training time. `on_front` says that no
    other trial has a better score and a lower latency. `stopped` is the score at which a pruned trial was stopped. It
    cannot be compared with other scores. Values that a trial did not reach are None.
    """

    number: int
    state: str
    point: Mapping[str, Any]
    score: float | None = None
    stopped: float | None = None
    sd: float | None = None
    parameters: int | None = None
    seconds: float = 0.0
    latency: float | None = None
    on_front: bool = False
    error: str | None = None

    @property
    def outcome(self) -> str:
        """The state of the trial in words."""
        return "failed" if self.state == "fail" else self.state


@dataclass(frozen=True, slots=True)
class Finalist:
    """One of the best trials, with its scores by further seed, their mean and their standard deviation.

    Without further seeds `scores` is empty and `mean` is the trial's own score. `sd` is None for a single score.
    """

    number: int
    scores: Sequence[float]
    mean: float
    sd: float | None
