"""Read a SOURCE (a file, a folder of images or `sklearn:NAME`) as an Arrow table, with its place and digest.

`dle_bundle.tables.table_files` reads files and folders of images, as it does for offline prediction. scikit-learn's
bundled tables let a new user start without a file.
"""

import hashlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa

from dle_bundle import integrity
from dle_bundle.errors import InputError, nearest
from dle_bundle.schema import TextFormat
from dle_bundle.tables import arrays, folders, table_files
from dle_training.data import total_rows

SKLEARN, MEMORY = "sklearn:", "memory:"
SKLEARN_TABLES = ("breast_cancer", "diabetes", "digits", "iris", "wine")
"""Tables with one target that scikit-learn carries itself, without a download."""


@dataclass(frozen=True, slots=True)
class Source:
    """A table as it was read.

    `place` is a SOURCE that works from any folder, `digest` the SHA-256 of the content, which shows a later reader
    whether the data changed, `target` the column that the source itself calls its target. Paths in the table are
    relative to `folder`. `text_format` is the format of delimited text, given or detected, and `notes` say what was
    detected.
    """

    place: str
    table: pa.Table
    digest: str
    target: str | None = None
    folder: Path | None = None
    text_format: TextFormat = table_files.PLAIN
    notes: tuple[str, ...] = ()


def read(source: str, given: TextFormat = table_files.PLAIN) -> Source:
    """Read the table of `source`: a file, a folder of images, or `sklearn:NAME`.

    Raises InputError if there is no such file or bundled table, if it is not readable as its type, or if arrays do not
    belong together.
    """
    if source.startswith(SKLEARN):
        return _sklearn(source.removeprefix(SKLEARN))
    if source.startswith(MEMORY):
        raise InputError(
            f"{source}: a table in the memory of a Python program, which cannot be read again: continue there with the "
            "same table, dle_training.train(table, out=…, resume=True), or train a new run"
        )
    path = Path(source).expanduser()
    if path.is_dir():
        table = table_files.read(path)
        target = folders.LABEL if folders.LABEL in table.column_names else None
        notes = _left_out(path, table)
        return Source(str(path.absolute()), table, _digest(table), target, path.absolute(), notes=notes)
    detected = table_files.detect(path, given)
    table = table_files.read(path, detected.format)
    named = path.name.lower().endswith(".npz") and arrays.TARGET in table.column_names
    target = arrays.TARGET if named else None
    return Source(
        str(path.absolute()),
        table,
        integrity.digest(path),
        target,
        path.absolute().parent,
        detected.format,
        (*detected.notes, *filter(None, [total_rows.note(table)])),
    )


def default_name(source: str) -> str:
    """Return the name of a run on `source`: the file's stem, or the name of the folder or bundled table."""
    if source.startswith((SKLEARN, MEMORY)):
        return source.partition(":")[2]
    path = Path(source).expanduser()
    if path.is_dir():
        return path.resolve().name
    name = path.name
    if not name.lower().endswith(table_files.TABLE_SUFFIXES):  # a missing file is more likely than another file type
        table_files.check_exists(path)
    return name[: -len(table_files.suffix(path))] or name


def _left_out(folder: Path, table: pa.Table) -> tuple[str, ...]:
    """A note on the files that are not read. Raises InputError with every class folder of which no file is read."""
    others = folders.left_out(folder)
    if lost := folders.lost(table, others):
        raise InputError(
            f"{folder}: class folders hold no file named like an image that can be read; convert the files, or move "
            "the folders elsewhere",
            [f"{name}: {folders.described(files)}" for name, files in lost.items()],
        )
    if not others:
        return ()
    return (f"files not named like images that can be read were left out: {folders.described(others)}",)


def _sklearn(name: str) -> Source:
    if name not in SKLEARN_TABLES:
        known = ", ".join(SKLEARN + table for table in SKLEARN_TABLES)
        raise InputError(f"{SKLEARN}{name}: no such table{nearest(name, SKLEARN_TABLES)}; there are {known}")
    from sklearn import datasets

    bunch = getattr(datasets, f"load_{name}")()
    target = bunch.target if name == "diabetes" else np.asarray(bunch.target_names)[bunch.target]
    columns = {str(name): bunch.data[:, index] for index, name in enumerate(bunch.feature_names)}
    table = pa.table({**columns, "target": target})
    return Source(SKLEARN + name, table, _digest(table), "target")


def _digest(table: pa.Table) -> str:
    content = hashlib.sha256()
    for name in table.column_names:
        content.update(name.encode())
        content.update(np.asarray(table.column(name)).astype(str).tobytes())
    return content.hexdigest()
