"""The calibration and the scores of a fitted network on validation rows."""

from dataclasses import dataclass

import msgspec
from torch import Tensor

from dle_training.fitting.batches import PreparedRows
from dle_training.optimization import objectives
from dle_training.optimization.objectives import Classification, Objective, ObjectiveState
from dle_training.preprocessing.shape import WINDOW
from dle_training.scoring import calibration, metrics
from dle_training.scoring.evaluation import defined
from dle_training.scoring.metrics import Predictions, Scores


@dataclass(frozen=True, slots=True)
class Answered:
    """N validation rows, and the outputs (N, K) of a network that these rows did not train."""

    rows: PreparedRows
    outputs: Tensor


@dataclass(frozen=True, slots=True)
class Validated:
    """The calibrated objective, the answers to N validation rows as `metrics.all_scores` takes them, and the scores."""

    objective: Objective
    predicted: Predictions
    scores: Scores


def of(answered: Answered, fitted: ObjectiveState) -> Validated:
    """Calibrate the objective `fitted` on these answers, and score them."""
    window = answered.rows.inputs.get(WINDOW)
    objective = _calibrated(objectives.restore(fitted), answered.outputs, answered.rows.targets)
    predicted = objective.link(answered.outputs, window).numpy()
    actual = objective.actual(answered.rows.targets, window)
    return Validated(objective, predicted, defined(metrics.all_scores(objective.task, predicted, actual)))


def _calibrated(objective: Objective, logits: Tensor, targets: Tensor) -> Objective:
    """Return the objective with a temperature fitted on the validation rows. It is unchanged for regression."""
    if not isinstance(objective, Classification):
        return objective
    temperature = calibration.fit_temperature(logits, targets, objective.log_weights)
    return objectives.restore(msgspec.structs.replace(objective.state(), temperature=temperature))
