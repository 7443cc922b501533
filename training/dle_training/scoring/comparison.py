"""Which is ahead, a model or one of its baselines, by how much, and whether that may be chance.

They are compared by the loss that all of them minimise: the log loss, or the squared error. Both answer the same rows,
so the standard error is that of the differences, row by row.
"""

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt

from dle_bundle.errors import counted
from dle_training.scoring import metrics
from dle_training.scoring.metrics import Actual, Predictions

IN_WORDS = {"trees": "boosted trees", "linear": "the linear model"}
"""The name of each baseline in a sentence."""
_ERRORS = 2.0
"""A difference of fewer standard errors may be chance."""


def sentence(actual: Actual, predicted: Predictions, baselines: Mapping[str, Predictions]) -> str:
    """Say how the answers of the model compare with those of the best baseline, of which there is at least one.

    `actual` (N,) are class indices or values; answers are probabilities (N, K) or values (N,).
    """
    losses = {name: _losses(answers, actual) for name, answers in baselines.items()}
    name = min(losses, key=lambda each: float(losses[each].mean()))
    own, other = _losses(predicted, actual), losses[name]
    metric = metrics.METRICS["log_loss" if predicted.ndim == 2 else "rmse"]
    assert metric.score is not None
    scores = [metric.score(answers, actual) for answers in (predicted, baselines[name])]
    model, best = (float("nan") if score is None else score for score in scores)
    words, said = IN_WORDS[name], metric.name.replace("_", " ")
    differences = own - other
    error = float(differences.std(ddof=1)) / len(own) ** 0.5 if len(own) > 1 else np.inf
    if model < best:
        text = f"The model is ahead of {words}: {said} {model:.4g} against {best:.4g}, {_less(model, best)} less"
    elif best < model:
        verb = "are" if name == "trees" else "is"
        text = (
            f"{words.capitalize()} {verb} ahead of the model: {said} {best:.4g} against {model:.4g}, "
            f"{_less(best, model)} less"
        )
    else:
        text = f"The model and {words} are level: {said} {model:.4g}"
    if abs(float(differences.mean())) < _ERRORS * error and model != best:
        text += f". On {counted(len(own), 'row')}, such a difference may be chance"
    return text


def _less(low: float, high: float) -> str:
    share = 1 - low / high
    if share > 0.99:
        return "more than 99%"
    return f"{share:.0%}" if share >= 0.095 else f"{share:.1%}"


def _losses(answers: Predictions, actual: Actual) -> npt.NDArray[np.float64]:
    """The log loss or squared error (N,) of each row."""
    if answers.ndim == 1:
        errors: npt.NDArray[np.float64] = (answers.astype(np.float64) - actual) ** 2
        return errors
    return metrics.log_losses(answers, actual)
