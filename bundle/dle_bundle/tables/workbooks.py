"""Reads one sheet of an Excel workbook (.xlsx) as a table.

Numbers, truth values and dates keep their types if all cells of a column have one; other columns are text, as in a file
of delimited text. The header is found by the same rules as there (`text_layout`). python-calamine reads the cells. It
does not tell errors such as #N/A, or formulas without a stored value, from empty cells, so `_faulty` looks them up in
the file itself.
"""

import re
import zipfile
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import date, datetime, time, timedelta
from pathlib import Path
from types import ModuleType
from typing import Any
from xml.etree import ElementTree

import pyarrow as pa

from dle_bundle.errors import InputError, counted, few, nearest
from dle_bundle.proposals import flag, setting
from dle_bundle.schema import TextFormat
from dle_bundle.tables import text_files, text_layout
from dle_bundle.values.categories import category

_HEADER_ROWS, _BEGINNING = 200, 1000
_LISTED = 10
_PROPOSED = 3
_ERROR = re.compile(rb'<c\b(?=[^>]*\bt="e")[^>]*?\br="([A-Z]+)[0-9]+"')
_NO_RESULT = re.compile(
    rb'<c\b(?![^>]*\bt="(?:e|str)")[^>]*?\br="([A-Z]+)[0-9]+"[^>]*>\s*<f\b[^>]*(?:/>|>[^<]*</f>)\s*'
    rb"(?:<v\s*/>|<v>\s*</v>)?\s*</c>"
)

_OLD = bytes.fromhex("d0cf11e0")
"""How the files of Excel before 2007 begin."""

Cell = str | int | float | bool | time | date | datetime | timedelta
"""The content of a cell; "" is empty."""


@dataclass(frozen=True, slots=True)
class _Sheet:
    """The rows of a sheet that hold something, after the skipped ones, and the numbers of these rows from 1.

    Columns without any cell are left out. `merged` are the first rows of merged cells and their ranges. `others` are
    the sheets that could be meant instead, if none was named.
    """

    name: str
    others: list[str]
    numbers: list[int]
    rows: list[list[Cell]]
    merged: list[tuple[int, str]]


def detect(path: Path, given: TextFormat, *, proposing: bool) -> tuple[str, ...]:
    """Return notes on what is read: which sheet, and which cells have no value that could be read.

    Raises InputError as `read` does.
    """
    sheet = _open(path, given, proposing, given.skip_rows + _BEGINNING)
    header = _header(path, sheet, given, proposing)
    notes = []
    if sheet.others:
        others = few([*map(repr, sheet.others)], _LISTED)
        notes.append(f"the sheet {sheet.name!r} is read, not {others}{_cure(sheet.others, proposing)}")
    first = sheet.numbers[header.lines] if header.lines < len(sheet.numbers) else 0
    merged = [cells for row, cells in sheet.merged if first and row >= first]
    if merged:
        notes.append(
            f"sheet {sheet.name!r}: only the first of merged cells has their value, the others are missing: "
            f"{few(merged, _LISTED)}"
        )
    return (*notes, *header.notes, *_faulty(path, sheet.name))


def read(path: Path, written: TextFormat, *, proposing: bool) -> pa.Table:
    """Read a sheet: that of `written`, or the first one that is visible.

    Raises InputError if python-calamine is not installed, if the file is not readable or protected, if there is no such
    sheet, or if its header is unclear.
    """
    sheet = _open(path, written, proposing)
    header = _header(path, sheet, written, proposing)
    body = sheet.rows[header.lines :]
    if not body:
        raise InputError(f"{path}: no rows in the sheet {sheet.name!r}{_cure(sheet.others, proposing)}")
    names = [name or f"unnamed_{place}" for place, name in enumerate(header.names, start=1)]
    text_files.check_names(path, names)
    return pa.table([_column([row[place] for row in body]) for place in range(len(names))], names=names)


