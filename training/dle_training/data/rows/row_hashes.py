"""Hashes of 64 bits of whole rows, by which equal rows are found."""

import hashlib
from typing import Any

import numpy as np
import numpy.typing as npt

from dle_bundle.groups import Groups
from dle_training.data.target import Values

_FACTOR = np.uint64(0x9E3779B97F4A7C15)
_SHIFT = np.uint64(32)

Hashes = npt.NDArray[np.uint64]


def possible(groups: Groups) -> bool:
    """Whether rows have hashes: images and series have none."""
    return groups.image is None and groups.sequence is None


def of(groups: Groups, target: Values) -> Hashes:
    """Return the hash (N,) of the inputs and the target of each row."""
    hashes = np.zeros(len(groups), dtype=np.uint64)
    for column in (*columns(groups), *target.reshape(len(target), -1).T):
        hashes = (hashes ^ words(column)) * _FACTOR
        hashes ^= hashes >> _SHIFT
    return hashes


def columns(groups: Groups) -> list[npt.NDArray[Any]]:
    """Return the columns (N,) of a table: its numbers, dates, categories and texts."""
    texts = [] if groups.text is None else [*groups.text.T]
    return [*groups.numeric.T, *groups.datetime.T, *groups.categorical.T, *texts]


def words(column: npt.NDArray[Any]) -> Hashes:
    """Return 64 bits for each value (N,) of a column; equal values have equal bits."""
    if column.dtype != object:
        # a missing value has one form, and so has zero
        numbers = column if column.dtype == np.int64 else column.astype(np.float64) + 0.0
        if numbers.dtype == np.float64:
            numbers[np.isnan(numbers)] = np.nan
        return numbers.view(np.uint64)
    values = column.tolist()
    digests = {value: hashlib.blake2b(repr(value).encode(), digest_size=8).digest() for value in set(values)}
    return np.frombuffer(b"".join(map(digests.__getitem__, values)), dtype=np.uint64)
