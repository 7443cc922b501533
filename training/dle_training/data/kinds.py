"""Which kind each column has: numbers, truth values, dates, categories, text, images or series.

The type or the values of a column decide its kind, and all rows share it. If nearly all values are numbers (or dates),
the others are probably mistakes: an error shows them, and the kind does not change silently.
"""

import re
from dataclasses import dataclass
from itertools import product
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from dle_bundle.errors import InputError
from dle_bundle.groups import MISSING_TIME
from dle_bundle.images.pixels import IMAGE_SUFFIXES
from dle_bundle.schema import Kind
from dle_bundle.tables import columns, image_columns, series_columns
from dle_bundle.tables.columns import Column
from dle_bundle.values.dates import epoch_seconds

_DAYS = (
    "%Y/%m/%d", "%d.%m.%Y", "%m/%d/%Y", "%d/%m/%Y", "%m-%d-%Y", "%d-%m-%Y",
    "%d %b %Y", "%d-%b-%Y", "%b %d, %Y", "%d %B %Y", "%B %d, %Y",
)  # fmt: skip
DATE_FORMATS = (*(day + time for day, time in product(_DAYS, ("", " %H:%M", " %H:%M:%S"))), "%Y-%m")
"""Tried after ISO 8601, in this order. If day and month are ambiguous, the month comes first, and a note says so."""

_LOCAL_NUMBER = re.compile(r"[+-]?(?:[0-9]+|[0-9]{1,3}(?:[.,' ][0-9]{3})+)(?:[.,][0-9]+)?")
_TRIED = 50
_NEARLY_ALL = 0.9
_FEW_SPELLINGS = 10
_ROWS_SHOWN = 5
_ROWS_LISTED = 10
_PLURAL = {"numeric": "numbers", "boolean": "truth values", "datetime": "date-times"}


@dataclass(frozen=True, slots=True)
class Reading:
    """How a column is read, and what was read: float64 (N,), texts or epoch seconds, with a mask of missing ones.

    Images and series are not decoded here; only their missing values are found. `whole`: all values are whole numbers.
    `note` explains the choice to the user.
    """

    kind: Kind
    values: npt.NDArray[Any]
    missing: npt.NDArray[np.bool_]
    whole: bool = False
    date_format: str | None = None
    note: str | None = None

    @property
    def known(self) -> npt.NDArray[Any]:
        """The values that are not missing."""
        return self.values[~self.missing]


@dataclass(frozen=True, slots=True)
class _ColumnFormat:
    """How a column is to be read. `numbers` are those of `columns.numbers`, where the kind was found by them."""

    kind: Kind
    date_format: str | None = None
    note: str | None = None
    numbers: tuple[npt.NDArray[np.float64], npt.NDArray[np.bool_]] | None = None


def read(
    name: str,
    column: Column,
    na_values: tuple[str, ...],
    rows: npt.NDArray[np.int64],
    kind: Kind | None = None,
    date_format: str | None = None,
) -> Reading:
    """Read `column`, as `kind` if one is given; messages name rows by their places `rows` (N,) in the source.

    Raises InputError if values do not fit the kind (such as text among numbers), if numbers are infinite, or if the
    Arrow type suits no kind.
    """
    choice = _given(column, na_values, kind, date_format) or _infer(name, column, na_values)
    if choice.kind in ("image", "sequence"):
        return _whole_values(name, column, choice.kind, na_values)
    if choice.kind in ("categorical", "text"):
        if not (columns.is_text(column) or columns.is_number(column) or columns.is_date(column)):
            raise InputError(
                f"{name!r}: expected text or numbers for {choice.kind}, found {column.type}; "
                f"set data.kinds.{name} to another kind, or leave it out with data.drop"
            )
        return _texts(choice.kind, column, na_values, choice.note)
    if choice.kind == "datetime":
        values, unreadable = columns.moments(column, na_values, choice.date_format)
        reading = Reading("datetime", values, values == MISSING_TIME, date_format=choice.date_format, note=choice.note)
    else:
        parse = columns.booleans if choice.kind == "boolean" else columns.numbers
        numbers, unreadable = choice.numbers or parse(column, na_values)
        missing = np.isnan(numbers)
        whole = bool(np.all(numbers[~missing] == np.floor(numbers[~missing])))
        reading = Reading(choice.kind, numbers, missing, whole=whole)
    if unreadable.any():
        raise InputError(_misfits(name, column, choice, unreadable, rows))
    infinite = np.isinf(reading.values) if choice.kind == "numeric" else unreadable
    if infinite.any():
        raise InputError(
            f"{name!r}: infinite values in {_count(infinite)}: {shown(column, infinite, rows)}; "
            "replace them by numbers or leave them empty, or leave the column out with data.drop"
        )
    return reading