def sheets(path: Path) -> list[str]:
    """Return the names of the sheets with cells, first the one that is read if none is named; raises as `read` does."""
    calamine = _calamine(path)
    with calamine.CalamineWorkbook.from_path(path) as book:
        first, others = _choose(path, book, calamine, None, proposing=True)
    return [first, *others]


def _open(path: Path, written: TextFormat, proposing: bool, most: int | None = None) -> _Sheet:
    """The rows of the sheet, or the first `most` of them if those hold something."""
    calamine = _calamine(path)
    try:
        with calamine.CalamineWorkbook.from_path(path) as book:
            name, others = _choose(path, book, calamine, written.sheet, proposing)
            sheet = book.get_sheet_by_name(name)
            merged = [(start[0] + 1, _range(start, end)) for start, end in sheet.merged_cell_ranges or ()]
            cells = sheet.to_python(skip_empty_area=False, nrows=most)
    except calamine.CalamineError as error:
        raise InputError(f"{path}: {_unreadable(path, str(error))}") from error
    numbered = [
        (number, row)
        for number, row in enumerate(map(_trimmed, cells), start=1)
        if number > written.skip_rows and any(cell != "" for cell in row) and not _is_comment(row, written.comment)
    ]
    if not numbered and most is not None:
        return _open(path, written, proposing)
    if not numbered:
        raise InputError(f"{path}: the sheet {name!r} is empty{_cure(others, proposing)}")
    used = [place for place in range(len(numbered[0][1])) if any(row[place] != "" for _, row in numbered)]
    rows = [[row[place] for place in used] for _, row in numbered]
    return _Sheet(name, others, [number for number, _ in numbered], rows, merged)


def _unreadable(path: Path, message: str) -> str:
    """Why the file is not readable, where python-calamine says `message`."""
    with path.open("rb") as file:
        if file.read(len(_OLD)) == _OLD:  # what Excel also wraps protected workbooks in
            return "protected by a password, or an .xls file; save it as .xlsx, without a password"
    if not zipfile.is_zipfile(path):
        return "not readable as .xlsx: it is no workbook, or its end is missing"
    return f"not readable as .xlsx: {message}"


def _calamine(path: Path) -> ModuleType:
    try:
        import python_calamine
    except ImportError:
        raise InputError(
            f"{path}: python-calamine, which reads .xlsx files, is not installed: "
            "pip install 'deep-learning-essentials[excel]'"
        ) from None
    return python_calamine


def _choose(path: Path, book: Any, calamine: ModuleType, wanted: str | None, proposing: bool) -> tuple[str, list[str]]:
    """The sheet to read, and, if none is wanted by its name, the other sheets."""
    sheets = [each for each in book.sheets_metadata if each.typ == calamine.SheetTypeEnum.WorkSheet]
    names = [each.name for each in sheets]
    if wanted is not None:
        if wanted not in names:
            known = few([*map(repr, names)], _LISTED)
            cure = "" if proposing else f"; choose one of them with {flag('sheet')}"
            raise InputError(f"{path}: no sheet is called {wanted!r}{nearest(wanted, names)}; there are {known}{cure}")
        return wanted, []
    visible = [each.name for each in sheets if each.visible == calamine.SheetVisibleEnum.Visible]
    if not visible:
        raise InputError(f"{path}: no sheet with cells")
    return visible[0], [name for name in names if name != visible[0]]


def _cure(others: Sequence[str], proposing: bool) -> str:
    if not others:
        return ""
    if proposing:
        cures = "set " + " or ".join(setting("data.sheet", name) for name in others[:_PROPOSED])
    else:
        cures = "add " + " or ".join(flag("sheet", name) for name in others[:_PROPOSED])
    return f"; to read another sheet, {cures}"


