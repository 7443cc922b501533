"""The models that a run could have kept, with their validation scores and latencies."""

import math

import msgspec
import numpy as np

from dle_training.scoring.metrics import MetricName, Predictions


class ModelChoice(msgspec.Struct, frozen=True, kw_only=True):
    """A model that a run could have kept: so many members of the chosen ensemble, or one distilled network.

    `score` is its validation score after calibration. `milliseconds` is the time for a single row on one core, in the
    exported graph. A distilled network has its `difference` from the ensemble; the function `difference` measures it.
    `taken` marks the one that the run kept.
    """

    members: int
    distilled: bool
    score: float
    milliseconds: float
    difference: float | None = None
    taken: bool = False


class ModelChoices(msgspec.Struct, frozen=True, kw_only=True):
    """Content of `choices.json`: the models that a run could have kept, the largest first, by validation `metric`.

    `max_latency` is the limit in milliseconds that was asked for, or null. With `folds`, each member has a copy for
    each fold, and the scores are out-of-fold scores; without, `folds` is 1.
    """

    metric: MetricName
    max_latency: float | None
    folds: int
    choices: tuple[ModelChoice, ...]

    @property
    def taken(self) -> ModelChoice:
        """The model that the run kept."""
        return next(choice for choice in self.choices if choice.taken)

    def name(self, choice: ModelChoice) -> str:
        """What a choice consists of, in words."""
        if choice.distilled:
            return "distilled network"
        members = "1 network" if choice.members == 1 else f"{choice.members} networks"
        return members if self.folds == 1 else f"{members} in {self.folds} copies"

    @property
    def scored(self) -> str:
        """The kind of score, in words."""
        return f"{'validation' if self.folds == 1 else 'out-of-fold'} {self.metric}"

    @property
    def distance(self) -> str | None:
        """How far the answers of the distilled network are from those of the ensemble, in words."""
        found = next((each.difference for each in self.choices if each.difference is not None), None)
        if found is None:
            return None
        measure = "root mean squared difference" if self.metric == "rmse" else "mean Kullback-Leibler divergence"
        return (
            "From the ensemble's answers to validation rows, those of the distilled network have a "
            f"{measure} of {found:.3g}."
        )

    @property
    def too_slow(self) -> bool:
        """Whether the model that the run kept takes longer than the limit."""
        return self.max_latency is not None and self.taken.milliseconds > self.max_latency


def difference(ensemble: Predictions, distilled: Predictions) -> float:
    """How far answers are from those of the ensemble to the same N rows.

    For probabilities (N, K) it is the mean Kullback-Leibler divergence, for values (N,) the root of the mean squared
    difference.
    """
    if ensemble.ndim == 1:
        return math.sqrt(np.square(ensemble.astype(np.float64) - distilled).mean())
    least = np.finfo(np.float32).tiny
    logarithms = np.log(np.maximum(ensemble, least)) - np.log(np.maximum(distilled, least))
    return float((ensemble * logarithms).sum(axis=1).mean())
