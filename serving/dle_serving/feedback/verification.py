"""What feedback says, checked item by item: a genuine id, of a model that is served, and a value that its target has.

The id alone tells the model and what it answered, so nothing about the prediction has to be looked up.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import msgspec

from dle_bundle.errors import DleError, nearest
from dle_bundle.rows.faults import shown
from dle_serving.feedback.ids import Token, TokenError
from dle_serving.feedback.store import Feedback, counted_as
from dle_serving.models.repository import Repository
from dle_serving.models.served import Served
from dle_serving.monitoring.watched import Watched

Actual = str | bool | int | float | list[float]
"""A class, a value, or the values of a horizon."""
Code = Literal["signature", "expired", "label", "conflict"]
_MOST_NAMED = 20
_SUGGESTIONS = 3
"""For so many unknown classes of a request the nearest known one is looked up, which takes longer than all else."""
_MOST_COMPARED = 100
"""Among more classes than these it is not looked up."""
_MOST_ERROR = 1_000.0
"""So many times the scale of the predictions is the most that one error counts for in the sums: what is added to 1e40
later is lost, so that a single absurd value would end the score for ever."""
_HIGHEST = 3.4028234663852886e38
"""The highest float32, in which predicted values are."""


class Item(msgspec.Struct, frozen=True, forbid_unknown_fields=True, gc=False):
    """One item of a request: a prediction's id and what turned out to be true."""

    id: str
    actual: Actual


class Rejection(msgspec.Struct, frozen=True, gc=False):
    """An item (its place, from 0) that is not accepted, and why."""

    item: int
    code: Code
    message: str


@dataclass(frozen=True, slots=True)
class Checked:
    """Items that can be kept, with their places, and those that cannot."""

    places: list[int]
    feedback: list[Feedback]
    rejections: list[Rejection]


class Rejected(DleError):
    """Why one item cannot be kept."""

    def __init__(self, code: Code, message: str) -> None:
        super().__init__(message)
        self.code = code


class Verification:
    """Checks the items of requests. Safe in any thread."""

    def __init__(self, repository: Repository, max_age: int) -> None:
        self._repository = repository
        self._max_age = max_age
        self._targets: dict[bytes, Target] = {}

    def check(self, items: Sequence[Item], now: int) -> Checked:
        """Every item is either feedback or rejected; raises NotReady while no models are loaded."""
        models = {served.fingerprint: served for served in self._repository.all()}
        keys = next(iter(models.values())).keys  # all have those of the server
        checked, unknown = Checked([], [], []), 0
        for place, item in enumerate(items):
            try:
                token = keys.verify(item.id, now, self._max_age)
                if token.fingerprint not in models:
                    raise Rejected("expired", "given by a model, or a version of one, that is no longer served")
                feedback = self._target(models[token.fingerprint]).feedback(item, token, suggest=unknown < _SUGGESTIONS)
            except (TokenError, Rejected) as error:
                checked.rejections.append(Rejection(place, error.code, error.message))
                unknown += error.code == "label"
            else:
                checked.places.append(place)
                checked.feedback.append(feedback)
        return checked

    def _target(self, served: Served) -> "Target":
        target = self._targets.get(served.fingerprint)
        if target is None:
            target = self._targets[served.fingerprint] = Target(served)
        return target


class Target:
    """What one model predicts: its classes, or a number."""

    def __init__(self, served: Served) -> None:
        self._model, self._version = served.name, served.version
        self._fingerprint = served.fingerprint.hex()
        self._classes = served.class_names
        self._horizon = served.schema.outputs.horizon
        self._texts = all(isinstance(label, str) for label in served.labels)
        self._most_error = _MOST_ERROR * _scale(served.watched)
        # by type as well, for in Python true is 1
        self._names: dict[tuple[type, str | bool | int | float], str] = {
            (type(label), label): name for label, name in zip(served.labels, self._classes, strict=True)
        }
        more = f" and {len(self._names) - _MOST_NAMED} more" if len(self._names) > _MOST_NAMED else ""
        self._listed = ", ".join(map(_json, served.labels[:_MOST_NAMED])) + more

    def feedback(self, item: Item, token: Token, *, suggest: bool) -> Feedback:
        """The item as it is kept; raises Rejected when `actual` is nothing that the target can be."""
        described = (item.id, self._model, self._version, self._fingerprint)
        if token.class_index is None:
            values = _numbers(item.actual, self._horizon)
            error = sum(values) / len(values) - token.answer
            counted_error = max(-self._most_error, min(error, self._most_error))
            told = repr(values if self._horizon > 1 else values[0])
            return Feedback(*described, "", told, token.answer, error, token.time, "", counted_error)
        actual = item.actual
        if isinstance(actual, float) and actual.is_integer():  # JSON has one kind of number, and some write 3 as 3.0
            actual = int(actual)
        name = None if isinstance(actual, list) else self._names.get((type(actual), actual))
        if name is None:
            raise Rejected("label", self._expected(item.actual, suggest))
        predicted = self._classes[token.class_index]
        counted = counted_as(name, predicted, self._classes)
        return Feedback(*described, predicted, name, token.answer, None, token.time, counted)

    def _expected(self, actual: Actual, suggest: bool) -> str:
        suggest = suggest and self._texts and len(self._classes) <= _MOST_COMPARED
        near = nearest(actual, self._classes) if suggest and isinstance(actual, str) and len(actual) <= 200 else ""
        return f"expected one of {self._listed}, got {shown(_json(actual))}{near}"


def _scale(watched: Watched) -> float:
    """The width of a regression's reference predictions; of a model that always says the same, its mean error."""
    edges = watched.reference.prediction.edges or (0.0,)
    return max(edges[-1] - edges[0], watched.tested.get("mae", 0.0))


def _numbers(actual: Actual, horizon: int) -> list[float]:
    """One value, or those of a horizon, whose mean is compared with that of the prediction."""
    if horizon == 1:
        return [_number(actual)]
    if not isinstance(actual, list) or len(actual) != horizon:
        raise Rejected("label", f"expected a list of {horizon} numbers, got {shown(_json(actual))}")
    return [_number(value) for value in actual]


def _number(actual: Actual) -> float:
    if isinstance(actual, str | bool | list):
        raise Rejected("label", f"expected a number, got {shown(_json(actual))}")
    if not abs(actual) <= _HIGHEST:  # whole numbers have no bound
        raise Rejected("label", f"expected a finite number between ±{_HIGHEST:.2g}")
    return float(actual)


def _json(value: Actual) -> str:
    return json.dumps(value, ensure_ascii=False)
