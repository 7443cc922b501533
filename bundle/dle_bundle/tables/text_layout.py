"""The layout of delimited text: which separator divides its rows, and whether the first row has the names of columns.

Everything is decided by the first rows. What fits in two ways, and what does not look like names, is noted or refused
with the setting that decides it.
"""

import csv
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import zip_longest
from pathlib import Path
from statistics import median_low

from dle_bundle.errors import InputError, counted
from dle_bundle.proposals import setting
from dle_bundle.schema import TextFormat
from dle_bundle.values.missing import NA_VALUES

_MARKS = ",;\t|"
_SHOWN = 40
_ODD_MARKS = "~^:#¦\x01\x1f"
_DECIMAL_COMMA = re.compile(r"(?<=\d),(?=\d)")
_FRACTION = re.compile(r"[+-]?[0-9]*[.,][0-9]+(?:[eE][+-]?[0-9]+)?")
_NUMBER = re.compile(r"[+-]?[0-9]+|" + _FRACTION.pattern)
_DATE = re.compile(r"\d{1,4}([-/.])\d{1,2}\1\d{1,4}(?:\D.*)?|\d{1,2}:\d{2}(?:\D.*)?")
_FIGURES = re.compile(r"(?=.*\d)[\W\d_]+|[+-]?[\d.,]+[eE][+-]?\d+")
_RULE = re.compile(r":?[-=+]{2,}:?")
_LATE_QUOTE = re.compile(r"\s+\"")
_WHOLE = re.compile(r"[+-]?\d+")
_FOREIGN = re.compile(r"'.*'|=\".*\"")
_COUNTED = 5
_WORDS = 2
_UNIT = re.compile(r"[^\W\d_]|[%°]")
_QUOTE_DECIMALS = "if a decimal comma divides a number, quote such numbers, or separate columns by ';'"
_YEAR = re.compile(r"(?:1[5-9]|2[01])\d\d")


@dataclass(frozen=True, slots=True)
class Row:
    """The cells of a row, its last line, where it begins in the file, and the number of lines read up to its end."""

    line: int
    end: int
    cells: list[str]
    text: str

    @property
    def filled(self) -> int:
        """The number of cells that are not empty."""
        return sum(1 for cell in self.cells if cell.strip())


@dataclass(frozen=True, slots=True)
class Header:
    """The names of the columns, the number of lines up to the end of their row (0 without one), and notes."""

    names: list[str]
    lines: int
    notes: tuple[str, ...] = ()


def rows(lines: Iterable[tuple[int, str]], separator: str, *, strict: bool = False) -> Iterator[Row]:
    """Divide numbered lines into rows, without the empty lines.

    Raises csv.Error if a value is endless, and, if `strict`, if text follows a closing quote.
    """
    begun, read, last = 0, 0, ""

    def fed() -> Iterator[str]:
        nonlocal begun, read, last
        for number, line in lines:
            begun, read, last = begun or number, read + 1, line.rstrip("\r\n")
            yield line

    try:
        for cells in csv.reader(fed(), delimiter=separator, strict=strict):
            if cells:
                yield Row(begun, read, cells, last)
            begun = 0
    except csv.Error as error:
        raise csv.Error(f"line {begun}: {error}, perhaps because a quote is not closed") from error


def first_rows(lines: Sequence[tuple[int, str]], separator: str, most: int, *, cut: bool) -> list[Row]:
    """Return the first rows that hold something; `cut` says that the lines may end inside of a row."""
    found: list[Row] = []
    try:
        for row in rows(lines, separator):
            if row.filled or len(row.cells) > 1:
                found.append(row)
            if len(found) == most:
                return found
    except csv.Error:
        return found
    return found[:-1] if cut and len(found) > 1 else found


def separators(divided: dict[str, list[Row]]) -> tuple[str | None, list[str]]:
    """Return the mark that divides the rows best, and the other marks that divide all of them into as many cells.

    `divided` holds the rows by each mark. A mark is better if more rows have the same number of cells, and if fewer
    cells contain another mark (a decimal comma is none). Of equal marks, the first wins.
    """
    shares = {mark: _even(found) for mark, found in divided.items()}
    scores = {mark: share * _clean(mark, divided[mark]) for mark, share in shares.items() if share > 0.5}
    if not scores:
        return None, []
    best = max(scores, key=scores.__getitem__)
    return best, [mark for mark, share in shares.items() if share == 1 and mark != best]


