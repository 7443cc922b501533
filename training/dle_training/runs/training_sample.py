"""The sample of training rows that a run keeps, to test and time exports and to show examples in the report."""

import numpy as np
import numpy.typing as npt

from dle_bundle.groups import Groups
from dle_bundle.schema import Outputs
from dle_training.data.rows import row_samples
from dle_training.data.target import Values

MOST, LEAST = 256, 16
"""Bounds of the number of rows. The sample has fewer rows if rows are large, because encoding them takes long."""
LONGEST = 2
"""This many rows at the start of a sample are the longest rows of the training part."""


def choose(training: Groups, target: Values, outputs: Outputs) -> npt.NDArray[np.int64]:
    """Return positions in the training part: the longest rows, then rows spread over the classes or the values."""
    most = min(MOST, max(LEAST, training.rows_at_once() // 4))
    spread = row_samples.spread(target, outputs.classes, most, seed=0)
    chosen = np.concatenate([_longest(training), spread])
    return chosen[np.sort(np.unique(chosen, return_index=True)[1])]


def _longest(rows: Groups) -> npt.NDArray[np.int64]:
    """Return the rows with the most steps or characters.

    The exporter needs long rows as its example. Within an encoder a short row can become a single step or n-gram, and
    the exporter treats a size of 1 as a constant.
    """
    lengths = np.zeros(len(rows), dtype=np.int64)
    if rows.lengths is not None:
        lengths += rows.lengths
    elif rows.text is not None:
        lengths += [sum(map(len, texts)) for texts in rows.text]
    return np.argsort(-lengths, kind="stable")[:LONGEST]
