"""The sample of training rows that a run keeps to test and time an export and to fill the report."""

import numpy as np
import numpy.typing as npt

from dle_bundle.groups import Groups
from dle_bundle.schema import Outputs
from dle_training.data import row_samples
from dle_training.data.target import Values

MOST, LEAST = 256, 16
"""Bounds of the number of rows; large inputs get fewer, because an encoder needs as long for one as for many rows."""
LONGEST = 2
"""Number of rows at the beginning of a sample that are the longest of the training part."""


def choose(training: Groups, target: Values, outputs: Outputs) -> npt.NDArray[np.int64]:
    """Positions in the training part: the longest rows, then rows of every class or from the lowest value up."""
    most = min(MOST, max(LEAST, training.rows_at_once() // 4))
    spread = row_samples.spread(target, outputs.classes, most, seed=0)
    chosen = np.concatenate([_longest(training), spread])
    return chosen[np.sort(np.unique(chosen, return_index=True)[1])]


def _longest(rows: Groups) -> npt.NDArray[np.int64]:
    """The rows of the most steps or characters.

    An exporter needs them for an example: a short row can become a single step or n-gram within an encoder, and the
    exporter takes a 1 for a constant.
    """
    lengths = np.zeros(len(rows), dtype=np.int64)
    if rows.lengths is not None:
        lengths += rows.lengths
    elif rows.text is not None:
        lengths += [sum(map(len, texts)) for texts in rows.text]
    return np.argsort(-lengths, kind="stable")[:LONGEST]
