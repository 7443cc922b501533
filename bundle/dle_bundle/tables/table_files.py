"""Reads table files as Arrow tables, for training and offline prediction.

The values of delimited text stay text; the schema determines how `columns` parses them, not the content of one file.
Parquet, JSON and workbooks keep their types. `text_files` reads delimited text, `json_lines` reads JSON, `workbooks`
reads .xlsx files, `arrays` reads .npy and .npz files, `folders` reads folders of image files.
"""

import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet

from dle_bundle.errors import InputError, nearest
from dle_bundle.images import pixels
from dle_bundle.schema import TextFormat
from dle_bundle.tables import arrays, columns, folders, json_lines, text_files, workbooks
from dle_bundle.tables.text_files import Detected

TABLE_SUFFIXES = (*text_files.TEXT_SUFFIXES, *json_lines.JSON_SUFFIXES, ".xlsx", ".parquet", ".npy", ".npz")
_LIKENESS = 0.75
"""Stems of file names that have less in common are different words, such as `data` and `dates`."""
PLAIN = TextFormat()
"""The format of text that says everything itself."""


def suffix(path: Path) -> str:
    """The suffix that determines the format (`.csv.gz` is one suffix); raises InputError for an unknown one."""
    name = path.name.lower()
    for known in sorted(TABLE_SUFFIXES, key=len, reverse=True):
        if name.endswith(known):
            return known
    if name.endswith(pixels.IMAGE_SUFFIXES):
        raise InputError(f"{path}: an image, not a table; name images without other files, or a table of their paths")
    raise InputError(f"{path}: expected a file ending in {', '.join(TABLE_SUFFIXES)}, or .zip with one of them")


def check_exists(path: Path) -> None:
    """Raise InputError with similar names when there is no file or folder at `path`."""
    if not path.exists():
        beside = [other.name for other in path.absolute().parent.glob("*") if not other.name.startswith(".")]
        near = nearest(path.name, beside, _stem, _LIKENESS)
        raise InputError(f"{path}: no such file or folder{near}")


def _stem(name: str) -> str:
    """The name of a file up to its suffixes, which make many names alike."""
    return name.lstrip(".").partition(".")[0] or name


def read(path: Path, written: TextFormat = PLAIN) -> pa.Table:
    """Read the whole table. `written` is the format of delimited text; what it leaves open is detected.

    Raises InputError when the file is missing or unreadable (with the line), or has an unknown suffix, no rows, no
    columns or duplicate column names.
    """
    return pa.concat_tables(stream(path, written), promote_options="permissive")


def stream(
    path: Path, written: TextFormat = PLAIN, *, rows: int = 65_536, proposing: bool = True
) -> Iterator[pa.Table]:
    """Read the table in parts of at most `rows` rows, in order, at least one part; raises as `read` does.

    `proposing` says whether the user can change settings, which messages then name.
    """
    kind = _kind_of_file(path) if not path.is_dir() else "folder"
    parts = _parts(path, kind, written, rows, proposing)
    first = next(parts, None)
    if first is None or not len(first):
        raise InputError(f"{path}: no rows")
    yield first
    yield from parts


def detect(path: Path, given: TextFormat = PLAIN, *, proposing: bool = True) -> Detected:
    """Complete the format of a file of delimited text by its beginning, and say what was found, also in a workbook.

    Other files need no format. Raises InputError if the file is missing or unreadable, or if its header is unclear.
    """
    kind = _kind_of_file(path)
    if kind == ".xlsx":
        return Detected(given, workbooks.detect(path, given, proposing=proposing))
    if kind not in (*text_files.TEXT_SUFFIXES, *json_lines.JSON_SUFFIXES):
        return Detected(given)
    try:
        if kind in json_lines.JSON_SUFFIXES:
            return Detected(given, json_lines.detect(path, kind, given))
        return text_files.detect(path, kind, given, proposing=proposing)
    except (OSError, EOFError, zlib.error) as error:
        raise InputError(f"{path}: not readable as {kind}: {error}") from error


def _kind_of_file(path: Path) -> str:
    check_exists(path)
    return suffix(path)


def _parts(path: Path, kind: str, written: TextFormat, rows: int, proposing: bool) -> Iterator[pa.Table]:
    try:
        if kind == ".parquet":
            yield from _parquet(path, rows)
        elif kind in text_files.TEXT_SUFFIXES:
            yield from text_files.stream(path, kind, written, rows, proposing=proposing)
        else:
            table = _whole(path, kind, written, proposing)
            yield from (table.slice(start, rows) for start in range(0, len(table), rows))
    except InputError:
        raise
    except (pa.ArrowException, OSError, EOFError, ValueError, KeyError, zlib.error) as error:
        raise InputError(f"{path}: not readable as {kind}: {error}") from error


def _whole(path: Path, kind: str, written: TextFormat, proposing: bool) -> pa.Table:
    if kind == "folder":
        return folders.read(path)
    if kind == ".xlsx":
        return workbooks.read(path, written, proposing=proposing)
    if kind in json_lines.JSON_SUFFIXES:
        table = json_lines.read(path, kind, written, proposing=proposing)
    else:
        table = arrays.read(path)
    text_files.check_names(path, table.column_names)
    return table


def _parquet(path: Path, rows: int) -> Iterator[pa.Table]:
    first = 1
    with pyarrow.parquet.ParquetFile(path) as file:
        names = file.schema_arrow.names
        text_files.check_names(path, names)
        try:
            for batch in file.iter_batches(batch_size=rows):
                table = columns.usual(pa.Table.from_batches([batch]))
                if (fault := columns.unreadable_text(table, first)) is not None:
                    raise InputError(f"{path}: {fault}; write it as UTF-8")
                first += len(table)
                yield table
        except pa.ArrowInvalid as error:  # Arrow itself checks dictionaries of large strings
            unreadable = [name for name in names if _is_unreadable(file, name)]
            if "UTF8" not in str(error) or not unreadable:
                raise
            shown = ", ".join(map(repr, unreadable))
            raise InputError(f"{path}: {shown} is not UTF-8 text; write it as UTF-8") from error


def _is_unreadable(file: Any, name: str) -> bool:
    try:
        file.read([name])
    except pa.ArrowInvalid:
        return True
    return False
