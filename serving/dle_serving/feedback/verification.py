"""Verifies feedback items: a genuine id, from a served model, with a value that its target can have.

The id contains the model and the prediction, so no stored prediction is needed.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import msgspec

from dle_bundle.bundle import Bundle
from dle_bundle.drift.reference import Reference
from dle_bundle.errors import DleError, counted, nearest
from dle_bundle.rows.faults import shown
from dle_serving.feedback.ids import IdError, PredictionId, SigningKeys, fingerprint
from dle_serving.feedback.store import FeedbackRecord, counted_as

ActualValue = str | bool | int | float | list[float]
"""A class, a number, or one number per step of the horizon."""
Code = Literal["signature", "expired", "label", "conflict"]
_MOST_NAMED = 20
_SUGGESTIONS = 3
"""The nearest class name is suggested for this many items of a request: finding it is the slowest step."""
_MOST_COMPARED = 100
"""No class name is suggested when the model has more classes than this."""
_MOST_ERROR = 1_000.0
"""Limit on one error in the tally, in multiples of the predictions' scale. Without it a single absurd value would ruin
the score for ever: numbers that are added to 1e40 are lost to rounding."""
_HIGHEST = 3.4028234663852886e38
"""The highest float32: beyond any target, and its square is far from the highest float64, the type of the tally."""


class FeedbackItem(msgspec.Struct, frozen=True, forbid_unknown_fields=True, gc=False):
    """One item of a request: a prediction id and the actual value."""

    id: str
    actual: ActualValue


class Rejection(msgspec.Struct, frozen=True, gc=False):
    """A rejected item, by its position (from 0), with the reason."""

    item: int
    code: Code
    message: str


@dataclass(frozen=True, slots=True)
class CheckedItems:
    """The valid items of a request, each with its position (from 0) and its record, and the rejected ones."""

    positions: list[int]
    records: list[FeedbackRecord]
    rejections: list[Rejection]


class ItemError(DleError):
    """Why one item is rejected; `code` is the rejection's."""

    def __init__(self, code: Code, message: str) -> None:
        super().__init__(message)
        self.code = code


class FeedbackVerifier:
    """Turns the items on one model into records, if they are values that its target can have."""

    def __init__(self, bundle: Bundle) -> None:
        outputs = bundle.schema.outputs
        labels = outputs.classes or ()
        self._model, self._version = bundle.manifest.name, bundle.manifest.version
        self._fingerprint = fingerprint(bundle.manifest).hex()
        self._classes = outputs.class_names
        self._horizon = outputs.horizon
        self._mean, self._sd = outputs.mean, outputs.sd
        self._texts = all(isinstance(label, str) for label in labels)
        self._most_error = _MOST_ERROR * _scale(bundle.reference)
        # by type as well, for in Python true is 1
        self._names: dict[tuple[type, str | bool | int | float], str] = {
            (type(label), label): name for label, name in zip(labels, self._classes, strict=True)
        }
        more = f" and {len(self._names) - _MOST_NAMED} more" if len(self._names) > _MOST_NAMED else ""
        self._listed = ", ".join(map(_json, labels[:_MOST_NAMED])) + more

    def record(self, item: FeedbackItem, prediction: PredictionId, *, suggest: bool) -> FeedbackRecord:
        """The record of the item; raises ItemError when `actual` is not a value that the target can have.

        `suggest` adds the nearest class name to the error.
        """
        described = (item.id, self._model, self._version, self._fingerprint)
        if prediction.class_index is None:
            values = _numbers(item.actual, self._horizon)
            predicted = prediction.answer * self._sd + self._mean
            error = sum(values) / len(values) - predicted
            counted_error = max(-self._most_error, min(error, self._most_error))
            text = repr(values if self._horizon > 1 else values[0])
            return FeedbackRecord(*described, "", text, predicted, error, prediction.time, "", counted_error)
        actual = item.actual
        if isinstance(actual, float) and actual.is_integer():  # JSON has only one number type: 3 may arrive as 3.0
            actual = int(actual)
        name = None if isinstance(actual, list) else self._names.get((type(actual), actual))
        if name is None:
            raise ItemError("label", self._expected(item.actual, suggest))
        given = self._classes[prediction.class_index]
        counted = counted_as(name, given, self._classes)
        return FeedbackRecord(*described, given, name, prediction.answer, None, prediction.time, counted)

    def _expected(self, actual: ActualValue, suggest: bool) -> str:
        suggest = suggest and self._texts and len(self._classes) <= _MOST_COMPARED
        near = nearest(actual, self._classes) if suggest and isinstance(actual, str) and len(actual) <= 200 else ""
        return f"expected one of {self._listed}, got {shown(_json(actual))}{near}"


def check(
    items: Sequence[FeedbackItem],
    verifiers: Mapping[bytes, FeedbackVerifier],
    keys: SigningKeys,
    *,
    now: int,
    max_age: int,
) -> CheckedItems:
    """Check every item; `verifiers` has one for each served model, by fingerprint.

    `now` is in seconds since 1970. Ids older than `max_age` seconds are rejected. Safe in any thread.
    """
    checked, unknown = CheckedItems([], [], []), 0
    for position, item in enumerate(items):
        try:
            prediction = keys.verify(item.id, now, max_age)
            verifier = verifiers.get(prediction.fingerprint)
            if verifier is None:
                raise ItemError("expired", "the model, or the version, that made this prediction is no longer served")
            record = verifier.record(item, prediction, suggest=unknown < _SUGGESTIONS)
        except (IdError, ItemError) as error:
            checked.rejections.append(Rejection(position, error.code, error.message))
            unknown += error.code == "label"
        else:
            checked.positions.append(position)
            checked.records.append(record)
    return checked


def _scale(reference: Reference) -> float:
    """The width of a regression's reference predictions, or its mean absolute error where all are equal."""
    edges = reference.prediction.edges or (0.0,)
    return max(edges[-1] - edges[0], reference.test_scores.get("mae", 0.0))


def _numbers(actual: ActualValue, horizon: int) -> list[float]:
    """The values of a regression: one, or one per step of the horizon."""
    if horizon == 1:
        return [_number(actual)]
    if not isinstance(actual, list) or len(actual) != horizon:
        raise ItemError("label", f"expected a list of {counted(horizon, 'number')}, got {shown(_json(actual))}")
    return [_number(value) for value in actual]


def _number(actual: ActualValue) -> float:
    if isinstance(actual, str | bool | list):
        raise ItemError("label", f"expected a number, got {shown(_json(actual))}")
    if not abs(actual) <= _HIGHEST:  # integers in JSON are unbounded
        raise ItemError("label", f"expected a finite number between ±{_HIGHEST:.2g}")
    return float(actual)


def _json(value: ActualValue) -> str:
    return json.dumps(value, ensure_ascii=False)
