"""Read a SOURCE (files, a folder of images or `sklearn:NAME`) as an Arrow table, with its place and digest.

`dle_bundle.tables.source_files` reads files and folders of images, as it does for offline prediction. scikit-learn's
bundled tables let a new user start without a file.
"""

import hashlib
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path

import numpy as np
import pyarrow as pa
from msgspec.structs import replace

from dle_bundle.errors import InputError, nearest
from dle_bundle.images.formats import IMAGE_SUFFIXES
from dle_bundle.proposals import flag, for_python
from dle_bundle.schema import TextFormat
from dle_bundle.tables import arrays, folders, source_files, table_files
from dle_bundle.tables.source_files import ONE_FILE, STDIN, STDIN_NAME, FileRows
from dle_training.data.rows import total_rows

SKLEARN, MEMORY = "sklearn:", "memory:"
SKLEARN_TABLES = ("breast_cancer", "diabetes", "digits", "iris", "wine")
"""Tables with one target that scikit-learn carries itself, without a download."""
Place = str | tuple[str, ...]
"""A SOURCE: one place, or the paths of several files."""


@dataclass(frozen=True, slots=True)
class Source:
    """A table as it was read.

    `place` is a SOURCE that works from any folder, `digest` the SHA-256 of the content, which shows a later reader
    whether the data changed, `target` the column that the source itself calls its target. Paths in the table are
    relative to `folder`. `text_format` is the format of delimited text, given or detected, and `notes` say what was
    detected. `files` knows the rows of each file.
    """

    place: Place
    table: pa.Table
    digest: str
    target: str | None = None
    folder: Path | None = None
    text_format: TextFormat = table_files.PLAIN
    notes: tuple[str, ...] = ()
    files: FileRows = ONE_FILE


def read(
    source: Place, given: TextFormat = table_files.PLAIN, *, sheet: str | None = None, proposing: bool = True
) -> Source:
    """Read the table of `source`: files, a folder of images, or `sklearn:NAME`.

    `sheet` is that of a workbook, if not the one of `given`. `proposing` says whether the user can change settings,
    which messages then name. Raises InputError if there is no such file, bundled table or sheet, if it is not readable
    as its type, if arrays do not belong together, or if several files differ in their columns.
    """
    if isinstance(source, str) and source.startswith(SKLEARN):
        if sheet is not None:
            raise InputError(f"{flag('sheet', sheet)}: {source} is no workbook")
        return _sklearn(source.removeprefix(SKLEARN))
    if isinstance(source, str) and source.startswith(MEMORY):
        raise InputError(
            f"{source}: a table in the memory of a Python program, which cannot be read again: continue there with the "
            "same table, dle_training.train(table, out=…, resume=True), or train a new run"
        )
    paths = source_files.listed(source)
    places = tuple(str(path) if str(path) == STDIN else str(path.absolute()) for path in paths)
    with source_files.opened(paths) as files:
        files.check_sheet(sheet)
        if files.are_image_files:
            raise InputError(
                f"{said(source)}: image files without a label; give a folder that has a folder of images for each "
                "class, or a table with their paths and labels"
            )
        given = given if sheet is None else replace(given, sheet=sheet)
        detected = files.detect(given, proposing=proposing)
        parts = list(files.stream(detected.format, proposing=proposing))
        table = pa.concat_tables([part.table for part in parts], promote_options="permissive")
        if files.is_folder:
            target = folders.LABEL if folders.LABEL in table.column_names else None
            notes = _left_out(files.folder, table)
            return Source(places[0], table, _digest(table), target, files.folder, notes=notes)
        rows = FileRows.of(parts)
        named = all(file.path.name.lower().endswith(".npz") for file in files.files)
        return Source(
            places[0] if len(places) == 1 else places,
            table,
            files.digest(),
            arrays.TARGET if named and arrays.TARGET in table.column_names else None,
            files.folder,
            detected.format,
            (*detected.notes, *_totals(paths[0].name, table, rows, detected.format, proposing=proposing)),
            rows,
        )


def default_name(source: Place) -> str:
    """Return the name of a run on `source`.

    It is the stem of the first file, the name of the folder, also of the folder of a pattern, or of the bundled table.
    """
    first = source if isinstance(source, str) else source[0]
    if first.startswith((SKLEARN, MEMORY)):
        return first.partition(":")[2]
    if first == STDIN:
        return "stdin"
    path = Path(first).expanduser()
    if path.is_dir():
        return path.resolve().name
    if source_files.is_pattern(first):
        fixed = [part for part in path.parts[:-1] if not source_files.is_pattern(part)]
        return Path(*fixed).resolve().name
    name = path.name
    if name.lower().endswith(".zip"):
        name = name[: -len(".zip")]
    elif not name.lower().endswith((*table_files.TABLE_SUFFIXES, *IMAGE_SUFFIXES)):  # `read` refuses image files
        table_files.check_exists(path)  # a missing file is more likely than another file type
        table_files.suffix(path)
    known = max((each for each in table_files.TABLE_SUFFIXES if name.lower().endswith(each)), key=len, default="")
    return name[: len(name) - len(known)] or path.name


def said(place: Place) -> str:
    """Return `place` in words."""
    if isinstance(place, str):
        return STDIN_NAME if place == STDIN else place
    return f"{len(place):,} files, {place[0]} to {place[-1]}"


def typed(place: Place, option: str = "") -> str:
    """Return `place` as it is typed in a command, each file after `option`."""
    places = [place] if isinstance(place, str) else place
    return " ".join(f"{option} {shlex.quote(each)}".strip() for each in places) + sent(place)


def sent(place: Place | None) -> str:
    """Return what ends a command that reads `place`: the file to send, if that is standard input."""
    return " < FILE" if place == STDIN and not for_python() else ""


def file_names(place: Place) -> list[str]:
    """Return the names of the files without their folders. Raises InputError for a pattern that matches no file."""
    places = [place] if isinstance(place, str) else place
    return [
        path.name
        for each in places
        for path in (source_files.listed(each) if source_files.is_pattern(each) else [Path(each)])
    ]


def _totals(name: str, table: pa.Table, rows: FileRows, written: TextFormat, *, proposing: bool) -> Iterator[str]:
    """Notes on the files whose last row may sum up the others. Raises InputError for those whose last row does."""
    parts = zip(accumulate(rows.counts, initial=0), rows.names, rows.counts, strict=False)
    for start, file, count in parts if rows.names else ((0, name, len(table)),):
        try:
            note = total_rows.note(table.slice(start, count), written, proposing=proposing)
        except InputError as error:
            raise InputError(f"{file}: {error.message}") from None
        if note:
            yield f"{file}: {note}" if rows.names else note


def _left_out(folder: Path, table: pa.Table) -> tuple[str, ...]:
    """A note on the files that are not read. Raises InputError with every class folder without a file that is read."""
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
