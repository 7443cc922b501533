"""Reads a folder of image files as a table of paths, with the columns `image`, `label` and `split`.

The folder contains images (only `image`), or one folder per class (`image`, `label`), or the folders `train` and `test`
(and `validation`) with one folder per class each (all three). The files themselves are read later. Files that are not
named like images that can be read are left out; `left_out` lists them, so that callers report them.
"""

import os
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import pyarrow as pa

from dle_bundle.errors import InputError, counted
from dle_bundle.images import pixels

IMAGE, LABEL, SPLIT = "image", "label", "split"
PARTS = ("train", "validation", "test")
_PARTS = {
    "train": "train",
    "training": "train",
    "test": "test",
    "validation": "validation",
    "valid": "validation",
    "val": "validation",
}
_LISTED, _LISTED_SUFFIXES = 5, 10


def read(folder: Path) -> pa.Table:
    """The image files below `folder` as rows, sorted by their path, which is relative to `folder`.

    Raises InputError when there are no image files, or some lie outside the class folders.
    """
    files, others = _files(folder)
    if not files:
        raise InputError(
            f"{folder}: expected image files ({', '.join(pixels.readable_suffixes())}), in the folder itself or in one "
            f"folder per class; to read tables in it, name them or give a pattern, such as '{folder}/*.csv'",
            [f"found {described(others)}"] if others else [],
        )
    steps = [file.parts for file in files]
    tops = {parts[0] for parts in steps if len(parts) > 1}
    split = {top for top in tops if top.lower() in _PARTS} == tops and "train" in {_PARTS[top.lower()] for top in tops}
    depth = 2 if split else 1
    columns = {IMAGE: pa.array([file.as_posix() for file in files], pa.large_string())}
    beside = [file for file, parts in zip(files, steps, strict=True) if len(parts) <= depth]
    if not tops:
        return pa.table(columns)
    if beside:
        raise InputError(
            f"{folder}: {counted(len(beside), 'image file')} outside the class folders: {_first(beside)}; "
            "move all of them into a class folder or elsewhere"
        )
    columns[LABEL] = pa.array([parts[depth - 1] for parts in steps], pa.large_string())
    if split:
        columns[SPLIT] = pa.array([_PARTS[parts[0].lower()] for parts in steps], pa.large_string())
    return pa.table(columns)


def left_out(folder: Path) -> tuple[Path, ...]:
    """The files below `folder` that `read` leaves out: their relative paths, sorted, without hidden files."""
    return tuple(_files(folder)[1])


def lost(table: pa.Table, others: Sequence[Path]) -> dict[str, list[Path]]:
    """The class folders without an image in `table`, the result of `read`, each with its files among `others`."""
    depth = 2 if SPLIT in table.column_names else 1
    found: dict[str, list[Path]] = {}
    if LABEL not in table.column_names:
        return found
    known = {Path(name).parts[:depth] for name in table.column(IMAGE).to_pylist()}
    for file in others:
        if len(file.parts) > depth and file.parts[:depth] not in known:
            found.setdefault(Path(*file.parts[:depth]).as_posix(), []).append(file)
    return found


def described(files: Sequence[Path]) -> str:
    """How many files of each suffix there are, the names of the first ones, and what would read them."""
    counts = Counter(file.suffix.lower() or "no suffix" for file in files).most_common()
    kinds = ", ".join(f"{suffix} ({count:,})" for suffix, count in counts[:_LISTED_SUFFIXES])
    more = ", …" if len(counts) > _LISTED_SUFFIXES else ""
    hints = {hint for file in files if (hint := pixels.needed(file.name)) is not None}
    return "; ".join([f"{counted(len(files), 'file')}, {kinds}{more}: {_first(files)}", *sorted(hints)])


def _first(files: Sequence[Path]) -> str:
    return ", ".join(file.as_posix() for file in files[:_LISTED]) + (", …" if len(files) > _LISTED else "")


def _files(folder: Path) -> tuple[list[Path], list[Path]]:
    """The relative paths of the image files and of the other files, sorted, without hidden files and folders."""
    images: list[Path] = []
    others: list[Path] = []
    suffixes = pixels.readable_suffixes()
    for place, folders, names in os.walk(folder, followlinks=True):
        folders[:] = [name for name in folders if not name.startswith(".")]
        for name in names:
            if not name.startswith("."):
                known = images if name.lower().endswith(suffixes) else others
                known.append(Path(place, name).relative_to(folder))
    return sorted(images, key=Path.as_posix), sorted(others, key=Path.as_posix)
