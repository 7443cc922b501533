"""Reads table files as Arrow tables, for training and offline prediction.

The values of delimited text stay text; the schema determines how `columns` parses them, not the content of one file.
Parquet keeps its types. `arrays` reads .npy and .npz files, `folders` reads folders of image files.
"""

import csv
import gzip
import io
import re
import zlib
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import IO, cast

import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet

from dle_bundle.errors import InputError, nearest
from dle_bundle.images import pixels
from dle_bundle.tables import arrays, folders

TEXT_SUFFIXES = (".csv", ".csv.gz", ".tsv", ".tsv.gz", ".txt", ".txt.gz")
TABLE_SUFFIXES = (*TEXT_SUFFIXES, ".parquet", ".npy", ".npz")
_BLOCK = 8 << 20


def suffix(path: Path) -> str:
    """The suffix that determines the format (`.csv.gz` is one suffix); raises InputError for an unknown one."""
    name = path.name.lower()
    for known in sorted(TABLE_SUFFIXES, key=len, reverse=True):
        if name.endswith(known):
            return known
    if name.endswith(pixels.IMAGE_SUFFIXES):
        raise InputError(f"{path}: a single image; use the folder that contains it, or a table with its path")
    raise InputError(f"{path}: expected a file ending in {', '.join(TABLE_SUFFIXES)}")


def check_exists(path: Path) -> None:
    """Raise InputError with similar names when there is no file or folder at `path`."""
    if not path.exists():
        beside = [other.name for other in path.absolute().parent.glob("*") if not other.name.startswith(".")]
        raise InputError(f"{path}: no such file or folder{nearest(path.name, beside)}")


def read(path: Path, *, delimiter: str | None = None) -> pa.Table:
    """Read the whole table. `delimiter` overrides that of the suffix, or the one detected in a .txt file.

    Raises InputError when the file is missing or unreadable (with the line), or has an unknown suffix, no rows, no
    columns or duplicate column names.
    """
    return pa.concat_tables(stream(path, delimiter=delimiter), promote_options="permissive")


def stream(path: Path, *, delimiter: str | None = None, rows: int = 65_536) -> Iterator[pa.Table]:
    """Read the table in parts of at most `rows` rows, in order, at least one part; raises as `read` does."""
    kind = _kind_of_file(path) if not path.is_dir() else "folder"
    parts = _parts(path, kind, delimiter, rows)
    first = next(parts, None)
    if first is None or not len(first):
        raise InputError(f"{path}: no rows")
    yield first
    yield from parts


def detect_delimiter(path: Path) -> str | None:
    """Return the column separator that is detected in a .txt file, None for other files, which need no detection.

    Raises InputError if the file is missing or unreadable, or if no separator is found.
    """
    kind = _kind_of_file(path)
    if not kind.startswith(".txt"):
        return None
    try:
        return _sniff(path, _sample(path, kind))
    except (OSError, EOFError, zlib.error) as error:
        raise InputError(f"{path}: not readable as {kind}: {error}") from error


def _kind_of_file(path: Path) -> str:
    check_exists(path)
    return suffix(path)


def _parts(path: Path, kind: str, delimiter: str | None, rows: int) -> Iterator[pa.Table]:
    try:
        if kind == ".parquet":
            yield from _parquet(path, rows)
        elif kind == "folder":
            table = folders.read(path)
            yield from (table.slice(start, rows) for start in range(0, len(table), rows))
        elif kind in (".npy", ".npz"):
            table = arrays.read(path)
            _check_names(path, table.column_names)
            yield from (table.slice(start, rows) for start in range(0, len(table), rows))
        else:
            yield from _text(path, kind, delimiter, rows)
    except InputError:
        raise
    except (pa.ArrowException, OSError, EOFError, ValueError, KeyError, zlib.error) as error:
        raise InputError(f"{path}: not readable as {kind}: {error}") from error


def _parquet(path: Path, rows: int) -> Iterator[pa.Table]:
    with pyarrow.parquet.ParquetFile(path) as file:
        _check_names(path, file.schema_arrow.names)
        for batch in file.iter_batches(batch_size=rows):
            yield pa.Table.from_batches([batch])


