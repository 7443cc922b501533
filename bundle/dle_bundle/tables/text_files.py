"""Reads delimited text (CSV, TSV and its relatives): encoding, delimiter, lines before the header, comments.

A `TextFormat` gives what the file itself does not show. `detect` completes it by the file and says what it found. The
result is kept in the schema, so that later files are read in the same way.
"""

import codecs
import csv
import gzip
import io
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, cast

import pyarrow as pa
import pyarrow.csv
from msgspec.structs import replace

from dle_bundle.errors import InputError
from dle_bundle.schema import TextFormat

TEXT_SUFFIXES = (".csv", ".csv.gz", ".tsv", ".tsv.gz", ".txt", ".txt.gz")
_BLOCK = 8 << 20
_SAMPLE = 1 << 20
_MARKS = ";\t|,"
_LINES = 50
"""Maximum number of lines that show the delimiter and the header."""
_UTF_16 = (b"\xff\xfe", b"\xfe\xff")
_SEPARATOR_LINE = re.compile(r'"?sep=(.)"?\s*', re.IGNORECASE)
_FRACTION = re.compile(r"[+-]?[0-9]*[.,][0-9]+(?:[eE][+-]?[0-9]+)?")
_NUMBER = re.compile(r"[+-]?[0-9]+|" + _FRACTION.pattern)


@dataclass(frozen=True, slots=True)
class Detected:
    """The completed format of a file, and notes on what was found."""

    format: TextFormat
    notes: tuple[str, ...] = ()


def detect(path: Path, kind: str, given: TextFormat, *, proposing: bool = True) -> Detected:
    """Complete `given` by the beginning of the file: by its delimiter, which other files of the same kind have too.

    Raises InputError if the file is empty, is no text, or has no header. `proposing` says whether the user can change
    settings, which the message then names.
    """
    complete, _, notes = _complete(path, kind, given, proposing)
    return Detected(replace(given, delimiter=complete.delimiter), notes)


def _complete(
    path: Path, kind: str, given: TextFormat, proposing: bool
) -> tuple[TextFormat, list[str], tuple[str, ...]]:
    """Complete `given` for this file alone; also return the first lines from the header on, and what was found."""
    head = _head(path, kind)
    notes: list[str] = []
    found = given
    if encoding := _encoding(head):  # the file knows better than a setting
        found = replace(found, encoding=encoding)
        notes += ["the text is UTF-16"] if encoding != "utf-8-sig" else []
    lines = _decoded(path, kind, head, found, proposing).splitlines(keepends=True)[found.skip_rows :]
    if lines and (line := _SEPARATOR_LINE.fullmatch(lines[0])):
        found = replace(found, delimiter=given.delimiter or line[1], skip_rows=found.skip_rows + 1)
        notes.append(f"the first line says that the separator is {line[1]!r}")
        lines = lines[1:]
    lines = _Comments(found.comment).without(lines)
    if found.delimiter is None and (mark := _delimiter(path, kind, lines, proposing)) != _usual(kind):
        found = replace(found, delimiter=mark)
        if not kind.startswith(".txt"):
            notes.append(f"the columns are separated by {mark!r}")
    _check_header(path, lines, found, _usual(kind), proposing)
    return found, lines, tuple(notes)


