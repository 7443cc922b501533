"""Chooses the test examples of a report: the most confident right and wrong answers, and some forecasts.

The most confident errors show the most: wrong labels in the data, classes that overlap, and features that the model
wrongly takes for a sign of a class.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from dle_bundle.groups import Groups
from dle_bundle.schema import Schema
from dle_training.data.rows.row_samples import one_of_each
from dle_training.data.splits.blocks import RowNumbers
from dle_training.report.samples import IMAGES, Shown, Tiles, tiles
from dle_training.scoring.forecast_baselines import Baselines
from dle_training.scoring.forecasts import mean_by_step
from dle_training.scoring.metrics import Actual, Predictions

TEXTS, FORECASTS = 8, 3
"""Number of examples of each kind."""
_Floats = npt.NDArray[np.floating]


@dataclass(frozen=True, slots=True)
class PredictedRow:
    """A test row: the actual target, the predicted one, and the probability of the predicted class.

    `probability` is None in regression.
    """

    actual: Shown
    predicted: Shown
    probability: float | None


@dataclass(frozen=True, slots=True, eq=False)
class PredictedImages:
    """Images (M, H, W, 1 or 3) with the model's answers for them."""

    pixels: Tiles
    answers: tuple[PredictedRow, ...]


@dataclass(frozen=True, slots=True, eq=False)
class Forecasts:
    """Some windows of the target's past, `seen` (M, T) with NaN = missing, and the values after them (M, horizon).

    `names` (M,) are those of their series, "" if there is only one. `last_value` (horizon,) is the mean absolute error,
    over all test rows with a known last value, of repeating the last value of the window. It is empty if no row has
    one.
    """

    seen: _Floats
    actual: _Floats
    predicted: _Floats
    last_value: _Floats
    names: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class PredictionExamples:
    """Examples of the test part: the most confident answers, or the largest errors in regression.

    `right` and `wrong` are None if there are no images for them. In regression `right` is None. `wrong_texts` holds
    pairs of a text and its wrong answer. `forecasts` is None unless the target is forecast from its own past.
    """

    right: PredictedImages | None = None
    wrong: PredictedImages | None = None
    wrong_texts: tuple[tuple[str, PredictedRow], ...] = ()
    forecasts: Forecasts | None = None


def choose(
    schema: Schema, groups: Groups, actual: Actual, predicted: Predictions, beside: Baselines | None = None
) -> PredictionExamples:
    """Choose examples among the rows `groups` of the test part.

    `actual` and `predicted` are the targets and answers of these rows, in the form that `evaluation.evaluate` takes,
    and `beside` are the baselines of a forecast.
    """
    if actual.ndim > 1 or (schema.layout is not None and schema.layout.window is not None):
        names = () if beside is None else tuple(beside.series.tolist())
        return PredictionExamples(forecasts=_forecasts(schema, groups, actual, predicted, names))
    right, wrong = _ranked(schema, actual, predicted)
    texts: tuple[tuple[str, PredictedRow], ...] = ()
    if groups.text is not None:
        rows = wrong[:TEXTS]
        joined = [" · ".join(filter(None, row)) for row in groups.text[rows].tolist()]
        texts = tuple(zip(joined, _answers(schema, rows, actual, predicted), strict=True))

    def pictured(rows: RowNumbers) -> PredictedImages | None:
        if not schema.image or not len(rows):
            return None
        return PredictedImages(tiles(groups.image[rows], schema), _answers(schema, rows, actual, predicted))

    return PredictionExamples(pictured(right[:IMAGES]), pictured(wrong[:IMAGES]), texts)


def _ranked(schema: Schema, actual: Actual, predicted: Predictions) -> tuple[RowNumbers, RowNumbers]:
    """Return the rows with right answers, some of each class, and the rows with wrong answers.

    Both begin with the highest probability. In regression no row counts as right, and the largest errors come first.
    """
    if schema.outputs.classes is None:
        return np.empty(0, dtype=np.int64), np.argsort(-np.abs(predicted - actual), kind="stable")
    order = np.argsort(-predicted.max(axis=1), kind="stable")
    is_right = (predicted.argmax(axis=1) == actual)[order]
    right = order[is_right]
    return right[one_of_each(actual[right], IMAGES)], order[~is_right]


def _answers(schema: Schema, rows: RowNumbers, actual: Actual, predicted: Predictions) -> tuple[PredictedRow, ...]:
    names = schema.outputs.class_names
    if schema.outputs.classes is None:
        return tuple(PredictedRow(float(actual[row]), float(predicted[row]), None) for row in rows)
    said = predicted.argmax(axis=1)
    return tuple(PredictedRow(names[actual[row]], names[said[row]], float(predicted[row, said[row]])) for row in rows)


def _forecasts(
    schema: Schema, groups: Groups, actual: Actual, predicted: Predictions, names: Sequence[str]
) -> Forecasts | None:
    """Return windows from the beginning, middle and end of the test part.

    Returns None if the past of the target is not an input of the model.
    """
    channels = [name for field in schema.sequence if field.sequence for name in field.sequence.channels]
    if groups.sequence is None or groups.lengths is None or schema.outputs.target not in channels:
        return None
    past = groups.sequence[..., channels.index(schema.outputs.target)].astype(np.float64)
    last, actual = past[np.arange(len(past)), groups.lengths - 1], actual.reshape(len(past), -1)
    known = ~np.isnan(last)
    rows = np.unique(np.linspace(0, len(past) - 1, FORECASTS).round().astype(np.int64))
    return Forecasts(
        seen=past[rows],
        actual=actual[rows].astype(np.float64),
        predicted=predicted[rows].reshape(len(rows), -1).astype(np.float64),
        last_value=mean_by_step(np.abs(actual[known] - last[known, None])) if known.any() else np.empty(0),
        names=tuple(names[row] for row in rows) if names else (),
    )
