"""A warning if test rows are copies of training rows, as in a file that was written twice: the scores are too good."""

import numpy as np

from dle_bundle.errors import counted
from dle_bundle.groups import Groups
from dle_training.data.rows import row_hashes
from dle_training.data.splits.split import Split
from dle_training.data.target import Values

_MANY = 0.25
_NEARLY_AN_ID = 0.5
_COLUMNS = 2


def warning(groups: Groups, target: Values, split: Split) -> str | None:
    """Return a warning if at least a quarter of the test rows equal a training row in all columns, or None.

    Rows of few different values are equal by chance. They are not counted: two of the columns must have nearly as many
    values as there are different rows.
    """
    if not row_hashes.possible(groups) or not len(split.test):
        return None
    hashes = row_hashes.of(groups, target)
    equal = np.isin(hashes[split.test], hashes[split.train])
    if equal.mean() < _MANY:
        return None
    known = np.concatenate([split.train, split.test])
    different = len(np.unique(hashes[known]))
    distinct = [len(np.unique(row_hashes.words(column[known]))) for column in row_hashes.columns(groups)]
    if sum(count >= _NEARLY_AN_ID * different for count in distinct) < _COLUMNS:
        return None
    verb = "equals" if equal.sum() == 1 else "equal"
    return (
        f"{equal.sum():,} of {counted(len(equal), 'test row')} {verb} a training row in all columns, so the test "
        "scores are too good: remove repeated rows from the file"
    )
