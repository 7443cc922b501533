"""Samples of a few representative rows: rows of every class, or from the lowest to the highest value."""

import numpy as np
import numpy.typing as npt

from dle_bundle.schema import Label
from dle_training.data.target import Values, class_index


def one_of_each(kinds: npt.NDArray[np.int64], most: int) -> npt.NDArray[np.int64]:
    """Return at most `most` positions in `kinds` (N,), sorted by kind.

    The first position of each kind is taken, then the second of each, and so on.
    """
    turn = np.empty(len(kinds), dtype=np.int64)
    for kind in np.unique(kinds):
        where = np.flatnonzero(kinds == kind)
        turn[where] = np.arange(len(where))
    first = np.argsort(turn, kind="stable")[:most]
    return first[np.argsort(kinds[first], kind="stable")]


def spread(target: Values, classes: tuple[Label, ...] | None, most: int, seed: int) -> npt.NDArray[np.int64]:
    """Return at most `most` positions in `target` (N,) or (N, horizon), drawn by `seed`.

    Every class gets a row before any class gets a second one. Single values are spread from the lowest to the highest.
    Rows of several values are drawn at random and stay in order.
    """
    order = np.random.default_rng(seed).permutation(len(target))
    if classes is not None:
        return order[one_of_each(class_index(target[order], classes), most)]
    if target.ndim > 1:
        return np.sort(order[:most])
    ranked = order[np.argsort(target[order], kind="stable")]
    return ranked[np.unique(np.linspace(0, len(ranked) - 1, most).round().astype(np.int64))]
