"""Read a column as what it holds: numbers, truth values, dates, categories, text, images or series.

`column_formats` chooses the kind. If nearly all values are numbers (or dates), the others are probably mistakes: an
error shows them, and the kind does not change silently.
"""

import re
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from dle_bundle.errors import InputError, row_name
from dle_bundle.groups import MISSING_TIME
from dle_bundle.schema import Kind
from dle_bundle.tables import columns, image_columns, series_columns
from dle_bundle.tables.columns import Column
from dle_bundle.values import dates
from dle_bundle.values.numbers import NumberFormat
from dle_training.data.columns import column_formats, column_settings, date_formats, placeholders
from dle_training.data.columns.column_formats import ColumnFormat
from dle_training.data.columns.column_settings import ColumnSettings
from dle_training.settings.proposals import setting

_NEARLY_ALL = 0.9
_FEW_SPELLINGS = 10
_AT_ONCE = 1000
_ROWS_SHOWN = 5
_LARGEST_CODE = 2.0**64
"""Codes have at most 64 bits; larger numbers are amounts."""
_POWER = re.compile("[0-9]+[eE][0-9]+")
_BEGINS_WITH_FIGURES = re.compile(r"\W{0,3}\d")
_ROWS_LISTED = 10
_PLURAL = {"numeric": "numbers", "boolean": "truth values", "datetime": "date-times"}

FRACTIONS = "fractions of a second are not used; if they matter, give a column of seconds as numbers, such as 9.25"


@dataclass(frozen=True, slots=True)
class Reading:
    """How a column is read, and what was read: float64 (N,), texts or epoch seconds, with a mask of missing ones.

    Images and series are not decoded here; only their missing values are found. `whole`: all values are whole numbers,
    or dates in digits. `note` explains the choice to the user. `fractions`: dates had fractions of a second, which are
    no longer in `values`.
    """

    kind: Kind
    values: npt.NDArray[Any]
    missing: npt.NDArray[np.bool_]
    whole: bool = False
    date_format: str | None = None
    number_format: NumberFormat | None = None
    note: str | None = None
    fractions: bool = False

    @property
    def known(self) -> npt.NDArray[Any]:
        """The values that are not missing."""
        return self.values[~self.missing]

    @property
    def codes(self) -> npt.NDArray[np.int64]:
        """The number (N,) of each row's value among the distinct ones."""
        if self.values.dtype == object:  # which numpy would sort
            return columns.distinct(pa.chunked_array([pa.array(self.values, pa.large_string())]))[1]
        return np.asarray(np.unique(self.values, return_inverse=True)[1], dtype=np.int64)


def read(name: str, column: Column, wanted: ColumnSettings, rows: npt.NDArray[np.int64]) -> Reading:
    """Read `column` as `wanted`; messages name rows by their places `rows` (N,) in the source.

    Raises InputError if values do not fit the kind (such as text among numbers), if numbers are infinite, or if the
    Arrow type suits no kind.
    """
    choice = column_formats.choose(name, column, wanted)
    if choice.kind == "numeric" and (long := columns.rounded(column, wanted.na_values, choice.number_format)):
        choice = column_formats.without_rounding(name, choice, long, wanted)
    if choice.kind in ("image", "sequence"):
        return _whole_values(name, column, choice.kind, wanted.na_texts)
    if choice.kind in ("categorical", "text"):
        if not (columns.is_text(column) or columns.is_number(column) or columns.is_date(column)):
            raise InputError(
                f"{name!r}: expected text or numbers for {choice.kind}, found {column.type}; "
                f"{another_kind(name, wanted)}"
            )
        return _texts(choice.kind, column, wanted.na_texts, choice.note)
    if choice.kind == "datetime":
        values, unreadable = columns.moments(column, wanted.na_values, choice.date_format)
        missing = values == MISSING_TIME
        whole = choice.date_format in date_formats.OF_DIGITS
        fractions = columns.has_fractions(column, wanted.na_values, choice.date_format)
        notes = [choice.note, FRACTIONS if fractions else None]
        if dates.has_year(choice.date_format) and (far := placeholders.find_date(values[~missing])) is not None:
            text = str(column[int(np.argmax(values == far))].as_py()).strip()
            way = (
                f"set {column_settings.with_missing(name, wanted, [text])}"
                if columns.is_text(column)
                else "leave it empty"
            )
            notes.append(f"{text} is far from all other dates; if it means missing, {way}")
        note = "; ".join(filter(None, notes)) or None
        reading = Reading("datetime", values, missing, whole, choice.date_format, note=note, fractions=fractions)
    else:
        numbers, unreadable = choice.numbers or (
            columns.booleans(column, wanted.na_values)
            if choice.kind == "boolean"
            else columns.numbers(column, wanted.na_values, choice.number_format)
        )
        missing = np.isnan(numbers)
        whole = bool(np.all(numbers[~missing] == np.floor(numbers[~missing])))
        notes = [choice.note, placeholders.note(name, numbers, wanted) if choice.kind == "numeric" else None]
        if choice.kind == "numeric" and (long := columns.rounded_floats(column, _LARGEST_CODE)):
            notes.append(
                f"whole numbers beyond ±2⁵³ as floating-point numbers, such as {long}: if these are codes, they were "
                "rounded before; write them to the file as text"
            )
        note = "; ".join(filter(None, notes)) or None
        reading = Reading(choice.kind, numbers, missing, whole=whole, number_format=choice.number_format, note=note)
    if unreadable.any():
        categories = f"if the column holds categories, set {setting('data.kinds', 'categorical', name)}"
        raise InputError(misfits(name, column, wanted, choice, unreadable, rows, categories))
    infinite = np.isinf(reading.values) if choice.kind == "numeric" else unreadable
    if infinite.any():
        raise InputError(
            f"{name!r}: infinite values in {_count(infinite)}: {shown(column, infinite, rows)}; "
            f"replace them by numbers or leave them empty{leaving_out(name, wanted)}"
        )
    return reading