def odd_separator(lines: Sequence[tuple[int, str]], most: int, *, cut: bool) -> str | None:
    """Return a mark that seldom separates columns, if it divides all of the first rows into as many cells."""
    divided = {mark: first_rows(lines, mark, most, cut=cut) for mark in _ODD_MARKS}
    return next((mark for mark, found in divided.items() if len(found) > 1 and _even(found) == 1), None)


def misquoted(lines: Sequence[tuple[int, str]], separator: str, found: Sequence[Row]) -> str | None:
    """Return what is wrong with the quotes of these rows, which would be parts of values, or None."""
    for row in found:
        if any(_LATE_QUOTE.match(cell) for cell in row.cells):
            return f"line {row.line}: a quote after a space is a part of the value; remove the spaces after separators"
    try:
        for place, _ in enumerate(rows(lines, separator, strict=True), start=1):
            if place >= len(found):
                break
    except csv.Error as error:
        if "expected after" in str(error):
            return f"{str(error).partition(':')[0]}: text follows a closing quote; write quotes inside of values twice"
    return None


def foreign_quotes(found: Sequence[Row]) -> str | None:
    """Return what is wrong if all values of a column are in single quotes, or written as `="…"`; else None."""
    for column in zip_longest(*(row.cells for row in found[1:]), fillvalue=""):
        cells = [(row, cell.strip()) for row, cell in zip(found[1:], column, strict=True) if cell.strip()]
        if len(cells) > 1 and all(_FOREIGN.fullmatch(cell) for _, cell in cells):
            row, cell = cells[0]
            return f'line {row.line}: {cell[:_SHOWN]} is not quoted as in CSV; write "…" instead'
    return None


def candidates(usual: str) -> str:
    """Return the marks that may separate columns, with the usual one first."""
    return usual + _MARKS.replace(usual, "")


def check_given(path: Path, given: str, divided: dict[str, list[Row]], proposing: bool) -> None:
    """Raise InputError if the given separator finds one column where another one finds several."""
    if len(divided[given]) < 2 or any(len(row.cells) > 1 for row in divided[given]):
        return
    fitting, _ = separators({mark: found for mark, found in divided.items() if mark != given})
    if fitting is not None and _even(divided[fitting]) == 1:
        cure = f"set {setting('data.delimiter', fitting)}" if proposing else f"save it with {given!r}"
        count = len(divided[fitting][0].cells)
        raise InputError(f"{path}: divided by {given!r} there is 1 column, by {fitting!r} there are {count}; {cure}")


def header(path: Path, found: list[Row], written: TextFormat, proposing: bool) -> Header:
    """Return the names of the columns by the first rows, at least one.

    Raises InputError if lines stand before the header, or if the first row looks like data, where settings can tell.
    """
    first, others = found[0], found[1:]
    if written.header == "none":
        if written.columns is not None and len(first.cells) not in written.columns:
            expected = " or ".join(map(str, written.columns))
            raise InputError(
                f"{path}: expected {expected} column{'' if expected == '1' else 's'}, as in training, found "
                f"{len(first.cells)}; without a header, their places name them"
            )
        return Header([f"c{place}" for place in range(1, len(first.cells) + 1)], 0)
    names = [name.strip("\ufeff").strip() for name in first.cells]  # joined files have marks of byte order inside
    usual = Counter(len(row.cells) for row in others).most_common(1)[0][0] if others else len(names)
    even = [row.cells for row in others if len(row.cells) == usual]
    if len(names) == usual - 1 and len(even) == len(others) > 1:
        if not any(cells[-1].strip() for cells in even):  # the rows end in a separator
            return Header([*names, ""], first.end)
        looks = _first_row(even[0], even[1:])
        if len(names) > 1 and (looks == "data" or (looks == "figures" and not any(map(_YEAR.fullmatch, even[0])))):
            _check_row_names(path, names, others)
            note = f"the header has {usual - 1} names for {usual} columns: the first column holds the names of rows"
            return Header(["", *names], first.end, (note,))
    _check_title(path, first, others, usual, written, proposing)
    _check_groups(path, names, first, others, proposing)
    looks = _first_row(names, even) if written.header is None else "names"
    shown = ", ".join(names[:5])
    if looks == "data":
        skipped = f" after {counted(written.skip_rows, 'skipped line')}" if written.skip_rows else ""
        cure = f"set {setting('data.header', 'none')}{_are_names(proposing)}" if proposing else "expected a header"
        raise InputError(f"{path}: the first row{skipped} looks like data, not like names ({shown}); {cure}")
    if others:
        _check_rule(path, others[0], written, proposing)
        _check_units(path, names, others[0], even, written, proposing)
    doubt = f"the first row ({shown}) is read as names; if it is data, set {setting('data.header', 'none')}"
    return Header(names, first.end, (doubt,) if looks == "figures" and proposing else ())


