"""Columns that need the user's eye: columns that alone tell the target, and whole numbers that look like codes.

A column that tells the target is often known only after it, so a model that reads it is useless. Each column is judged
by the training part alone: one half of the rows predicts the other, so that an identifier does not look perfect.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from dle_bundle.drift.features import table_columns
from dle_bundle.groups import Groups
from dle_bundle.schema import Field, Kind, Label, Schema
from dle_bundle.values.categories import category
from dle_training.config.run_config import DataConfig
from dle_training.settings.proposals import setting

MOST_ROWS = 20_000
"""Rows that are looked at; more of them would not change the verdict."""
LEAST_ROWS = 50
"""Fewer rows are not judged."""
ENOUGH = {"roc_auc": 0.99, "balanced_accuracy": 0.98, "r2": 0.99}
"""The score of each metric from which a column tells the target."""
_BINS = 256
_LEAST_CODES, _REPEATS = 8, 5
_CODE_R2, _OF_IT_SMOOTH = 0.1, 0.5
_MOSTLY = 0.5
_PRIOR = 0.5
"""Rows of the whole half that each group of values is given, so that few rows do not decide."""

Numbers = npt.NDArray[np.float64]
Places = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Found:
    """What was found: `warnings` of columns that tell the target, `notes` on columns that look like codes."""

    warnings: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()


def find(training: Groups, target: npt.NDArray[Any], schema: Schema, data: DataConfig) -> Found:
    """Judge each column of the training rows (N,) by their `target`: class indices, or values.

    An only input may tell the target, unless it is a copy. Texts, images and series are not judged, nor are columns
    whose kind the user has set judged as codes. `telling_covariates` judges forecasts.
    """
    only = len(schema.inputs) == 1
    columns = [each for each in table_columns(training, schema) if each.field.kind != "text"]
    if len(target) < LEAST_ROWS or target.ndim > 1 or schema.layout is not None:
        return Found()
    order = np.random.default_rng(0).permutation(len(target))[:MOST_ROWS]
    classes = schema.outputs.classes
    goal = _one_column_a_class(target[order], len(classes)) if classes else target[order].astype(np.float64)[:, None]
    warnings, notes = [], []
    for column in columns:
        values = column.values[order]
        if only and _copies(column.field, values, target[order], classes):
            warnings.append(f"{column.field.name}, the only input, is a copy of {schema.outputs.target}")
        elif not only and (said := _tells(column.field, values, goal, schema.outputs.target, data)):
            warnings.append(said)
        elif column.field.name not in data.kinds and _codes(column.field, values, goal):
            cure = setting("data.kinds", "categorical", column.field.name)
            notes.append(
                f"{column.field.name}: whole numbers whose order says little about {schema.outputs.target}; "
                f"if they are codes, set {cure}"
            )
    return Found(tuple(warnings), tuple(notes))


def _one_column_a_class(target: Places, classes: int) -> Numbers:
    """Return (N, K) with a one in the column of each row's class."""
    one: Numbers = np.eye(classes)[target]
    return one


def _copies(field: Field, values: npt.NDArray[Any], target: npt.NDArray[Any], classes: Sequence[Label] | None) -> bool:
    """Whether the values (N,) are the target's own: its numbers, or the labels of its classes."""
    if classes is None:
        return field.kind == "numeric" and np.array_equal(values, target.astype(values.dtype))
    if field.kind == "categorical":
        return bool(values.tolist() == [category(classes[index]) for index in target])
    if field.kind == "datetime" or any(isinstance(label, str) for label in classes):
        return False
    return bool(np.array_equal(values, np.array(classes, dtype=values.dtype)[target]))