def times(name: str, column: Column, wanted: ColumnSettings, rows: npt.NDArray[np.int64]) -> Reading:
    """Read the column that orders the rows: numbers, or date-times as epoch seconds; parsing is the same as in `read`.

    Raises InputError if the column has another kind, or if a row has no value.
    """
    choice = column_formats.choose(name, column, wanted)
    values: npt.NDArray[Any]
    if choice.kind == "datetime":
        values, unreadable = columns.moments(column, wanted.na_values, choice.date_format)
        missing = values == MISSING_TIME
    elif choice.kind == "numeric":
        values, unreadable = choice.numbers or columns.numbers(column, wanted.na_values, choice.number_format)
        missing = ~np.isfinite(values)
    else:
        raise InputError(
            f"{name!r}: expected date-times or numbers to order the rows by, found a column that is {choice.kind}: "
            f"{shown(column, np.ones(len(column), dtype=bool), rows)}; if they are dates, give their format, as in "
            f"{setting('data.date_formats', '%d.%m.%Y', name)}; if they are numbers, set "
            f"{setting('data.kinds', 'numeric', name)}"
        )
    wrong = unreadable | missing
    if wrong.any():
        what = "number" if choice.kind == "numeric" else f"date-time ({choice.date_format or 'ISO 8601'})"
        raise InputError(
            f"{name!r}: expected a {what} in every row to order the rows by, found none in {_count(wrong)}",
            listed(column, wrong, rows),
        )
    return Reading(
        choice.kind,
        values,
        missing,
        date_format=choice.date_format,
        number_format=choice.number_format,
        note=choice.note,
    )


def other_meaning(name: str, column: Column, wanted: ColumnSettings, reading: Reading) -> str | None:
    """Return a note if numbers of an input may be codes, such as `1E10`, or dates, such as `20240131`.

    Categories may be numbers or dates as well: see `figures`.
    """
    if reading.kind in ("categorical", "text") and reading.note is None and wanted.kind is None:
        note = figures(column, reading)
        return note and f"{name}: {note}"
    if reading.kind != "numeric" or wanted.kind is not None or not columns.is_text(column):
        return None
    first = columns.trimmed(column, wanted.na_values).slice(0, _AT_ONCE).drop_null().to_pylist()
    if power := next(filter(_POWER.fullmatch, first), None):
        cure = setting("data.kinds", "categorical", name)
        return f"{name}: {power} is read as {float(power):g}; if it is a code, set {cure}"
    if written := date_formats.in_digits(first):
        cure = setting("data.date_formats", written, name)
        return f"{name}: {first[0]} is read as a number; if it is a date, set {cure}"
    return None


def figures(column: Column, reading: Reading) -> str | None:
    """Return a note if nearly all texts begin with figures, such as durations, or numbers with several units."""
    distinct = list(dict.fromkeys(reading.known.tolist()))
    begun = [text for text in distinct if _BEGINS_WITH_FIGURES.match(text)]
    if not columns.is_text(column) or reading.whole or len(begun) < max(2, _NEARLY_ALL * len(distinct)):
        return None
    taken = "text" if reading.kind == "text" else "categories"
    return f"{begun[0]!r:.40}, {begun[1]!r:.40} fit no format of numbers or dates, and are read as {taken}"


