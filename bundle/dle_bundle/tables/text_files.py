"""Reads delimited text (CSV, TSV and its relatives): encoding, delimiter, lines before the header, comments.

A `TextFormat` gives what the file itself does not show. `detect` completes it by the file and says what it found. The
result is kept in the schema, so that later files are read in the same way. `text_encoding` and `text_layout` find the
encoding, the separator and the header.
"""

import codecs
import csv
import io
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
from msgspec.structs import replace

from dle_bundle.errors import InputError, counted
from dle_bundle.proposals import setting
from dle_bundle.schema import TextFormat
from dle_bundle.tables import text_encoding, text_layout

TEXT_SUFFIXES = (".csv", ".csv.gz", ".tsv", ".tsv.gz", ".txt", ".txt.gz")
_BLOCK = 8 << 20
_SAMPLE = 1 << 20
_ROWS = 200
"""Maximum number of rows that show the delimiter and the header."""
_LISTED = 10
_SHOWN = 60
_OTHER_FILES = {
    b"PK\x03\x04": "an archive or a workbook (.zip, .xlsx)",
    b"\x1f\x8b": "compressed (.gz)",
    b"PAR1": "a Parquet file (.parquet)",
    b"\xd0\xcf\x11\xe0": "a workbook of old Excel (.xls)",
    b"%PDF": "a PDF document",
}
_SEPARATOR_LINE = re.compile(r'"?sep=(.)"?\s*', re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Detected:
    """The completed format of a file, and notes on what was found."""

    format: TextFormat
    notes: tuple[str, ...] = ()


def detect(path: Path, kind: str, given: TextFormat, *, proposing: bool = True) -> Detected:
    """Complete `given` by what other files of the same kind have too: delimiter, and width of a file without a header.

    Raises InputError if the file is empty, is no text, or has no header. `proposing` says whether the user can change
    settings, which the message then names.
    """
    complete, header, notes = _complete(path, kind, given, proposing)
    columns = (len(header.names),) if given.header == "none" and given.columns is None else given.columns
    return Detected(replace(given, delimiter=complete.delimiter, columns=columns), notes)


def _complete(
    path: Path, kind: str, given: TextFormat, proposing: bool
) -> tuple[TextFormat, text_layout.Header, tuple[str, ...]]:
    """Complete `given` for this file alone; also return its header, and what was found."""
    head = _head(path, kind)
    encoding, found_encoding = text_encoding.find(path, kind, head, given.encoding)
    notes = [*found_encoding]
    found = replace(given, encoding=encoding)
    text = _decoded(path, kind, head, encoding, proposing)
    lines = list(enumerate(io.StringIO(text, newline=""), start=1))[found.skip_rows :]
    if lines and (line := _SEPARATOR_LINE.fullmatch(lines[0][1])):
        found = replace(found, delimiter=given.delimiter or line[1], skip_rows=found.skip_rows + 1)
        notes.append(f"the first line says that the separator is {line[1]!r}")
        lines = lines[1:]
    comments = _Comments(found.comment)
    lines = [(number, line) for number, line in lines if comments.keeps(line)]
    usual, cut = _usual(kind), len(head) == _SAMPLE
    marks = dict.fromkeys((*text_layout.candidates(usual), found.delimiter or usual))
    divided = {mark: text_layout.first_rows(lines, mark, _ROWS, cut=cut) for mark in marks}
    if found.delimiter is not None:
        text_layout.check_given(path, found.delimiter, divided, proposing)
    else:
        mark, others = text_layout.separators(divided)
        if mark is None:
            if odd := text_layout.odd_separator(lines, _ROWS, cut=cut):
                cure = f"set {setting('data.delimiter', odd)}" if proposing else f"save it with {usual!r}"
                raise InputError(f"{path}: no usual separator divides the rows, but {odd!r} does; {cure}")
            if kind.startswith(".txt"):
                divided[" "] = text_layout.first_rows(lines, " ", _ROWS, cut=cut)
                mark, _ = text_layout.separators({" ": divided[" "]})
                if mark is None:
                    cure = "set data.delimiter, or, " if proposing else ""
                    raise InputError(
                        f"{path}: no delimiter found; {cure}if columns have a fixed width, save the file as CSV"
                    )
        if mark is not None and mark != usual:
            found = replace(found, delimiter=mark)
            if not others:
                notes.append(f"the columns are separated by {mark!r}")
        if others and proposing:
            settings = " or ".join(setting("data.delimiter", other) for other in others)
            notes.append(
                f"the columns are separated by {mark!r}; other marks fit too: if they separate, set {settings}"
            )
    rows = divided[found.delimiter or usual]
    if not rows:
        raise _misfit(path, kind, found, found.delimiter or usual, 0, "no rows", proposing)
    if fault := text_layout.foreign_quotes(rows):
        raise InputError(f"{path}: not readable as {kind}: {fault}")
    if fault := text_layout.misquoted(lines, found.delimiter or usual, rows):
        if any(len(row.cells) != len(rows[0].cells) for row in rows):
            raise InputError(f"{path}: not readable as {kind}: {fault}")
        notes.append(fault)
    header = text_layout.header(path, rows, found, proposing)
    return found, header, (*notes, *header.notes)


def stream(path: Path, kind: str, written: TextFormat, rows: int, *, proposing: bool = True) -> Iterator[pa.Table]:
    """Read the file in parts of at most `rows` rows; all values stay text. Raises InputError as `detect` does."""
    written, header, _ = _complete(path, kind, written, proposing)
    separator = written.delimiter or _usual(kind)
    # pandas writes its index under an empty name
    names = [name or f"unnamed_{position}" for position, name in enumerate(header.names, start=1)]
    check_names(
        path, names, f", or, if the first row is data, set {setting('data.header', 'none')}" if proposing else ""
    )
    plain = written.encoding in ("utf-8", text_encoding.USUAL) and written.comment is None  # Arrow reads these itself
    try:
        reader = pyarrow.csv.open_csv(
            # explicit, since Arrow does not recognise the suffix .GZ
            pa.input_stream(path, compression="gzip" if kind.endswith(".gz") else None)
            if plain
            else pa.PythonFile(_Utf8(path, kind, written), mode="r"),
            # the place of an error needs the single-threaded parser
            read_options=pyarrow.csv.ReadOptions(
                column_names=names,
                skip_rows=header.lines + (written.skip_rows if plain else 0),
                block_size=_BLOCK,
                use_threads=False,
            ),
            parse_options=pyarrow.csv.ParseOptions(
                delimiter=separator,
                newlines_in_values=True,
                ignore_empty_lines=len(names) > 1,  # the empty values of a single column
            ),
            convert_options=pyarrow.csv.ConvertOptions(
                column_types=dict.fromkeys(names, pa.large_string()),
                strings_can_be_null=False,
                null_values=[],
            ),
        )
        first = 1
        for batch in reader:
            table = pa.Table.from_batches([batch])
            _check_text(path, table, first)
            if written.header is None:
                _check_repeated(path, table, first)
            first += len(table)
            yield from (table.slice(start, rows) for start in range(0, len(table), rows))
    except UnicodeDecodeError as error:
        raise text_encoding.refusal(path, kind, written.encoding or text_encoding.USUAL, proposing) from error
    except pa.ArrowException as error:
        if "invalid UTF8" in str(error):
            raise text_encoding.refusal(path, kind, text_encoding.USUAL, proposing) from error
        raise _misfit(path, kind, written, separator, len(names), str(error), proposing) from error


def check_names(path: Path, names: list[str], cure: str = "") -> None:
    """Raise InputError when there are no columns, or when several have the same name."""
    details = [f"column name {name!r} occurs {count} times" for name, count in Counter(names).items() if count > 1]
    if not names:
        raise InputError(f"{path}: no columns")
    if details:
        raise InputError(f"{path}: expected columns with different names; rename them{cure}", details)


def _check_text(path: Path, table: pa.Table, first: int) -> None:
    """Raise InputError if a value holds a zero byte, which no text has; the rows count from `first`."""
    for column in table.columns:
        values = column.chunk(0).buffers()[2]
        if values is not None and (np.frombuffer(values, np.uint8) == 0).any():
            row = pc.index(pc.match_substring(column, "\0"), True).as_py()
            if row >= 0:
                raise InputError(f"{path}: row {first + row}: binary data (a zero byte)")


def _check_repeated(path: Path, table: pa.Table, first: int) -> None:
    """Raise InputError if rows repeat the names of the columns; the rows count from `first`."""
    if table.num_columns < 2:
        return
    same = np.ones(len(table), dtype=bool)
    for name in table.column_names:
        same &= pc.equal(pc.utf8_trim_whitespace(table.column(name)), name).to_numpy()
        if not same.any():
            return
    rows = ", ".join(f"{first + row}" for row in np.flatnonzero(same)[:_LISTED].tolist())
    raise InputError(f"{path}: the names of the columns occur again: row {rows}; remove these rows from the file")


class _Comments:
    """Leaves out lines that begin with the mark, except inside of a quoted value."""

    def __init__(self, mark: str | tuple[str, ...] | None) -> None:
        self._mark, self._quoted = mark, False

    def keeps(self, line: str) -> bool:
        """Whether the next line of the file is no comment."""
        if self._mark is None:
            return True
        if not self._quoted and line.startswith(self._mark):
            return False
        self._quoted ^= line.count('"') % 2 == 1
        return True


def _text(path: Path, kind: str, written: TextFormat, errors: str = "strict") -> io.TextIOWrapper:
    """The file as text, with its line ends as they are."""
    raw = text_encoding.opened(path, kind)
    return io.TextIOWrapper(raw, encoding=written.encoding or text_encoding.USUAL, errors=errors, newline="")


class _Utf8(io.RawIOBase):
    """The text of a file as UTF-8, without the skipped lines and the comments."""

    def __init__(self, path: Path, kind: str, written: TextFormat) -> None:
        super().__init__()
        self._text = _text(path, kind, written)
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
            parts.append("".join(filter(self._comments.keeps, lines)).encode())
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
    with text_encoding.opened(path, kind) as file:
        head = file.read(_SAMPLE)
    if not head.strip():
        raise InputError(f"{path}: empty file")
    for start, what in _OTHER_FILES.items():
        if head.startswith(start):
            raise InputError(f"{path}: not readable as {kind}: it is {what}; correct its name")
    return head


def _decoded(path: Path, kind: str, head: bytes, encoding: str, proposing: bool) -> str:
    """The sample as text; raises InputError when it is in another encoding, or no text."""
    try:
        text = codecs.getincrementaldecoder(encoding)().decode(head, final=len(head) < _SAMPLE)
    except UnicodeDecodeError as error:
        raise text_encoding.refusal(path, kind, encoding, proposing) from error
    if "\0" in text:
        line = text.count("\n", 0, text.index("\0")) + 1
        raise InputError(f"{path}: not readable as {kind}: line {line}: binary data (a zero byte)")
    return text


def _misfit(
    path: Path, kind: str, written: TextFormat, separator: str, width: int, message: str, proposing: bool
) -> InputError:
    """Return the error for rows that are not `width` wide, with their lines; `message` is what Arrow says."""
    comments = _Comments(written.comment)
    details: list[str] = []
    count, last = 0, ""
    with _text(path, kind, written, errors="replace") as text:
        lines = enumerate(text, start=1)
        kept = ((number, line) for number, line in lines if number > written.skip_rows and comments.keeps(line))
        try:
            for row in text_layout.rows(kept, separator):
                if len(row.cells) != width:
                    count, last = count + 1, row.text
                    shown = f"{last[:_SHOWN]!r}{' …' if len(last) > _SHOWN else ''}"
                    details += [
                        f"line {row.line}: expected {counted(width, 'column')}, found {len(row.cells)}: {shown}"
                    ][: _LISTED - len(details)]
        except csv.Error as error:
            count, last = count + 1, ""
            details.append(str(error))
    if not count:
        return InputError(f"{path}: not readable as {kind}: {message.splitlines()[0]}")
    if count > 1:
        return InputError(f"{path}: not readable as {kind}: {count:,} rows differ from the header", details)
    footer = proposing and separator not in last and not re.fullmatch(r"[\W\d_]*\d[\W\d_]*", last)
    if footer and last == last.strip() and len(last) <= _SHOWN:
        with _text(path, kind, written, errors="replace") as text:
            alone = sum(line.startswith(last) for line in text) == 1
        cure = f"; set {setting('data.comment', written.leaving_out(last))} to leave it out" if alone else ""
    else:
        cure = ""
    return InputError(f"{path}: not readable as {kind}: {details[0]}{cure}")