def _tells(field: Field, values: npt.NDArray[Any], goal: Numbers, target: str, data: DataConfig) -> str | None:
    drop = setting("data.drop", [*data.drop, field.name])
    if goal.shape[1] == 1 and _copies(field, values, goal[:, 0], None):
        return copies(field.name, target, drop)
    predicted = predict(field.kind, values, goal)
    if goal.shape[1] == 1:
        metric, score = "r2", _r2(goal, predicted)
    elif goal.shape[1] == 2:
        metric, score = "roc_auc", _area(predicted[:, 1], goal[:, 1] > 0)
    else:
        metric, score = "balanced_accuracy", _balanced_accuracy(goal, predicted)
    return None if score < ENOUGH[metric] else tells(field.name, target, metric, score, drop)


def copies(name: str, target: str, drop: str) -> str:
    """The warning of a column that is a copy of the target; `drop` are the settings that leave it out."""
    return f"{name} is a copy of {target}; leave it out with {drop}"


def tells(name: str, target: str, metric: str, score: float, drop: str) -> str:
    """The warning of a column that tells the target; `drop` are the settings that leave it out."""
    return (
        f"{name} alone tells {target}: {metric} {score:.4g} on training rows held back; if it is known only after "
        f"{target}, leave it out with {drop}"
    )


def predict(kind: Kind, values: npt.NDArray[Any], goal: Numbers) -> Numbers:
    """What the values (N,) of a column of this kind say of the `goal` (N, K); half of the rows predicts the other."""
    groups = _groups(kind, values, seconds=goal.shape[1] > 1)
    if goal.shape[1] == 1 and kind == "numeric":
        # a line within the bins, so that wide ones do not hide a copy in another unit
        return _crossed_line(values.astype(np.float64), groups, goal)
    return _crossed(groups, goal, _means)


def _codes(field: Field, values: npt.NDArray[Any], goal: Numbers) -> bool:
    """Whether whole numbers, often repeated, say much about the target that their neighbours in size do not say."""
    if field.kind != "numeric" or field.unit:
        return False
    known = ~np.isnan(values)
    whole, counts = np.unique(values[known], return_counts=True)
    if not _LEAST_CODES <= len(whole) <= known.sum() / _REPEATS or counts.max() > _MOSTLY * known.sum():
        return False
    if (whole != np.floor(whole)).any():
        return False
    groups = np.searchsorted(whole, values[known])
    told = _r2(goal[known], _crossed(groups, goal[known], _means))
    return told >= _CODE_R2 and _r2(goal[known], _crossed(groups, goal[known], _neighbours)) < _OF_IT_SMOOTH * told


def _groups(kind: Kind, values: npt.NDArray[Any], *, seconds: bool) -> Places:
    """Return the group (N,) of each value: a category, a number or a bin of numbers; missing ones are a group.

    Without `seconds`, date-times only differ in being missing, because a target that grows with time is no leak.
    """
    if kind == "categorical":
        return np.asarray(np.unique(values.astype(str), return_inverse=True)[1], dtype=np.int64)
    known: npt.NDArray[np.bool_] = ~np.isnan(values)
    if kind == "datetime" and not seconds:
        return known.astype(np.int64)
    edges = np.unique(values[known])
    if len(edges) > _BINS:
        shares = np.linspace(0, 1, _BINS + 1)
        edges = np.unique(np.quantile(values[known], shares, method="lower"))
    groups = np.full(len(values), len(edges) + 1, dtype=np.int64)
    groups[known] = np.searchsorted(edges, values[known])
    return groups


def _crossed(groups: Places, goal: Numbers, predict: Any) -> Numbers:
    """Return predictions (N, K) of each half of the rows by what `predict` learns from the other half."""
    half = len(groups) // 2
    count = int(groups.max()) + 1
    parts = (slice(0, half), slice(half, None))
    return np.concatenate(
        [predict(groups[learnt], goal[learnt], count)[groups[held]] for held, learnt in (parts, parts[::-1])]
    )


def _sums(groups: Places, goal: Numbers, count: int) -> tuple[Numbers, Numbers]:
    """Return the rows (G,) of each group and the sum (G, K) of their goals."""
    rows = np.bincount(groups, minlength=count).astype(np.float64)
    totals = [np.bincount(groups, weights=column, minlength=count) for column in goal.T]
    return rows, np.stack(totals, axis=1)