def another_kind(name: str, wanted: ColumnSettings) -> str:
    """What to do with a column whose type does not fit the kind that the user has set."""
    return f"take it out of data.kinds, or leave it out with {column_settings.without(name, wanted)}"


def leaving_out(name: str, wanted: ColumnSettings) -> str:
    """The end of a message on a column that is better without some of its values."""
    return f", or leave the column out with {column_settings.without(name, wanted)}"


def shown(column: Column, mask: npt.NDArray[np.bool_], rows: npt.NDArray[np.int64]) -> str:
    """Return the first rows of `mask` with their values; rows count from 1, without the header."""
    places = np.flatnonzero(mask)
    listed = ", ".join(
        f"{row_name(int(rows[place]) + 1)} {column[place].as_py()!r:.40}" for place in places[:_ROWS_SHOWN].tolist()
    )
    return f"{listed}, …" if len(places) > _ROWS_SHOWN else listed


def listed(column: Column, mask: npt.NDArray[np.bool_], rows: npt.NDArray[np.int64]) -> list[str]:
    """Return one line for each of the first rows of `mask`, with its value."""
    places = np.flatnonzero(mask)
    lines = [
        f"{row_name(int(rows[place]) + 1)}: {column[place].as_py()!r:.40}" for place in places[:_ROWS_LISTED].tolist()
    ]
    return [*lines, *([f"and {len(places) - _ROWS_LISTED:,} more"] if len(places) > _ROWS_LISTED else [])]


def misfits(
    name: str,
    column: Column,
    wanted: ColumnSettings,
    choice: ColumnFormat,
    mask: npt.NDArray[np.bool_],
    rows: npt.NDArray[np.int64],
    otherwise: str | None,
) -> str:
    """Say which rows of `mask` (N,) do not fit the `choice` of a kind, with the settings that read them.

    `otherwise` is what to do with a column of text that has another kind, if there is something to do.
    """
    what = _PLURAL[choice.kind] + (f" ({choice.date_format})" if choice.date_format else "")
    message = f"{name!r}: a column of {what} with something else in {_count(mask)}: {shown(column, mask, rows)}"
    if not columns.is_text(column):
        return f"{message}; {another_kind(name, wanted)}"
    spellings = dict.fromkeys(column[place].as_py().strip() for place in np.flatnonzero(mask)[:1000].tolist())
    cures = [choice.cure] if choice.cure else []
    if mask.all() and choice.kind == "datetime":
        cures.append("to read them, give their format in data.date_formats")
    elif choice.kind == "datetime" and choice.date_format is None:
        others = date_formats.infer(list(spellings))  # ISO 8601 is read beside any format
        if others.share == 1 and others.written:
            cures.append(f"to read them too, set {setting('data.date_formats', others.written, name)}")
    if len(spellings) <= _FEW_SPELLINGS and not mask.all():
        cures.append(f"if they mean missing, set {column_settings.with_missing(name, wanted, spellings)}")
    cures += [otherwise] if otherwise else []
    return "; ".join([message, *cures])


def _texts(kind: Kind, column: Column, na_texts: tuple[str, ...], note: str | None) -> Reading:
    texts = columns.categories(column, na_texts)
    missing = texts == ""
    whole = kind == "categorical" and all(map(_is_whole, set(texts[~missing])))
    return Reading(kind, texts, missing, whole=whole, note=note)


def _whole_values(name: str, column: Column, kind: Kind, na_values: tuple[str, ...]) -> Reading:
    fitting = image_columns.is_image(column) if kind == "image" else series_columns.is_series(column)
    if not fitting and not (kind == "image" and columns.is_text(column)):
        expected = "paths of image files, their content or arrays of uint8" if kind == "image" else "lists of numbers"
        raise InputError(f"{name!r}: data.kinds says {kind}: expected {expected}, found {column.type}")
    known = columns.trimmed(column, na_values) if columns.is_text(column) else column
    return Reading(kind, np.empty(len(column), dtype=object), np.asarray(pc.is_null(known.combine_chunks())))


def _is_whole(text: str) -> bool:
    """Whether the text is how a JSON integer is written, of 64 bits."""
    try:
        return str(int(text)) == text and -(2**63) <= int(text) < 2**63
    except ValueError:
        return False


def _count(mask: npt.NDArray[np.bool_]) -> str:
    return f"{int(mask.sum()):,} of {len(mask):,} rows"
