"""The bundle's `reference.json`: distributions of training inputs and of predictions on validation rows.

Predictions are binned on validation rows, since on training rows the model is surer than it will ever be again.
"""

from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt

from dle_bundle.drift.features import Feature
from dle_bundle.drift.reference import CATEGORY_BINS, Bins, Reference, feature_bins, number_bins, smoothed
from dle_bundle.schema import Schema


def build(
    schema: Schema,
    training: Sequence[Feature],
    rows: int,
    predicted: npt.NDArray[np.float32],
    *,
    calibration: Mapping[str, float],
    metrics: Mapping[str, Mapping[str, float]],
) -> Reference:
    """Bins of what is watched of the `rows` training rows, and of `predicted`: probabilities (N, K) or values (N,)."""
    names = schema.outputs.class_names
    return Reference(
        rows=rows,
        features=feature_bins(training),
        prediction_rows=len(predicted),
        prediction=_class_bins(predicted, names) if names else number_bins(_summary(predicted)),
        calibration=dict(calibration),
        metrics={part: dict(scores) for part, scores in metrics.items()},
    )


def _summary(values: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """One value (N,) for each answer, as the service watches it: of a horizon the mean."""
    mean: npt.NDArray[np.float32] = values if values.ndim == 1 else values.mean(axis=1)
    return mean


def _class_bins(probabilities: npt.NDArray[np.float32], classes: tuple[str, ...]) -> Bins:
    """A bin for each predicted class; beyond the 29 most frequent they share `other`."""
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