def times(
    name: str,
    column: Column,
    na_values: tuple[str, ...],
    rows: npt.NDArray[np.int64],
    kind: Kind | None = None,
    date_format: str | None = None,
) -> Reading:
    """Read the column that orders the rows: numbers, or date-times as epoch seconds; parsing is the same as in `read`.

    Raises InputError if the column has another kind, or if a row has no value.
    """
    choice = _given(column, na_values, kind, date_format) or _infer(name, column, na_values)
    values: npt.NDArray[Any]
    if choice.kind == "datetime":
        values, unreadable = columns.moments(column, na_values, choice.date_format)
        missing = values == MISSING_TIME
    elif choice.kind == "numeric":
        values, unreadable = choice.numbers or columns.numbers(column, na_values)
        missing = ~np.isfinite(values)
    else:
        raise InputError(
            f"{name!r}: expected date-times or numbers to order the rows by, found a column that is {choice.kind}: "
            f"{shown(column, np.ones(len(column), dtype=bool), rows)}; set data.kinds.{name} "
            "to datetime or numeric, or data.date_formats"
        )
    wrong = unreadable | missing
    if wrong.any():
        what = "number" if choice.kind == "numeric" else f"date-time ({choice.date_format or 'ISO 8601'})"
        raise InputError(
            f"{name!r}: expected a {what} in every row to order the rows by, found none in {_count(wrong)}",
            listed(column, wrong, rows),
        )
    return Reading(choice.kind, values, missing, date_format=choice.date_format, note=choice.note)


def shown(column: Column, mask: npt.NDArray[np.bool_], rows: npt.NDArray[np.int64]) -> str:
    """Return the first rows of `mask` with their values; rows count from 1, without the header."""
    places = np.flatnonzero(mask)
    listed = ", ".join(
        f"row {rows[place] + 1:,} {column[place].as_py()!r:.40}" for place in places[:_ROWS_SHOWN].tolist()
    )
    return f"{listed}, …" if len(places) > _ROWS_SHOWN else listed


def listed(column: Column, mask: npt.NDArray[np.bool_], rows: npt.NDArray[np.int64]) -> list[str]:
    """Return one line for each of the first rows of `mask`, with its value."""
    places = np.flatnonzero(mask)
    lines = [f"row {rows[place] + 1:,}: {column[place].as_py()!r:.40}" for place in places[:_ROWS_LISTED].tolist()]
    return [*lines, *([f"and {len(places) - _ROWS_LISTED:,} more"] if len(places) > _ROWS_LISTED else [])]


def _given(
    column: Column, na_values: tuple[str, ...], kind: Kind | None, date_format: str | None
) -> _ColumnFormat | None:
    if kind == "datetime" and date_format is None and columns.is_text(column):
        return _dates(columns.trimmed(column, na_values), 0) or _ColumnFormat("datetime")
    if kind is None and date_format is not None:
        return _ColumnFormat("datetime", date_format)
    return None if kind is None else _ColumnFormat(kind, date_format)


def _infer(name: str, column: Column, na_values: tuple[str, ...]) -> _ColumnFormat:
    if columns.is_date(column):
        return _ColumnFormat("datetime")
    if columns.is_text(column):
        return _infer_text(name, column, na_values)
    if image_columns.is_image(column):
        return _ColumnFormat("image")
    if series_columns.is_series(column):
        return _ColumnFormat("sequence")
    if not columns.is_number(column):
        raise InputError(
            f"{name!r}: holds {column.type}: no numbers, text, dates, images or series; leave it out with data.drop"
        )
    if pa.types.is_dictionary(column.type):
        return _ColumnFormat("categorical")
    return _ColumnFormat("boolean" if pa.types.is_boolean(column.type) else "numeric")


