"""Permutation importance: how much worse the answers get when one input is shuffled among the rows.

A shuffled column keeps its distribution and loses its connection with the target (Breiman, "Random Forests", 2001).
Inputs that tell the same, such as a length in metres and in feet, share their importance, and each may look useless.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from dle_bundle.groups import Groups
from dle_bundle.schema import Field, Schema
from dle_training.scoring import metrics
from dle_training.scoring.metrics import Actual, Predictions

MOST_ROWS, _LEAST_ROWS = 2_000, 200
_ANSWERS = 200_000
"""Rows that are answered in all, so that wide tables take seconds too."""
_GROUPS = {
    "numeric": "numeric", "boolean": "numeric", "categorical": "categorical", "datetime": "datetime", "text": "text",
}  # fmt: skip
"""The group of each kind of input that is shuffled."""


@dataclass(frozen=True, slots=True)
class Importance:
    """The increase of the loss when an input is shuffled, and the standard error of this increase."""

    name: str
    increase: float
    error: float


@dataclass(frozen=True, slots=True)
class Importances:
    """The importances of all inputs, largest first. `loss` is the mean of `measure` on the `rows` as they are."""

    measure: str
    rows: int
    loss: float
    inputs: tuple[Importance, ...]


def measure(
    predict: Callable[[Groups], Predictions], groups: Groups, actual: Actual, schema: Schema
) -> Importances | None:
    """Return the importance of the columns of a table, or None if the schema has fewer than two or other inputs.

    `actual` (N,) holds class indices or values. At most `MOST_ROWS` rows are used, and fewer for wide tables, chosen
    and shuffled with a fixed seed. The loss of a row is the negative logarithm of its class's probability, or the
    absolute error.
    """
    if len(schema.inputs) < 2 or any(field.kind not in _GROUPS for field in schema.inputs) or actual.ndim > 1:
        return None
    draw = np.random.default_rng(0)
    count = min(len(groups), MOST_ROWS, max(_ANSWERS // len(schema.inputs), _LEAST_ROWS))
    rows = np.sort(draw.permutation(len(groups))[:count])
    groups, actual = groups.take(rows), actual[rows]
    classes = schema.outputs.classes is not None
    plain = _losses(predict(groups), actual, classes=classes)
    found = []
    for field in schema.inputs:
        changed = _losses(predict(_shuffled(groups, schema, field, draw)), actual, classes=classes) - plain
        error = float(changed.std(ddof=1)) / len(changed) ** 0.5 if len(changed) > 1 else 0.0
        found.append(Importance(field.name, float(changed.mean()), error))
    found.sort(key=lambda each: -each.increase)
    return Importances("log_loss" if classes else "mae", count, float(plain.mean()), tuple(found))


def _losses(predicted: Predictions, actual: Actual, *, classes: bool) -> npt.NDArray[np.float64]:
    if not classes:
        return np.abs(predicted - actual).astype(np.float64)
    return metrics.log_losses(predicted, actual)


def _shuffled(groups: Groups, schema: Schema, field: Field, draw: np.random.Generator) -> Groups:
    """Return the rows with the column of one input in another order."""
    group = _GROUPS[field.kind]
    fields: Sequence[Field] = getattr(schema, group)
    array = getattr(groups, group).copy()
    column = [each.name for each in fields].index(field.name)
    array[:, column] = array[draw.permutation(len(array)), column]
    tokens = None if group == "text" else groups.tokens
    return replace(groups, **{group: array}, tokens=tokens)
