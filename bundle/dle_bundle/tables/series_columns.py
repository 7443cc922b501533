"""Converts Arrow columns of series into arrays: lists of numbers, lists of steps, or arrays of equal shape.

All rows are read at once by the offsets of their lists; only faults are handled row by row. The results equal those of
`series.parse` for the same numbers in JSON, bit for bit.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from dle_bundle.errors import counted
from dle_bundle.schema import SequenceShape
from dle_bundle.values.numbers import limited

Column = Any
_Counts = npt.NDArray[np.int64]
_Mask = npt.NDArray[np.bool_]


def is_series(column: Column) -> bool:
    """Whether the column holds lists of numbers, lists of lists of numbers, or two-dimensional arrays of numbers."""
    kind = column.type
    if isinstance(kind, pa.FixedShapeTensorType):
        return len(kind.shape) == 2 and _is_number(kind.value_type)
    if not _is_list(kind):
        return False
    return _is_number(kind.value_type) or (_is_list(kind.value_type) and _is_number(kind.value_type.value_type))


def width(column: Column) -> int:
    """The number of channels; for two-dimensional arrays, the smaller dimension."""
    kind = column.type
    if isinstance(kind, pa.FixedShapeTensorType):
        return int(min(kind.shape))
    if not _is_list(kind.value_type):
        return 1
    sizes = pc.list_value_length(_whole(column).flatten()).drop_null()
    return max(1, int(pc.mode(sizes)[0].as_py()["mode"])) if len(sizes) else 1


def longest(column: Column) -> int:
    """The number of steps of the longest series in the column."""
    if isinstance(column.type, pa.FixedShapeTensorType):
        return int(max(column.type.shape))
    return int(pc.max(pc.list_value_length(_whole(column))).as_py() or 0)


def read(
    column: Column, shape: SequenceShape, sentinels: Sequence[float] = ()
) -> tuple[npt.NDArray[np.float64], _Counts, dict[int, str], _Mask]:
    """Read series (N, T, channels), NaN = missing or padding, lengths (N,), faults by row, and a mask of missing rows.

    An invalid or missing row becomes one step without values, or `shape.ahead` steps. For forecasts, only the last
    `shape.window` steps are returned. `sentinels` are the numbers that mean missing.
    """
    whole = _whole(column)
    absent: _Mask = np.asarray(whole.is_null()) if whole.null_count else np.zeros(len(whole), dtype=bool)
    steps, counts, faults = _steps(whole, absent, shape)
    infinite = np.isinf(steps)
    if infinite.any():
        rows = np.repeat(np.arange(len(whole)), counts)
        starts = np.cumsum(counts) - counts
        for place, channel in np.argwhere(infinite).tolist():
            row = int(rows[place])
            named = f", channel {shape.channels[channel]}" if len(shape.channels) > 1 else ""
            faults.setdefault(row, f"step {place - starts[row]}{named}: expected a finite number")
        good = ~np.isin(rows, list(faults))
        steps = steps[good]
        counts[list(faults)] = 0
    if sentinels:
        steps[np.isin(steps, sentinels)] = np.nan
    lengths = np.maximum(counts, shape.ahead or 1)
    padded = np.full(
        (len(whole), int(lengths.max(initial=shape.ahead or 1)), len(shape.channels)), np.nan, dtype=np.float64
    )
    padded[np.arange(padded.shape[1]) < counts[:, None]] = limited(steps)
    if shape.window is not None:
        first = np.maximum(lengths - shape.window, 0)
        lengths = lengths - first
        places = np.minimum(first[:, None] + np.arange(lengths.max(initial=1)), padded.shape[1] - 1)
        padded = np.take_along_axis(padded, places[:, :, None], axis=1)
    return padded, lengths, faults, absent


def _steps(whole: Any, absent: _Mask, shape: SequenceShape) -> tuple[npt.NDArray[np.float64], _Counts, dict[int, str]]:
    """The steps (M, channels) of all valid rows, the number of steps of each row (N,), and the faults by row."""
    channels = len(shape.channels)
    if isinstance(whole.type, pa.FixedShapeTensorType):
        return _of_arrays(whole, absent, shape)
    counts: _Counts = np.asarray(pc.list_value_length(whole).fill_null(0)).astype(np.int64)
    nested = _is_list(whole.type.value_type)
    if channels != 1 and not nested:
        reason = f"expected steps of {counted(channels, 'number')}, got single numbers"
        return _none(channels), np.zeros_like(counts), dict.fromkeys(np.flatnonzero(~absent).tolist(), reason)
    faults = _of_lengths(counts, absent, shape)
    flat = whole.flatten()  # without null rows
    if nested:
        sizes: _Counts = np.asarray(pc.list_value_length(flat).fill_null(-1)).astype(np.int64)
        if (sizes != channels).any():
            faults |= {row: reason for row, reason in _ragged(counts, sizes, channels).items() if row not in faults}
    if faults:
        wrong = np.isin(np.arange(len(whole)), list(faults))
        flat = flat.filter(pa.array(~np.repeat(wrong, counts)))
        counts[wrong] = 0
    numbers = _numbers(flat.flatten() if nested else flat)
    return numbers.reshape(-1, channels), counts, faults


def _of_arrays(
    whole: Any, absent: _Mask, shape: SequenceShape
) -> tuple[npt.NDArray[np.float64], _Counts, dict[int, str]]:
    """As `_steps`, for arrays of equal shape: (channels, steps), unless only (steps, channels) fits."""
    # tensors with nulls have no array, and the shape of their type ignores a permutation
    array = (whole.filter(pa.array(~absent)) if absent.any() else whole).to_numpy_ndarray().astype(np.float64)
    channels, (rows, columns) = len(shape.channels), array.shape[1:]
    if channels not in (rows, columns):
        reason = f"expected {counted(channels, 'channel')}, got an array of {rows} × {columns}"
        faults = dict.fromkeys(np.flatnonzero(~absent).tolist(), reason)
        return _none(channels), np.zeros(len(whole), dtype=np.int64), faults
    counts = np.where(absent, 0, columns if rows == channels else rows).astype(np.int64)
    if faults := _of_lengths(counts, absent, shape):
        return _none(channels), np.zeros_like(counts), faults
    return (array.transpose(0, 2, 1) if rows == channels else array).reshape(-1, channels), counts, {}


def _of_lengths(counts: _Counts, absent: _Mask, shape: SequenceShape) -> dict[int, str]:
    """The faults in the number of steps, by row."""
    least = shape.ahead or shape.window or 1
    wrong = np.flatnonzero(((counts < least) | (counts > shape.max_steps)) & ~absent)
    found = ((row, shape.count_fault(int(counts[row]))) for row in wrong.tolist())
    return {row: fault for row, fault in found if fault is not None}


def _ragged(counts: _Counts, sizes: _Counts, channels: int) -> dict[int, str]:
    """A fault for the first step of each row with a wrong number of channels; `sizes` (M,), -1 = null."""
    starts = np.cumsum(counts) - counts
    rows = np.repeat(np.arange(len(counts)), counts)
    expected = counted(channels, "number")
    faults: dict[int, str] = {}
    for step in np.flatnonzero(sizes != channels).tolist():
        row, place = int(rows[step]), step - starts[rows[step]]
        if sizes[step] < 0:
            faults.setdefault(row, f"step {place}: expected a list of {expected}, got null")
        else:
            faults.setdefault(row, f"step {place}: expected {expected}, got {sizes[step]}")
    return faults


def _none(channels: int) -> npt.NDArray[np.float64]:
    return np.empty((0, channels))


def _whole(column: Column) -> Any:
    return column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column


def _numbers(flat: Any) -> npt.NDArray[np.float64]:
    return np.asarray(flat.cast(pa.float64(), safe=False).to_numpy(zero_copy_only=False)).astype(np.float64)


def _is_list(kind: Any) -> bool:
    return bool(pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind))


def _is_number(kind: Any) -> bool:
    known = (pa.types.is_integer, pa.types.is_floating, pa.types.is_decimal, pa.types.is_boolean, pa.types.is_null)
    return any(test(kind) for test in known)
