"""The rows of a study's leaderboard, which its report shows too."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec


class TrialRow(msgspec.Struct, frozen=True, kw_only=True):
    """A trial: `point` has its settings that vary, by dotted key.

    `latency` is in milliseconds, of a single row; `seconds` are those of training. `on_front`: no other trial has a
    better score and a lower latency. `stopped` is the score with which a pruned trial was given up, which compares
    with no other. What a trial did not come to is None.
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
        """The state in words."""
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