def _means(groups: Places, goal: Numbers, count: int) -> Numbers:
    """Return the mean goal (G, K) of each group, drawn a little to the mean of all."""
    rows, totals = _sums(groups, goal, count)
    shrunk: Numbers = (totals + _PRIOR * goal.mean(axis=0)) / (rows + _PRIOR)[:, None]
    return shrunk


def _neighbours(groups: Places, goal: Numbers, count: int) -> Numbers:
    """Return the mean goal (G, K) of the two groups below and the two above each group, without the group itself."""
    rows, totals = _sums(groups, goal, count)
    own = np.concatenate([rows[:, None], totals], axis=1)
    padded = np.pad(own, ((2, 2), (0, 0)))
    around = padded[:-4] + padded[1:-3] + padded[3:-1] + padded[4:]
    near: Numbers = (around[:, 1:] + _PRIOR * goal.mean(axis=0)) / (around[:, :1] + _PRIOR)
    return near


def _crossed_line(values: Numbers, groups: Places, goal: Numbers) -> Numbers:
    """Return predictions (N, 1) as `_crossed` does, by straight lines between the means of neighbouring groups.

    Beyond the outer groups, the lines go on.
    """
    half = len(groups) // 2
    count = int(groups.max()) + 1
    missing = np.isnan(values)
    parts = (slice(0, half), slice(half, None))
    halves = []
    for held, learnt in (parts, parts[::-1]):
        rows, sums = _sums(groups[learnt], np.stack([np.nan_to_num(values[learnt]), goal[learnt, 0]], axis=1), count)
        filled = rows > 0
        filled[-1] &= not missing.any()  # the group of the missing values, which has no place on the line
        if not filled.any():
            return _crossed(groups, goal, _means)
        places, means = (sums[filled] / rows[filled, None]).T
        line = _line(values[held], places, means)
        alone = _means(groups[learnt], goal[learnt], count)[groups[held], 0]
        halves.append(np.where(missing[held], alone, line))
    return np.concatenate(halves)[:, None]


def _line(values: Numbers, places: Numbers, means: Numbers) -> Numbers:
    """Return the means (G,) at the places (G,), ascending, at other `values` (N,), extended beyond both ends."""
    line: Numbers = np.interp(values, places, means)
    if len(places) > 1:
        for outside, end, inner in ((values < places[0], 0, 1), (values > places[-1], -1, -2)):
            slope = (means[inner] - means[end]) / (places[inner] - places[end])
            line[outside] = means[end] + slope * (values[outside] - places[end])
    return line


def _r2(goal: Numbers, predicted: Numbers) -> float:
    spread = ((goal - goal.mean(axis=0)) ** 2).sum()
    return float(1 - ((goal - predicted) ** 2).sum() / spread) if spread > 0 else 0.0


def _area(scores: Numbers, positive: npt.NDArray[np.bool_]) -> float:
    """Return the area under the ROC curve; equal scores count half."""
    places, counts = np.unique(scores, return_inverse=True, return_counts=True)[1:]
    ranks = (np.cumsum(counts) - (counts - 1) / 2)[places]
    yes, no = int(positive.sum()), int((~positive).sum())
    if not yes or not no:
        return 0.0
    return float((ranks[positive].sum() - yes * (yes + 1) / 2) / (yes * no))


def _balanced_accuracy(goal: Numbers, predicted: Numbers) -> float:
    """Return the mean, over the classes, of the share of rows that are predicted right."""
    shares = goal.mean(axis=0)
    present = shares > 0
    found = (predicted[:, present] / shares[present]).argmax(axis=1)
    right = found == goal[:, present].argmax(axis=1)
    return float(np.mean([right[goal[:, index] > 0].mean() for index in np.flatnonzero(present)]))
