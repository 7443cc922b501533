"""A folder of image files as a table of paths: `image`, and of files in class folders `label` and `split`.

What stands there: images themselves; or a folder for each class; or `train` and `test` (and `validation`), each with a
folder for each class. Files are read when their rows are.
"""

import os
from pathlib import Path

import pyarrow as pa

from dle_bundle.errors import InputError
from dle_bundle.images.pixels import SUFFIXES

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
_LISTED = 5


def read(folder: Path) -> pa.Table:
    """The image files below `folder` as rows, in the order of their paths, which are relative to it.

    Raises InputError: no image file, files beside class folders, parts that are not told apart from classes.
    """
    files = _files(folder)
    if not files:
        raise InputError(f"{folder}: expected image files ({', '.join(SUFFIXES)}) in it or in a folder for each class")
    steps = [file.parts for file in files]
    tops = {parts[0] for parts in steps if len(parts) > 1}
    split = {top for top in tops if top.lower() in _PARTS} == tops and "train" in {_PARTS[top.lower()] for top in tops}
    depth = 2 if split else 1
    columns = {IMAGE: pa.array([file.as_posix() for file in files], pa.large_string())}
    beside = [file for file, parts in zip(files, steps, strict=True) if len(parts) <= depth]
    if not tops:
        return pa.table(columns)
    if beside:
        shown = ", ".join(str(file) for file in beside[:_LISTED]) + (", …" if len(beside) > _LISTED else "")
        raise InputError(
            f"{folder}: {len(beside):,} image file(s) stand outside of the class folders: {shown}; "
            "move them into one, or out of the folder"
        )
    columns[LABEL] = pa.array([parts[depth - 1] for parts in steps], pa.large_string())
    if split:
        columns[SPLIT] = pa.array([_PARTS[parts[0].lower()] for parts in steps], pa.large_string())
    return pa.table(columns)


def _files(folder: Path) -> list[Path]:
    """Relative paths of the image files, sorted; hidden files and folders are left out."""
    found: list[Path] = []
    for place, folders, names in os.walk(folder, followlinks=True):
        folders[:] = [name for name in folders if not name.startswith(".")]
        found += [
            Path(place, name).relative_to(folder)
            for name in names
            if name.lower().endswith(SUFFIXES) and not name.startswith(".")
        ]
    return sorted(found, key=lambda path: path.as_posix())
