"""The run's `reference.json`: distributions of the training inputs and of the answers for validation rows.

The answers come from validation rows, because a model is too confident on the rows that it was trained on. The export
adds the test scores.
"""

import numpy as np

from dle_bundle.drift.features import Feature, monitored_features
from dle_bundle.drift.reference import CATEGORY_BINS, Bins, Reference, feature_bins, number_bins, smoothed
from dle_bundle.groups import Groups
from dle_bundle.images.pixels import ImageFiles
from dle_training.runs.trained_model import TrainedModel
from dle_training.scoring.metrics import Predictions, Scores

_NOISE = 1e-6
"""How much the same value may differ between runtimes, in standard deviations of the target."""
_SAMPLED = 10_000
"""Largest number of image files that are read for the statistics."""


def build(model: TrainedModel, training: Groups, predicted: Predictions, validation: Scores) -> Reference:
    """Return the bins of the training inputs and of the answers, and the validation scores.

    `predicted` holds the answers for the validation rows: probabilities (N, K), values (N,) or values (N, horizon).
    """
    names = model.schema.outputs.class_names
    calibration = {}
    if names:
        calibration = {"temperature": model.objective.state().temperature, **known({"ece": validation.get("ece")})}
    return Reference(
        rows=len(training),
        features=feature_bins(_features(model, training)),
        prediction_rows=len(predicted),
        prediction=_class_bins(predicted, names) if names else _value_bins(model, predicted),
        calibration=calibration,
        metrics={"validation": known(validation)},
    )


def known(scores: Scores) -> dict[str, float]:
    """Return the scores that are not None."""
    return {name: score for name, score in scores.items() if score is not None}


def _features(model: TrainedModel, training: Groups) -> list[Feature]:
    """Return the features that a service monitors, for the training rows, or some of them if images are in files."""
    if isinstance(training.image, ImageFiles):
        training = training.take(slice(None, None, -(-len(training) // _SAMPLED)))
    prepared = model.preprocessing.tokenise(training)
    return monitored_features(prepared, model.schema, model.preprocessing.tokenizer)


def _summary(values: Predictions) -> Predictions:
    """Return one value per answer (N,), as the service monitors it. For a forecast it is the mean over the horizon."""
    mean: Predictions = values if values.ndim == 1 else values.mean(axis=1)
    return mean


def _value_bins(model: TrainedModel, predicted: Predictions) -> Bins:
    """Return the bins of values y; runtimes differ in the seventh digit of (y − mean) / sd, which is float32."""
    return number_bins(_summary(predicted), noise=_NOISE * model.objective.state().sd)


def _class_bins(probabilities: Predictions, classes: tuple[str, ...]) -> Bins:
    """Return a bin for each of the 29 most frequent predicted classes. The other classes share the bin `other`."""
    counts = np.bincount(probabilities.argmax(axis=1), minlength=len(classes))
    ranked = np.argsort(-counts, kind="stable")
    own, rest = sorted(ranked[:CATEGORY_BINS].tolist()), ranked[CATEGORY_BINS:]
    grouped = np.append(counts[own], counts[rest].sum()) if len(rest) else counts[own]
    names = tuple(classes[index] for index in own)
    return Bins(
        names=(*names, "other") if len(rest) else names,
        fractions=smoothed(grouped),
        categories=names,
        others=tuple(classes[index] for index in sorted(rest.tolist())),
    )