def _even(found: list[Row]) -> float:
    """The share of rows with the most frequent number of cells, 0 if that is one cell."""
    if not found:
        return 0.0
    width, count = Counter(len(row.cells) for row in found).most_common(1)[0]
    return count / len(found) if width > 1 else 0.0


def _clean(mark: str, found: list[Row]) -> float:
    """The share of cells without another mark."""
    others = [other for other in _MARKS if other != mark]
    count = clean = 0
    for row in found:
        for cell in row.cells:
            count += 1
            clean += not any(other in cell for other in others) or not any(
                other in _DECIMAL_COMMA.sub("", cell) for other in others
            )
    return clean / count


def _check_row_names(path: Path, names: list[str], others: list[Row]) -> None:
    """Raise InputError if the first of one column more than names may not hold the names of rows.

    Decimal commas make columns too. Names of rows differ. Where two columns of whole numbers may be the parts of one
    number, they are also quoted, or 1, 2, 3, …, as R writes them.
    """
    labels = [row.cells[0].strip() for row in others]
    numbered = labels == [str(place) for place in range(1, len(labels) + 1)] and len(labels) >= _COUNTED
    quoted = all(row.text.startswith('"') for row in others)
    halves = _decimal_commas(others)
    zeros = any(row.cells[place].startswith("0") and len(row.cells[place]) > 1 for row in others for place in halves)
    if len(set(labels)) == len(labels) and (not halves or numbered or (quoted and not zeros)):
        return
    cures = [_QUOTE_DECIMALS] if halves else []
    cures.append("if the first column holds the names of rows, give this column a name")
    raise InputError(f"{path}: rows have {len(names) + 1} values for {counted(len(names), 'name')}; {'; '.join(cures)}")


def _decimal_commas(others: list[Row]) -> list[int]:
    """The columns that may hold the fractions of numbers; the column before each holds the whole parts."""
    if not all(row.text.count(",") >= len(row.cells) - 1 for row in others):
        return []  # other marks separate
    columns = list(zip(*(row.cells for row in others), strict=True))
    whole = [all(map(_WHOLE.fullmatch, column)) for column in columns]
    unsigned = [all(map(str.isdecimal, column)) for column in columns]
    return [place for place in range(1, len(columns)) if whole[place - 1] and unsigned[place]]


def _check_title(path: Path, first: Row, others: list[Row], usual: int, written: TextFormat, proposing: bool) -> None:
    """Raise InputError if the first row has another width than most rows, or names few of their columns.

    A wider first row stands before the header only if the next row of the usual width looks like names.
    """
    if len(others) < 2 and not (others and usual > len(first.cells)):
        return
    filled = median_low(row.filled for row in others)
    start = next((row for row in others if len(row.cells) == usual and row.filled >= filled), None)
    if start is None:
        return
    even = [row for row in others if len(row.cells) == usual]
    if (
        usual > len(first.cells) > 1
        and len(even) == len(others)
        and len(_decimal_commas(even)) >= usual - len(first.cells)
    ):
        raise InputError(f"{path}: rows have {usual} values for {len(first.cells)} names; {_QUOTE_DECIMALS}")
    skipping = f"set {setting('data.skip_rows', start.line - 1)}" if proposing else "remove them"
    cure = f"if lines stand before the header, {skipping}"
    if len(first.cells) < usual or (len(first.cells) > usual > 1 and not any(map(_look, start.cells))):
        raise InputError(f"{path}: the first row has {len(first.cells)} and most rows have {usual} columns; {cure}")
    index = len(first.cells) > 1 and not first.cells[0].strip() and bool(first.cells[1].strip())
    named = first.filled + index
    if written.header is None and 2 * named <= filled and named < usual:
        raise InputError(
            f"{path}: the first row names {first.filled} of {usual} columns; {cure}{_are_names(proposing)}"
        )


def _are_names(proposing: bool) -> str:
    """The end of a proposal, for a first row that does have the names."""
    return f", or {setting('data.header', 'first')} if these are the names" if proposing else ""