def stream(path: Path, kind: str, written: TextFormat, rows: int, *, proposing: bool = True) -> Iterator[pa.Table]:
    """Read the file in parts of at most `rows` rows; all values stay text. Raises InputError as `detect` does."""
    written, lines, _ = _complete(path, kind, written, proposing)
    separator = written.delimiter or _usual(kind)
    header, consumed = _header(path, kind, "".join(lines), separator)
    if written.header == "none":
        header, consumed = [f"c{position}" for position in range(1, len(header) + 1)], 0
    # pandas writes its index under an empty name
    names = [name.strip() or f"unnamed_{position}" for position, name in enumerate(header, start=1)]
    check_names(path, names)
    plain = written.encoding in (None, "utf-8-sig") and written.comment is None  # Arrow reads these itself
    try:
        reader = pyarrow.csv.open_csv(
            # explicit, since Arrow does not recognise the suffix .GZ
            pa.input_stream(path, compression="gzip" if kind.endswith(".gz") else None)
            if plain
            else pa.PythonFile(_Utf8(path, kind, written), mode="r"),
            # row numbers in error messages need the single-threaded parser
            read_options=pyarrow.csv.ReadOptions(
                column_names=names,
                skip_rows=consumed + (written.skip_rows if plain else 0),
                block_size=_BLOCK,
                use_threads=False,
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
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: not readable as {kind} in the encoding {written.encoding}: {error}") from error
    except pa.ArrowException as error:
        if "invalid UTF8" in str(error):
            raise InputError(_not_utf8(path, kind, "", proposing)) from error
        raise InputError(f"{path}: not readable as {kind}: {_located(str(error))}") from error


def check_names(path: Path, names: list[str]) -> None:
    """Raise InputError when there are no columns, or when several have the same name."""
    details = [f"column name {name!r} occurs {count} times" for name, count in Counter(names).items() if count > 1]
    if details or not names:
        raise InputError(f"{path}: expected columns with different names", details)


class _Comments:
    """Leaves out lines that begin with the mark, except inside of a quoted value."""

    def __init__(self, mark: str | None) -> None:
        self._mark, self._quoted = mark, False

    def without(self, lines: list[str]) -> list[str]:
        """The other lines of the next part of a file."""
        if self._mark is None:
            return lines
        kept = []
        for line in lines:
            if self._quoted or not line.startswith(self._mark):
                self._quoted ^= line.count('"') % 2 == 1
                kept.append(line)
        return kept


class _Utf8(io.RawIOBase):
    """The text of a file as UTF-8, without the skipped lines and the comments."""

    def __init__(self, path: Path, kind: str, written: TextFormat) -> None:
        super().__init__()
        raw = gzip.open(path) if kind.endswith(".gz") else path.open("rb")  # noqa: SIM115 (closed by `close`)
        self._text = io.TextIOWrapper(cast(IO[bytes], raw), encoding=written.encoding or "utf-8-sig", newline="")
        for _ in range(written.skip_rows):
            self._text.readline()
        self._comments = _Comments(written.comment)
        self._rest = b""

    def readable(self) -> bool:
        return True

    def read(self, size: int = -1) -> bytes:
        parts, length = [self._rest], len(self._rest)
        while length < size or size < 0:
            lines = self._text.readlines(_BLOCK // 8)
            if not lines:
                break
            parts.append("".join(self._comments.without(lines)).encode())
            length += len(parts[-1])
        whole = b"".join(parts)
        found, self._rest = (whole, b"") if size < 0 else (whole[:size], whole[size:])
        return found

    def close(self) -> None:
        self._text.close()
        super().close()


def _usual(kind: str) -> str:
    return "\t" if kind.startswith(".tsv") else ","


def _head(path: Path, kind: str) -> bytes:
    """The first MiB of a text file; raises InputError when it is empty."""
    with cast(IO[bytes], gzip.open(path) if kind.endswith(".gz") else path.open("rb")) as file:
        head = file.read(_SAMPLE)
    if not head.strip():
        raise InputError(f"{path}: empty file")
    return head


def _encoding(head: bytes) -> str | None:
    """UTF-16 if the text begins so, with or without a byte-order mark; UTF-8 with its mark; else None."""
    if head.startswith(codecs.BOM_UTF8):
        return "utf-8-sig"
    if head.startswith(_UTF_16):
        return "utf-16"
    sample = head[:2000]
    even, odd = sample[::2], sample[1::2]
    for codec, text, zeros in (("utf-16-le", even, odd), ("utf-16-be", odd, even)):
        if len(sample) >= 4 and zeros.count(0) > 0.8 * len(zeros) and 0 not in text:
            return codec
    return None


def _decoded(path: Path, kind: str, head: bytes, written: TextFormat, proposing: bool) -> str:
    """The sample as text; raises InputError when it is in another encoding, or no text."""
    encoding = written.encoding or "utf-8-sig"
    try:
        text = codecs.getincrementaldecoder(encoding)().decode(head, final=len(head) < _SAMPLE)
    except LookupError:
        known = "utf-8, utf-16, cp1252, latin-1, shift_jis and others of Python"
        raise InputError(f"data.encoding: no encoding is called {encoding!r}; there are {known}") from None
    except UnicodeDecodeError as error:
        line = head.count(b"\n", 0, error.start) + 1
        if written.encoding is not None:
            raise InputError(f"{path}: not readable as {kind}: line {line} is not in {written.encoding}") from error
        raise InputError(_not_utf8(path, kind, f"line {line}: ", proposing, head[error.start])) from error
    if "\0" in text:
        line = text.count("\n", 0, text.index("\0")) + 1
        raise InputError(f"{path}: not readable as {kind}: line {line}: binary data")
    return text


def _not_utf8(path: Path, kind: str, place: str, proposing: bool, byte: int | None = None) -> str:
    found = "" if byte is None else f", found byte {byte:#04x}"
    cure = (
        "; set data.encoding=cp1252 for a file from Windows in a western language, or the name of its encoding"
        if proposing
        else "; save it as UTF-8"
    )
    return f"{path}: not readable as {kind}: {place}expected UTF-8 text{found}{cure}"


def _rows(lines: list[str], mark: str) -> list[list[str]]:
    """The first rows that are not empty, with this delimiter; empty if quotes do not match."""
    try:
        found = csv.reader(io.StringIO("".join(lines[:_LINES]), newline=""), delimiter=mark)
        return [row for row in found if len(row) > 1 or (row and row[0].strip())]
    except csv.Error:
        return []


def _delimiter(path: Path, kind: str, lines: list[str], proposing: bool) -> str:
    """The delimiter that the first lines show; the usual one of the suffix if it divides the header."""
    if kind.startswith(".txt"):
        try:
            return csv.Sniffer().sniff("".join(lines[:_LINES]).lstrip("\r\n"), delimiters=",;\t| ").delimiter
        except csv.Error as error:
            cure = "; set data.delimiter" if proposing else ""
            raise InputError(f"{path}: no delimiter found{cure}") from error
    usual = _usual(kind)
    rows = _rows(lines, usual)
    if rows and len(rows[0]) > 1:
        return usual
    for mark in _MARKS:
        rows = _rows(lines, mark)
        widths = {len(row) for row in rows[:-1] or rows}  # the sample may end inside of the last row
        if len(widths) == 1 and widths.pop() > 1:
            return mark
    return usual


def _check_header(path: Path, lines: list[str], written: TextFormat, usual: str, proposing: bool) -> None:
    """Raise InputError if lines stand before the header, or if the first row looks like data."""
    if not proposing or written.header == "none":
        return
    separator = written.delimiter or usual
    rows = _rows(lines, separator)
    widths = [len(row) for row in rows]
    if len(rows) > 2 and widths[0] < (usual_width := Counter(widths[1:]).most_common(1)[0][0]):
        first = next(
            place for place, line in enumerate(lines) if [*map(len, _rows([line], separator))] == [usual_width]
        )
        raise InputError(
            f"{path}: the first row has {widths[0]} and most rows have {usual_width} columns; if lines stand before "
            f"the header, set data.skip_rows={written.skip_rows + first}"
        )
    names = [name.strip() for name in rows[0]] if rows else []
    numbers = [name for name in names if _NUMBER.fullmatch(name)]
    if written.header is None and 2 * len(numbers) >= len(names) and any(map(_FRACTION.fullmatch, numbers)):
        shown = ", ".join(names[:5])
        raise InputError(
            f"{path}: the first row looks like data, not like names ({shown}); set data.header=none, or "
            "data.header=first if these are the names"
        )


def _header(path: Path, kind: str, sample: str, separator: str) -> tuple[list[str], int]:
    """The first row that is not empty, and the number of lines up to its end (quoted names may contain line breaks)."""
    reader = csv.reader(io.StringIO(sample, newline=""), delimiter=separator)
    try:
        header: list[Any] = next((row for row in reader if len(row) > 1 or (row and row[0].strip())), [])
    except csv.Error as error:
        raise InputError(f"{path}: not readable as {kind}: the header, to line {reader.line_num}: {error}") from error
    return header, reader.line_num


def _located(message: str) -> str:
    """Arrow's message, preceded by the line of the file if it is known."""
    found = re.search(r"Row #(\d+): (.*)", message, re.DOTALL)
    return f"line {found[1]}: {found[2].splitlines()[0]}" if found else message.splitlines()[0]
