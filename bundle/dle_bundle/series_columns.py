"""Arrow columns of series to arrays: lists of numbers, lists of steps, or arrays of one shape."""

from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from dle_bundle import series
from dle_bundle.decode import float32
from dle_bundle.schema import SequenceShape

Column = Any


def is_series(column: Column) -> bool:
    """Whether the column holds lists of numbers, lists of lists of numbers, or arrays of two dimensions of them."""
    kind = column.type
    if isinstance(kind, pa.FixedShapeTensorType):
        return len(kind.shape) == 2 and _is_number(kind.value_type)
    if not _is_list(kind):
        return False
    return _is_number(kind.value_type) or (_is_list(kind.value_type) and _is_number(kind.value_type.value_type))


def width(column: Column) -> int:
    """How many channels the series of the column have; of an array of two dimensions the smaller one."""
    kind = column.type
    if isinstance(kind, pa.FixedShapeTensorType):
        return int(min(kind.shape))
    if not _is_list(kind.value_type):
        return 1
    steps = _flat(_whole(column))
    sizes = pc.list_value_length(steps).drop_null()
    return int(pc.mode(sizes)[0].as_py()["mode"]) if len(sizes) else 1


def read(
    column: Column, shape: SequenceShape
) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.int64], dict[int, str], npt.NDArray[np.bool_]]:
    """The series (N, T, channels), NaN = missing and padding; lengths (N,); by row what is wrong; which are missing."""
    whole, channels = _whole(column), len(shape.channels)
    absent = np.asarray(whole.is_null()) if whole.null_count else np.zeros(len(whole), dtype=bool)
    if isinstance(whole.type, pa.FixedShapeTensorType):
        array = whole.to_numpy_ndarray()
        # steps first unless only the other way fits
        steps = array if array.shape[2] == channels and array.shape[1] != channels else array.transpose(0, 2, 1)
        if steps.shape[2] != channels:
            reason = f"expected {channels} channels, found an array of {array.shape[1]} × {array.shape[2]}"
            return *series.missing(len(whole), shape), dict.fromkeys(range(len(whole)), reason), absent
        return _checked(steps.astype(np.float64), np.full(len(whole), steps.shape[1]), absent, shape)
    counts = np.asarray(pc.list_value_length(whole).fill_null(0)).astype(np.int64)
    flat = _flat(whole)
    if _is_list(flat.type):
        sizes = np.asarray(pc.list_value_length(flat).fill_null(-1)).astype(np.int64)
        if (sizes != channels).any():
            return _ragged(counts, sizes, absent, shape)
        numbers = _numbers(_flat(flat)).reshape(-1, channels)
    elif channels != 1:
        reason = f"expected steps of {channels} numbers, found single numbers"
        return *series.missing(len(whole), shape), dict.fromkeys(np.flatnonzero(~absent).tolist(), reason), absent
    else:
        numbers = _numbers(flat).reshape(-1, 1)
    steps = np.full((len(whole), int(counts.max(initial=1)), channels), np.nan)
    steps[np.arange(steps.shape[1]) < counts[:, None]] = numbers
    return _checked(steps, counts, absent, shape)


def _checked(
    steps: npt.NDArray[np.float64], counts: npt.NDArray[np.int64], absent: npt.NDArray[np.bool_], shape: SequenceShape
) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.int64], dict[int, str], npt.NDArray[np.bool_]]:
    faults = {row: "expected at least one step, got none" for row in np.flatnonzero((counts == 0) & ~absent).tolist()}
    for row in np.flatnonzero(counts > shape.max_steps).tolist():
        faults[row] = f"expected at most {shape.max_steps:,} steps, got {counts[row]:,}"
    infinite = np.isinf(steps)
    for row in np.flatnonzero(infinite.any(axis=(1, 2))).tolist():
        place, channel = np.argwhere(infinite[row])[0].tolist()
        named = f", {shape.channels[channel]}" if len(shape.channels) > 1 else ""
        faults.setdefault(row, f"step {place}{named}: expected a finite number")
    wrong = list(faults)
    steps[wrong], counts = np.nan, np.maximum(counts, 1)
    counts[wrong] = 1
    return float32(steps[:, : int(counts.max(initial=1))]), counts, faults, absent


def _ragged(
    counts: npt.NDArray[np.int64], sizes: npt.NDArray[np.int64], absent: npt.NDArray[np.bool_], shape: SequenceShape
) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.int64], dict[int, str], npt.NDArray[np.bool_]]:
    """Nothing but what is wrong: steps of another width than the series has."""
    starts = np.cumsum(counts) - counts
    rows = np.repeat(np.arange(len(counts)), counts)
    faults: dict[int, str] = {}
    for step in np.flatnonzero(sizes != len(shape.channels)).tolist():
        row = int(rows[step])
        found = "null" if sizes[step] < 0 else str(sizes[step])
        faults.setdefault(row, f"step {step - starts[row]}: expected {len(shape.channels)} numbers, got {found}")
    return *series.missing(len(counts), shape), faults, absent


def _whole(column: Column) -> Any:
    return column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column


def _flat(lists: Any) -> Any:
    """The elements of all lists that are not null, in order."""
    return lists.flatten()


def _numbers(flat: Any) -> npt.NDArray[np.float64]:
    return np.asarray(flat.cast(pa.float64(), safe=False).to_numpy(zero_copy_only=False)).astype(np.float64)


def _is_list(kind: Any) -> bool:
    return bool(pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind))


def _is_number(kind: Any) -> bool:
    return bool(pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_boolean(kind))


def longest(column: Column) -> int:
    """The most steps of a series in the column."""
    if isinstance(column.type, pa.FixedShapeTensorType):
        return int(max(column.type.shape))
    return int(pc.max(pc.list_value_length(_whole(column))).as_py() or 0)
