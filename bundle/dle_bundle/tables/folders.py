"""Reads a folder of image files as a table of paths, with the columns `image`, `label` and `split`.

The folder contains images (only `image`), or one folder per class (`image`, `label`), or the folders `train` and `test`
(and `validation`) with one folder per class each (all three). The files themselves are read later.
"""

import os
from pathlib import Path

import pyarrow as pa

from dle_bundle.errors import InputError, counted
from dle_bundle.images.pixels import IMAGE_SUFFIXES

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
    """The image files below `folder` as rows, sorted by their path, which is relative to `folder`.

    Raises InputError when there are no image files, or some lie outside the class folders.
    """
    files = _files(folder)
    if not files:
        raise InputError(
            f"{folder}: expected image files ({', '.join(IMAGE_SUFFIXES)}), in the folder itself or in one folder per "
            "class"
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
        shown = ", ".join(str(file) for file in beside[:_LISTED]) + (", …" if len(beside) > _LISTED else "")
        raise InputError(
            f"{folder}: {counted(len(beside), 'image file')} outside the class folders: {shown}; "
            "move all of them into a class folder or elsewhere"
        )
    columns[LABEL] = pa.array([parts[depth - 1] for parts in steps], pa.large_string())
    if split:
        columns[SPLIT] = pa.array([_PARTS[parts[0].lower()] for parts in steps], pa.large_string())
    return pa.table(columns)


def _files(folder: Path) -> list[Path]:
    """The relative paths of the image files, sorted, without hidden files and folders."""
    found: list[Path] = []
    for place, folders, names in os.walk(folder, followlinks=True):
        folders[:] = [name for name in folders if not name.startswith(".")]
        found += [
            Path(place, name).relative_to(folder)
            for name in names
            if name.lower().endswith(IMAGE_SUFFIXES) and not name.startswith(".")
        ]
    return sorted(found, key=lambda path: path.as_posix())
