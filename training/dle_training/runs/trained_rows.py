"""Which rows of another source were trained on: scores on them say how well the model remembers.

A run keeps a hash of 64 bits for each training and validation row, with its target, because it does not keep the
training rows themselves. Images and series have no such hashes; they are recognised by the digest of their source.
"""

from pathlib import Path

import numpy as np

from dle_bundle.errors import InputError
from dle_bundle.files import atomic_path
from dle_bundle.groups import Groups
from dle_training.data.dataset import Dataset
from dle_training.data.rows import row_hashes
from dle_training.data.target import Values

_PARTS = ("train", "validation")
_OFTEN = 2


def write(path: Path, dataset: Dataset) -> None:
    """Write the hashes of the training and validation rows, and how often one of the latter equals a training row."""
    if not row_hashes.possible(dataset.groups):
        return
    hashes = row_hashes.of(dataset.groups, dataset.target)
    parts = {name: np.unique(hashes[dataset.split.rows(name)]) for name in _PARTS}
    chance = np.isin(hashes[dataset.split.validation], parts["train"]).mean()
    with atomic_path(path) as temporary, temporary.open("wb") as file:
        np.savez(file, chance=np.float64(chance), **parts)  # type: ignore[arg-type]


def count(path: Path, groups: Groups, target: Values) -> dict[str, int] | None:
    """Return how many rows were in the training and how many in the validation part, by part; None if unknown.

    Rows with few different values are equal by chance. They are not counted if the validation part of the run had,
    in proportion, at least half as many. Raises InputError if the file is not readable.
    """
    if not path.is_file() or not row_hashes.possible(groups):
        return None
    try:
        with np.load(path, allow_pickle=False) as kept:
            parts, chance = {name: kept[name] for name in _PARTS}, float(kept["chance"])
    except (OSError, EOFError, ValueError, KeyError) as error:
        raise InputError(f"{path}: no readable hashes of rows: {error}") from error
    hashes = row_hashes.of(groups, target)
    found = {"train": np.isin(hashes, parts["train"])}
    found["validation"] = np.isin(hashes, parts["validation"]) & ~found["train"]
    counts = {name: int(mask.sum()) for name, mask in found.items()}
    return counts if sum(counts.values()) > _OFTEN * chance * len(hashes) else dict.fromkeys(_PARTS, 0)