def _infer_text(name: str, column: Column, na_values: tuple[str, ...]) -> _ColumnFormat:
    text = columns.trimmed(column, na_values)
    numbers, unreadable = columns.numbers(column, na_values)
    numeric = _ColumnFormat("numeric", numbers=(numbers, unreadable))
    if not unreadable.any():
        note = "digits with leading zeros are taken as codes, not numbers"
        return _ColumnFormat("categorical", note=note) if _are_codes(text) else numeric
    spellings = len(pc.unique(text.filter(pa.array(unreadable))))
    share = 1 - unreadable.sum() / (len(text) - text.null_count)
    if share >= _NEARLY_ALL or (share >= 0.5 and spellings <= _FEW_SPELLINGS):
        return numeric
    words = {value.casefold() for value in columns.distinct(text)[0] if value is not None}
    if sum(word.endswith(IMAGE_SUFFIXES) for word in words) >= _NEARLY_ALL * len(words):
        return _ColumnFormat("image")
    if words <= {"true", "false"}:
        return _ColumnFormat("boolean")
    dates = _dates(text, _NEARLY_ALL)
    if dates is None and (written := _with_commas(words)):
        raise InputError(
            f"{name!r}: looks like numbers with a decimal comma or thousands separators (such as {written!r:.40}); "
            f"write 1234.5 for 1.234,5, or set data.kinds.{name}=categorical if they are not numbers"
        )
    return dates or _ColumnFormat("categorical")


def _with_commas(words: set[str]) -> str | None:
    """Return one locally written number (such as 1.234,5) if nearly all values are numbers and some are written so."""
    written = [word for word in words if "," in word and _LOCAL_NUMBER.fullmatch(word)]
    numbers = sum(1 for word in words if _LOCAL_NUMBER.fullmatch(word))
    return min(written) if written and numbers >= _NEARLY_ALL * len(words) else None


def _are_codes(text: Column) -> bool:
    """Whether digits of one width begin with zero somewhere, as in post codes."""
    widths = pc.min_max(pc.utf8_length(text)).as_py()
    same = widths["min"] == widths["max"] and (widths["max"] or 0) > 1
    return bool(same and pc.all(pc.ascii_is_decimal(text)).as_py() and pc.any(pc.starts_with(text, "0")).as_py())


def _dates(text: Column, least: float) -> _ColumnFormat | None:
    """Return the date format that fits most values, if it fits at least one and a share of `least`."""
    values = [value for value in columns.distinct(text)[0] if value is not None]
    tried = {date_format: _fit(values[:_TRIED], date_format) for date_format in (None, *DATE_FORMATS)}
    highest = max(tried.values())
    # every format reads ISO 8601 too, so ISO 8601 is chosen if no format reads more values
    likely = [None] if tried[None] == highest else [name for name, fit in tried.items() if fit > highest - 0.1]
    shares = {date_format: _fit(values, date_format) for date_format in likely if highest}
    best = max(shares, key=shares.__getitem__, default=None)
    if not shares or shares[best] < least:
        return None
    if best is None:
        return _ColumnFormat("datetime")
    other = best.replace("%m/%d", "%d/%m").replace("%m-%d", "%d-%m")
    note = f"dates read as {best}"
    if other != best and shares.get(other) == shares[best]:
        note += f", though {other} fits as well: choose one with data.date_formats"
    return _ColumnFormat("datetime", best, note)


def _fit(values: list[str], date_format: str | None) -> float:
    """The share of `values` that the format reads."""
    fitting = 0
    for value in values:
        try:
            epoch_seconds(value, date_format)
        except (ValueError, OverflowError):
            continue
        fitting += 1
    return fitting / max(len(values), 1)


def _texts(kind: Kind, column: Column, na_values: tuple[str, ...], note: str | None) -> Reading:
    texts = columns.categories(column, na_values)
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
    """Whether the text is how a JSON integer is written."""
    try:
        return str(int(text)) == text
    except ValueError:
        return False


def _misfits(
    name: str, column: Column, choice: _ColumnFormat, mask: npt.NDArray[np.bool_], rows: npt.NDArray[np.int64]
) -> str:
    what = _PLURAL[choice.kind] + (f" ({choice.date_format})" if choice.date_format else "")
    message = f"{name!r}: a column of {what} with something else in {_count(mask)}: {shown(column, mask, rows)}"
    if not columns.is_text(column):
        return f"{message}; set data.kinds.{name} to another kind"
    spellings = dict.fromkeys(column[place].as_py().strip() for place in np.flatnonzero(mask)[:1000].tolist())
    listed = ", ".join(map(repr, list(spellings)[:_FEW_SPELLINGS])) + (", …" if len(spellings) > _FEW_SPELLINGS else "")
    return (
        f"{message}; if they mean missing, set data.na_values=[{listed}]; if the column holds categories, "
        f"set data.kinds.{name}=categorical"
    )


def _count(mask: npt.NDArray[np.bool_]) -> str:
    return f"{int(mask.sum()):,} of {len(mask):,} rows"
