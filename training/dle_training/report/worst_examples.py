"""Chooses the test examples of a report: the most confident right and wrong answers, and some forecasts.

A model's surest errors are where to look first: at wrong labels in the data, at classes that overlap, at what the
model takes for a sign of a class and is none.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from dle_bundle.groups import Groups
from dle_bundle.schema import Schema
from dle_training.data.blocks import RowNumbers
from dle_training.data.row_samples import one_of_each
from dle_training.report.samples import IMAGES, Shown, Tiles, tiles
from dle_training.scoring.metrics import Actual, Predictions

TEXTS, FORECASTS = 8, 3
"""Number of examples of each kind."""
_Floats = npt.NDArray[np.floating]


@dataclass(frozen=True, slots=True)
class PredictedRow:
    """A test row: what was true, what the model said, and the probability that it gave to that (of values None)."""

    actual: Shown
    predicted: Shown
    probability: float | None


@dataclass(frozen=True, slots=True, eq=False)
class PredictedImages:
    """Images (M, H, W, 1 or 3) with the model's answers."""

    pixels: Tiles
    answers: tuple[PredictedRow, ...]


@dataclass(frozen=True, slots=True, eq=False)
class Forecasts:
    """Some windows (M, T) of the target's past, NaN = missing, with the values after them (M, horizon).

    `last_value` (horizon,) is the mean absolute error, over all test rows, of repeating the last value that was seen.
    """

    seen: _Floats
    actual: _Floats
    predicted: _Floats
    last_value: _Floats


@dataclass(frozen=True, slots=True)
class PredictionExamples:
    """Examples of the test part; `wrong` are the surest of the wrong answers, or the largest errors of values."""

    right: PredictedImages | None = None
    wrong: PredictedImages | None = None
    wrong_texts: tuple[tuple[str, PredictedRow], ...] = ()
    forecasts: Forecasts | None = None


def choose(schema: Schema, groups: Groups, actual: Actual, predicted: Predictions) -> PredictionExamples:
    """Examples of the test part's `groups`, with what is true and what the model says as for `evaluation.evaluate`."""
    if actual.ndim > 1:
        return PredictionExamples(forecasts=_forecasts(schema, groups, actual, predicted))
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
    """Rows with the surest right answers, some of each class, and with the surest wrong ones, the surest first."""
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


def _forecasts(schema: Schema, groups: Groups, actual: Actual, predicted: Predictions) -> Forecasts | None:
    """Windows from the test part's beginning, middle and end; None where its own past is no input of the model."""
    names = [name for field in schema.sequence if field.sequence for name in field.sequence.channels]
    if groups.sequence is None or groups.lengths is None or schema.outputs.target not in names:
        return None
    past = groups.sequence[..., names.index(schema.outputs.target)].astype(np.float64)
    last = past[np.arange(len(past)), groups.lengths - 1]
    known = ~np.isnan(last)
    rows = np.unique(np.linspace(0, len(past) - 1, FORECASTS).round().astype(np.int64))
    return Forecasts(
        seen=past[rows],
        actual=actual[rows].astype(np.float64),
        predicted=predicted[rows].astype(np.float64),
        last_value=np.abs(actual[known] - last[known, None]).mean(axis=0) if known.any() else np.empty(0),
    )
