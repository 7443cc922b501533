"""Which rows of another source were trained on: scores on them say how well the model remembers.

A run keeps a hash of 64 bits for each training and validation row, with its target, because it does not keep the
training rows themselves. Images and series have no such hashes; they are recognised by the digest of their source.
"""

import hashlib
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from dle_bundle.errors import InputError
from dle_bundle.files import atomic_path
from dle_bundle.groups import Groups
from dle_training.data.dataset import Dataset
from dle_training.data.target import Values

_PARTS = ("train", "validation")
_FACTOR = np.uint64(0x9E3779B97F4A7C15)
_SHIFT = np.uint64(32)
_OFTEN = 2

Hashes = npt.NDArray[np.uint64]


def write(path: Path, dataset: Dataset) -> None:
    """Write the hashes of the training and validation rows, and how often one of the latter equals a training row."""
    if not _can_hash(dataset.groups):
        return
    hashes = _hashes(dataset.groups, dataset.target)
    parts = {name: np.unique(hashes[dataset.split.rows(name)]) for name in _PARTS}
    chance = np.isin(hashes[dataset.split.validation], parts["train"]).mean()
    with atomic_path(path) as temporary, temporary.open("wb") as file:
        np.savez(file, chance=np.float64(chance), **parts)  # type: ignore[arg-type]


def count(path: Path, groups: Groups, target: Values) -> dict[str, int] | None:
    """Return how many rows were in the training and how many in the validation part, by part; None if unknown.

    Rows with few different values are equal by chance. They are not counted if the validation part of the run had,
    in proportion, at least half as many. Raises InputError if the file is not readable.
    """
    if not path.is_file() or not _can_hash(groups):
        return None
    try:
        with np.load(path, allow_pickle=False) as kept:
            parts, chance = {name: kept[name] for name in _PARTS}, float(kept["chance"])
    except (OSError, EOFError, ValueError, KeyError) as error:
        raise InputError(f"{path}: no readable hashes of rows: {error}") from error
    hashes = _hashes(groups, target)
    found = {"train": np.isin(hashes, parts["train"])}
    found["validation"] = np.isin(hashes, parts["validation"]) & ~found["train"]
    counts = {name: int(mask.sum()) for name, mask in found.items()}
    return counts if sum(counts.values()) > _OFTEN * chance * len(hashes) else dict.fromkeys(_PARTS, 0)


def _can_hash(groups: Groups) -> bool:
    return groups.image is None and groups.sequence is None


def _hashes(groups: Groups, target: Values) -> Hashes:
    """Return the hash (N,) of the inputs and the target of each row."""
    hashes = np.zeros(len(groups), dtype=np.uint64)
    texts = groups.categorical if groups.text is None else np.concatenate([groups.categorical, groups.text], axis=1)
    labels = target.reshape(len(target), -1)
    for columns in (groups.numeric, groups.datetime, texts, labels):
        for index in range(columns.shape[1]):
            hashes = (hashes ^ _words(columns[:, index])) * _FACTOR
            hashes ^= hashes >> _SHIFT
    return hashes


def _words(column: npt.NDArray[Any]) -> Hashes:
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
