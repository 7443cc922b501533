"""Blocks of rows that a split must keep together: the rows of one group or of one time.

Rows of one patient, machine or customer resemble each other. If they stand in several parts, the test score is too
good. The same happens when a model trains on rows that are later than its test rows.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from dle_bundle.errors import InputError, counted
from dle_bundle.tables import columns
from dle_training.config.run_config import DataConfig
from dle_training.data.columns import column_settings, kinds

RowNumbers = npt.NDArray[np.int64]

GROUP = "group:"
TIME = "time:"
_NONE = -1


@dataclass(frozen=True, slots=True)
class Blocks:
    """The block of each of the N rows of a table.

    `first` (N,) is the number of its group or, where blocks are `in_time`, the rank of its time; -1 for rows without a
    target. `last` (N,) is the same, but for windows of a forecast: their targets have times from `first` to `last`.
    `note` tells the user how the times were read.
    """

    first: RowNumbers
    last: RowNumbers
    in_time: bool
    note: str | None = None


def read(table: pa.Table, by: str, target: str, known: npt.NDArray[np.bool_], config: DataConfig) -> Blocks | None:
    """Return the blocks of a split by `group:NAME` or `time:NAME`, or None for any other split.

    `known` (N,) marks the rows that have a target; only they get a block. Raises InputError if the column is the
    target, if its type suits neither a group nor a time, or if a row has no group or time.
    """
    if not by.startswith((GROUP, TIME)):
        return None
    name = by.partition(":")[2]
    if name == target:
        raise InputError(f"split.by={by}: {name!r} is the target; split.by needs another column")
    rows = np.flatnonzero(known)
    column, note = table.column(name).take(pa.array(rows)), None
    if by.startswith(GROUP):
        values = _groups(name, column, column_settings.of(name, config).na_texts, rows)
    else:
        reading = kinds.times(name, column, column_settings.of(name, config), rows)
        values, note = reading.values, reading.note and f"{name}: {reading.note}"
    numbers = np.full(len(table), _NONE)
    numbers[rows] = np.unique(values, return_inverse=True)[1]
    return Blocks(numbers, numbers, by.startswith(TIME), note)


def cuts(sizes: RowNumbers, wanted: Sequence[float]) -> list[int]:
    """Return the block at which each later part begins; every part gets at least one block.

    `sizes` (B,) are the rows of each block, in order. `wanted` is the number of rows that should precede each later
    part, ascending. B must be larger than `len(wanted)`.
    """
    before = np.cumsum(sizes)
    begins: list[int] = []
    for later, rows in zip(range(len(wanted) - 1, -1, -1), wanted, strict=True):
        least = begins[-1] + 1 if begins else 1
        within = before[least - 1 : len(sizes) - later - 1]
        begins.append(least + int(np.argmin(np.abs(within - rows))))
    return begins


def _groups(name: str, column: columns.Column, na_texts: tuple[str, ...], rows: RowNumbers) -> npt.NDArray[np.object_]:
    if not (columns.is_text(column) or columns.is_number(column) or columns.is_date(column)):
        raise InputError(f"{name!r}: holds {column.type}, but a group column must hold text, numbers or dates")
    texts = columns.categories(column, na_texts)
    missing = texts == ""
    if missing.any():
        raise InputError(
            f"{name!r}: no group in {int(missing.sum()):,} of {counted(len(texts), 'row')}; fill in the groups, or "
            "remove such rows from the table",
            kinds.listed(column, missing, rows),
        )
    return texts