def _check_groups(path: Path, names: list[str], first: Row, others: list[Row], proposing: bool) -> None:
    """Raise InputError if the first row repeats words above the names of the columns, or above their second parts."""
    below = [cell.strip() for cell in others[0].cells] if others else []
    given = list(filter(None, names))
    if len(set(given)) == len(given) or len(below) != len(names) or any(map(_look, below)):
        return
    pairs = list(zip(names, below, strict=True))
    if len(set(below)) == len(names) and all(below):
        cure = f"set {setting('data.skip_rows', others[0].line - 1)}" if proposing else "remove the row above them"
        shown = ", ".join(below[:5])
        raise InputError(
            f"{path}: the first row has words several times; if the next row ({shown}) has the names, {cure}"
        )
    values = [cell.strip() for cell in others[1].cells] if len(others) > 1 else []
    parts = [pair for pair, value in zip(pairs, values, strict=False) if pair[1] and _look(value)]
    if len(set(pairs)) == len(pairs) and parts:
        raise InputError(
            f"{path}: the first two rows seem to share the names of the columns; write them in one row, such as "
            f"{'_'.join(filter(None, parts[0]))}"
        )


def _check_rule(path: Path, second: Row, written: TextFormat, proposing: bool) -> None:
    """Raise InputError if the second row is a line of dashes, as in the output of databases."""
    drawn = [cell.strip() for cell in second.cells if cell.strip()]
    if drawn and all(map(_RULE.fullmatch, drawn)):
        leaving_out = setting("data.comment", written.leaving_out(second.text))
        cure = f"set {leaving_out} to leave it out" if proposing else "remove it"
        raise InputError(f"{path}: line {second.line} divides the header from the rows; {cure}")


def _check_units(
    path: Path, names: list[str], second: Row, even: list[list[str]], written: TextFormat, proposing: bool
) -> None:
    """Raise InputError if the second row has words in columns of numbers and dates, such as their units.

    There must be at least two such words, below names, and no number or date in these columns.
    """
    if written.header is not None or len(even) <= _COUNTED or second.cells != even[0]:
        return
    words = []
    for place, (name, cell) in enumerate(zip(names, map(str.strip, second.cells), strict=True)):
        known = [text for row in even[1:] if (text := row[place].strip()) not in NA_VALUES]
        if not known or not all(map(_look, known)) or cell in NA_VALUES:
            continue
        if _look(cell) or not name:
            return
        words += [cell] if _UNIT.search(cell) else []
    if len(words) < _WORDS:
        return
    cure = "remove it"
    if proposing:
        cure = (
            f"if these are units, set {setting('data.comment', written.leaving_out(second.text))}; if they are the "
            f"names, set {setting('data.skip_rows', second.line - 1)}; if they are data, set "
            f"{setting('data.header', 'first')}"
        )
    shown = ", ".join(words[:5])
    raise InputError(f"{path}: line {second.line} has words above numbers ({shown}); {cure}")


def _first_row(names: list[str], below: list[list[str]]) -> str:
    """Whether the first row holds `names`, `data`, or `figures` that may be names, such as years or 0, 1, 2.

    It is data if it looks like the cells below it in each column of numbers or dates, or if it occurs among them in
    half of the columns where there are no numbers or dates.
    """
    given = [name for name in names if name not in NA_VALUES]
    others = [row for row in below if len(row) == len(names) and [cell.strip() for cell in row] != names]
    figures, repeated = [], 0
    for place, name in enumerate(names):
        cells = [row[place].strip() for row in others]
        looks = {_look(cell) for cell in cells if cell not in NA_VALUES}
        if name in NA_VALUES:
            continue
        repeated += name in cells
        if len(looks) == 1 and None not in looks:
            if _look(name) not in looks:
                return "names"
            figures.append(name)
    numbers = [name for name in names if _NUMBER.fullmatch(name)]
    if 2 * len(numbers) >= len(names) and any(map(_FRACTION.fullmatch, numbers)):
        return "data"
    if not figures:
        return "data" if given and 2 * repeated >= len(given) else "names"
    counted = [*map(str, range(len(figures)))], [*map(str, range(1, len(figures) + 1))]
    if all(map(_YEAR.fullmatch, figures)) or figures == counted[0] or (len(figures) > 1 and figures == counted[1]):
        return "figures"
    return "data"


def _look(cell: str) -> str | None:
    if _DATE.fullmatch(cell):
        return "date"
    return "number" if _FIGURES.fullmatch(cell) else None
