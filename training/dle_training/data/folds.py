"""Splits for k-fold cross-validation: every row outside the test part validates once.

In a split by time, the first block only trains, because training rows must be earlier than validation rows.
"""

from collections.abc import Iterator
from itertools import pairwise

import numpy as np
import numpy.typing as npt

from dle_bundle.errors import InputError, counted
from dle_training.data import target
from dle_training.data.dataset import Dataset
from dle_training.data.splits import blocks as blocking
from dle_training.data.splits.blocks import Blocks, RowNumbers
from dle_training.data.splits.split import Split, Strata

_LISTED = 10
_LEAST_ROWS = 10
"""The smallest number of training rows in a fold by time; a model learns nothing from fewer."""
_Fold = tuple[npt.NDArray[np.bool_], npt.NDArray[np.bool_]]


def make(dataset: Dataset, count: int, seed: int) -> tuple[Split, ...]:
    """Make `count` splits of the training and validation rows; each keeps the test part of `dataset`.

    Each class has about the same share in all folds. All rows of a group are in one fold. A split by time makes
    `count + 1` blocks of rows: the first only trains, and each later block validates a model trained on all earlier
    blocks. Windows of a forecast whose targets reach into the next block are left out.

    Raises InputError if `count` is less than two, or if there are too few rows, groups or times (in any class).
    """
    if count < 2:
        raise InputError(f"cross-validation needs at least 2 folds, found {count}")
    rows = np.sort(np.concatenate([dataset.split.train, dataset.split.validation]))
    classes = dataset.schema.outputs.classes
    strata = None
    if classes is not None:
        strata = Strata(target.class_index(dataset.target[rows], classes), classes)
    folds, faults = _plan(rows, dataset.blocks, strata, count, seed)
    if faults:
        fewer = (most for most in range(count - 1, 1, -1) if not _plan(rows, dataset.blocks, strata, most, seed)[1])
        most = next(fewer, None)
        possible = "cross-validation is not possible" if most is None else f"at most {most} are possible"
        more = [f"and {len(faults) - _LISTED:,} more"] if len(faults) > _LISTED else []
        raise InputError(f"too little data for {count} folds; {possible}", [*faults[:_LISTED], *more])
    return tuple(Split(rows[trains], rows[validates], dataset.split.test) for trains, validates in folds)


def _plan(
    rows: RowNumbers, blocks: Blocks | None, strata: Strata | None, count: int, seed: int
) -> tuple[list[_Fold], list[str]]:
    """Return masks of the training and validation `rows` (N,) of each fold, or the reasons why `count` is too many."""
    if blocks is not None and blocks.in_time:
        first, last = blocks.first[rows], blocks.last[rows]
        times = len(np.unique(first))
        if times <= count:
            return [], [f"{counted(times, 'different time')}, but {count + 1:,} blocks of rows are needed"]
        folds = list(_in_time(first, last, count))
        if faults := [_sizes(number, *fold) for number, fold in enumerate(folds, 1) if fold[0].sum() < _LEAST_ROWS]:
            return [], faults
    else:
        groups = None if blocks is None else blocks.first[rows]
        if faults := _small(rows, groups, strata, count):
            return [], faults
        folds = list(_shuffled(groups, strata, len(rows), count, seed))
    return folds, _unfit(folds, strata)


def _in_time(first: RowNumbers, last: RowNumbers, count: int) -> Iterator[_Fold]:
    """Yield the folds of blocks with about the same number of rows, by the times (N,) of their targets."""
    times, sizes = np.unique(first, return_counts=True)
    wanted = [len(first) * place / (count + 1) for place in range(1, count + 1)]
    begins = [*times[blocking.cuts(sizes, wanted)], last.max() + 1]
    for begin, end in pairwise(begins):
        yield last < begin, (first >= begin) & (last < end)


def _shuffled(groups: RowNumbers | None, strata: Strata | None, size: int, count: int, seed: int) -> Iterator[_Fold]:
    from sklearn.model_selection import StratifiedGroupKFold, StratifiedKFold

    # a regression has one stratum: all rows
    places = np.zeros(size, dtype=np.int64) if strata is None else strata.places
    splitter = (StratifiedKFold if groups is None else StratifiedGroupKFold)(count, shuffle=True, random_state=seed)
    for _, held_out in splitter.split(places, places, groups):
        validates = np.zeros(size, dtype=bool)
        validates[held_out] = True
        yield ~validates, validates


def _small(rows: RowNumbers, groups: RowNumbers | None, strata: Strata | None, count: int) -> list[str]:
    """Return the classes (in regression: all rows together) with fewer rows, or groups, than folds."""
    what, units = ("row", rows) if groups is None else ("group", groups)
    if strata is None:
        found = len(np.unique(units))
        return [counted(found, what)] if found < count else []
    pairs = np.unique(np.stack([strata.places, units]), axis=1)
    counts = np.bincount(pairs[0], minlength=len(strata.names))
    return [f"{strata.names[index]!r}: {counted(counts[index], what)}" for index in np.flatnonzero(counts < count)]


def _unfit(folds: list[_Fold], strata: Strata | None) -> list[str]:
    """Return the folds without training rows or validation rows, or without training rows of a class."""
    faults = []
    for number, (trains, validates) in enumerate(folds, start=1):
        if not trains.any() or not validates.any():
            faults.append(_sizes(number, trains, validates))
        elif strata is not None:
            absent = set(range(len(strata.names))) - set(strata.places[trains].tolist())
            faults += [f"fold {number}: no training row of {strata.names[index]!r}" for index in sorted(absent)]
    return faults


def _sizes(number: int, trains: npt.NDArray[np.bool_], validates: npt.NDArray[np.bool_]) -> str:
    return f"fold {number}: {counted(int(trains.sum()), 'training row')}, {int(validates.sum()):,} to validate"