def _text(path: Path, kind: str, delimiter: str | None, rows: int) -> Iterator[pa.Table]:
    sample = _sample(path, kind)
    separator = delimiter or (
        _sniff(path, sample) if kind.startswith(".txt") else "\t" if kind.startswith(".tsv") else ","
    )
    header, lines = _header(path, kind, sample, separator)
    if delimiter is None and not kind.startswith(".txt"):
        _check_separator(path, header)
    # pandas writes its index under an empty name
    names = [name.strip() or f"unnamed_{position}" for position, name in enumerate(header, start=1)]
    _check_names(path, names)
    try:
        reader = pyarrow.csv.open_csv(
            # explicit, since Arrow does not recognise the suffix .GZ
            pa.input_stream(path, compression="gzip" if kind.endswith(".gz") else None),
            # row numbers in error messages need the single-threaded parser
            read_options=pyarrow.csv.ReadOptions(
                column_names=names, skip_rows=lines, block_size=_BLOCK, use_threads=False
            ),
            parse_options=pyarrow.csv.ParseOptions(delimiter=separator, newlines_in_values=True),
            convert_options=pyarrow.csv.ConvertOptions(
                column_types=dict.fromkeys(names, pa.large_string()),
                strings_can_be_null=False,
                null_values=[],
            ),
        )
        for batch in reader:
            table = pa.Table.from_batches([batch])
            yield from (table.slice(start, rows) for start in range(0, len(table), rows))
    except pa.ArrowException as error:
        raise InputError(f"{path}: not readable as {kind}: {_located(path, kind, str(error), len(names))}") from error


def _sample(path: Path, kind: str) -> str:
    """The first MiB of a text file; raises InputError when it is empty or not UTF-8."""
    with cast(IO[bytes], gzip.open(path) if kind.endswith(".gz") else path.open("rb")) as file:
        head = file.read(1 << 20)
    if not head.strip():
        raise InputError(f"{path}: empty file")
    try:
        # ignore a character that is cut in two by the end of the sample
        text = head.decode("utf-8-sig") if len(head) < 1 << 20 else head.decode("utf-8-sig", errors="ignore")
    except UnicodeDecodeError as error:
        line = head.count(b"\n", 0, error.start) + 1
        raise InputError(
            f"{path}: not readable as {kind}: line {line}: expected UTF-8 text, found byte {head[error.start]:#04x};"
            " convert it, for instance with iconv -f latin1 -t utf-8"
        ) from error
    if "\0" in text:
        raise InputError(
            f"{path}: not readable as {kind}: line {text.count(chr(10), 0, text.index(chr(0))) + 1}: binary data"
        )
    return text


def _header(path: Path, kind: str, sample: str, separator: str) -> tuple[list[str], int]:
    """The first row that is not empty, and the number of lines up to its end (quoted names may contain line breaks)."""
    reader = csv.reader(io.StringIO(sample, newline=""), delimiter=separator)
    try:
        header = next((row for row in reader if len(row) > 1 or (row and row[0].strip())), [])
    except csv.Error as error:
        raise InputError(f"{path}: not readable as {kind}: the header, to line {reader.line_num}: {error}") from error
    return header, reader.line_num


def _check_separator(path: Path, header: list[str]) -> None:
    """Raise InputError when the header is one name that looks like several."""
    found = next((mark for mark in ";\t|" if len(header) == 1 and mark in header[0]), None)
    if found:
        raise InputError(
            f"{path}: the header is one column, {header[0]!r:.80}: is the separator {found!r}? Set data.delimiter"
        )


def _sniff(path: Path, sample: str) -> str:
    try:
        return csv.Sniffer().sniff("\n".join(sample.lstrip("\r\n").splitlines()[:50]), delimiters=",;\t| ").delimiter
    except csv.Error as error:
        raise InputError(f"{path}: no delimiter found; set data.delimiter") from error


def _located(path: Path, kind: str, message: str, width: int) -> str:
    """Arrow's message, preceded by the line of the file if it is known."""
    found = re.search(r"Row #(\d+): (.*)", message, re.DOTALL)
    if found:
        return f"line {found[1]}: {found[2].splitlines()[0]}"
    return message.splitlines()[0]


def _check_names(path: Path, names: list[str]) -> None:
    details = [f"column name {name!r} occurs {count} times" for name, count in Counter(names).items() if count > 1]
    if details or not names:
        raise InputError(f"{path}: expected columns with different names", details)