def _header(path: Path, sheet: _Sheet, written: TextFormat, proposing: bool) -> text_layout.Header:
    """The header; its `lines` count rows of the sheet that are not empty."""
    found = []
    for place, (number, row) in enumerate(zip(sheet.numbers, sheet.rows, strict=True), start=1):
        cells = [_text(cell).replace("\n", " ") for cell in row]
        found.append(text_layout.Row(number, place, cells, next(filter(None, cells))))
        if place == _HEADER_ROWS:
            break
    try:
        return text_layout.header(path, found, written, proposing)
    except InputError as error:  # the sheet may hold no table
        raise InputError(f"{error.message}{_cure(sheet.others, proposing)}", error.details) from None


def _trimmed(row: list[Cell]) -> list[Cell]:
    return ["" if isinstance(cell, str) and not cell.strip() else cell for cell in row]


def _is_comment(row: list[Cell], mark: str | tuple[str, ...] | None) -> bool:
    first = next(cell for cell in row if cell != "")
    return mark is not None and isinstance(first, str) and first.startswith(mark)


def _column(cells: list[Cell]) -> pa.Array:
    kinds = {type(cell) for cell in cells if cell != ""}
    known = [None if cell == "" else cell for cell in cells]
    if kinds and kinds <= {int, float, timedelta}:
        return pa.array([None if cell is None else _number(cell) for cell in known], pa.float64())
    if kinds == {bool}:
        return pa.array(known, pa.bool_())
    if kinds and kinds <= {date, datetime}:
        return pa.array([None if cell is None else _moment(cell) for cell in known], pa.timestamp("us"))
    return pa.array([None if cell is None else _text(cell) for cell in known], pa.large_string())


def _number(cell: Any) -> float:
    return cell.total_seconds() if isinstance(cell, timedelta) else float(cell)


def _moment(cell: Any) -> datetime:
    return cell if isinstance(cell, datetime) else datetime.combine(cell, time())


def _text(cell: Cell) -> str:
    """The cell as a file of delimited text has it."""
    if isinstance(cell, timedelta):
        return category(cell.total_seconds())
    return cell.isoformat() if isinstance(cell, date | time) else cell if isinstance(cell, str) else category(cell)


def _faulty(path: Path, sheet: str) -> Iterator[str]:
    """Notes on cells that are read as empty though they are not."""
    with zipfile.ZipFile(path) as archive:
        part = _part(archive, sheet)
        content = b"" if part is None else archive.read(part)
    for sign, pattern, what in (
        (b't="e"', _ERROR, "errors such as #N/A or #DIV/0! are taken as missing"),
        (
            b"<f",
            _NO_RESULT,
            "formulas without a stored result are taken as missing; open the file in Excel and save it",
        ),
    ):
        # without the sign, the pattern would look at each cell in vain
        counts = Counter(found[1].decode() for found in (pattern.finditer(content) if sign in content else ()))
        if counts:
            where = [f"{counted(count, 'cell')} of column {letters}" for letters, count in counts.items()]
            yield f"sheet {sheet!r}: {what}: {few(where, _LISTED)}"


def _part(archive: zipfile.ZipFile, sheet: str) -> str | None:
    """The name of the file of a sheet inside of the workbook."""
    book = ElementTree.fromstring(archive.read("xl/workbook.xml"))
    links = ElementTree.fromstring(archive.read("xl/_rels/workbook.xml.rels"))
    own = next((each for each in book.iter() if each.tag.endswith("}sheet") and each.get("name") == sheet), None)
    key = next((value for name, value in own.items() if name.endswith("}id")), None) if own is not None else None
    target = next((each.get("Target") for each in links if each.get("Id") == key), None)
    if target is None:
        return None
    return target.removeprefix("/") if target.startswith("/") else f"xl/{target}"


def _range(start: tuple[int, int], end: tuple[int, int]) -> str:
    return f"{_letters(start[1])}{start[0] + 1}:{_letters(end[1])}{end[0] + 1}"


def _letters(column: int) -> str:
    """The letters of a column, which counts from 0."""
    above, own = divmod(column, 26)
    return (_letters(above - 1) if above else "") + chr(ord("A") + own)
