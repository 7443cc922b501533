"""Which kind each column has: numbers, truth values, dates, categories, text, images or series.

The type or the values of a column decide its kind, and all rows share it. If nearly all values are numbers (or dates),
the others are probably mistakes: an error shows them, and the kind does not change silently.
"""

import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, replace
from itertools import chain
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
from dle_bundle.values import dates
from dle_bundle.values.missing import NA_TEXTS, NA_VALUES
from dle_bundle.values.numbers import FALSE, PLAIN, TRUE, NumberFormat, parse_number
from dle_training.config.run_config import DataConfig
from dle_training.data import date_formats, number_formats, placeholders
from dle_training.data.number_formats import Ambiguous
from dle_training.settings.proposals import setting

EVERY_COLUMN = "*"
"""The name in `data.na_values` that stands for all columns without spellings of their own."""
_NEARLY_ALL = 0.9
_SLIPS = 0.1
"""A channel with a larger share of unreadable values is not numeric; fewer of them are reported as faults."""
_HALF = 0.5
_SOME = 0.3
_FEW_SPELLINGS = 10
_SURE = 5
"""Distinct numbers that are dates beyond doubt if all of them fit a format of dates."""
_FEW_AMOUNTS = 20
"""Distinct amounts that do as categories; with more, a few other values beside them are more likely slips."""
_AT_ONCE = 1000
_NAMED = 3
_ROWS_SHOWN = 5
_POWER = re.compile("[0-9]+[eE][0-9]+")
_BEGINS_WITH_FIGURES = re.compile(r"\W{0,3}\d")
_ROWS_LISTED = 10
_PLURAL = {"numeric": "numbers", "boolean": "truth values", "datetime": "date-times"}


@dataclass(frozen=True, slots=True)
class Reading:
    """How a column is read, and what was read: float64 (N,), texts or epoch seconds, with a mask of missing ones.

    Images and series are not decoded here; only their missing values are found. `whole`: all values are whole numbers,
    or dates in digits. `note` explains the choice to the user.
    """

    kind: Kind
    values: npt.NDArray[Any]
    missing: npt.NDArray[np.bool_]
    whole: bool = False
    date_format: str | None = None
    number_format: NumberFormat | None = None
    note: str | None = None

    @property
    def known(self) -> npt.NDArray[Any]:
        """The values that are not missing."""
        return self.values[~self.missing]


@dataclass(frozen=True, slots=True)
class Asked:
    """What the settings say about the reading of one column; None leaves the choice to its values.

    `na_values` are the spellings of a missing number, truth value or date, `na_texts` those of a missing text.
    `decimal` and `thousands` are the marks of numbers written as text.
    """

    na_values: tuple[str, ...]
    na_texts: tuple[str, ...]
    kind: Kind | None = None
    date_format: str | None = None
    decimal: str | None = None
    thousands: str | None = None


def asked(name: str, data: DataConfig) -> Asked:
    """What the settings say about the reading of the column `name`."""
    own = data.na_values.get(name) if isinstance(data.na_values, dict) else None
    further = data.na_values.get(EVERY_COLUMN, ()) if isinstance(data.na_values, dict) else data.na_values
    return Asked(
        na_values=tuple(dict.fromkeys((*NA_VALUES, *further))) if own is None else own,
        na_texts=tuple(dict.fromkeys((*NA_TEXTS, *further))) if own is None else own,
        kind=data.kinds.get(name),
        date_format=data.date_formats.get(name),
        decimal=data.decimal,
        thousands=data.thousands,
    )


@dataclass(frozen=True, slots=True)
class _ColumnFormat:
    """How a column is to be read. `numbers` are those of `columns.numbers`, where the kind was found by them."""

    kind: Kind
    date_format: str | None = None
    number_format: NumberFormat | None = None
    note: str | None = None
    numbers: tuple[npt.NDArray[np.float64], npt.NDArray[np.bool_]] | None = None


def read(name: str, column: Column, wanted: Asked, rows: npt.NDArray[np.int64]) -> Reading:
    """Read `column` as `wanted`; messages name rows by their places `rows` (N,) in the source.

    Raises InputError if values do not fit the kind (such as text among numbers), if numbers are infinite, or if the
    Arrow type suits no kind.
    """
    choice = _given(name, column, wanted) or _infer(name, column, wanted)
    if choice.kind == "numeric" and (long := columns.rounded(column, wanted.na_values, choice.number_format)):
        choice = _without_rounding(name, choice, long, wanted)
    if choice.kind in ("image", "sequence"):
        return _whole_values(name, column, choice.kind, wanted.na_texts)
    if choice.kind in ("categorical", "text"):
        if not (columns.is_text(column) or columns.is_number(column) or columns.is_date(column)):
            raise InputError(
                f"{name!r}: expected text or numbers for {choice.kind}, found {column.type}; "
                f"set data.kinds.{name} to another kind, or leave it out with data.drop"
            )
        return _texts(choice.kind, column, wanted.na_texts, choice.note)
    if choice.kind == "datetime":
        values, unreadable = columns.moments(column, wanted.na_values, choice.date_format)
        missing = values == MISSING_TIME
        whole = choice.date_format in date_formats.OF_DIGITS
        notes = [choice.note]
        if dates.has_year(choice.date_format) and (far := placeholders.find_date(values[~missing])) is not None:
            text = str(column[int(np.argmax(values == far))].as_py()).strip()
            way = f"set {_missing_too(name, wanted, [text])}" if columns.is_text(column) else "leave it empty"
            notes.append(f"{text} is far from all other dates; if it means missing, {way}")
        note = "; ".join(filter(None, notes)) or None
        reading = Reading("datetime", values, missing, whole=whole, date_format=choice.date_format, note=note)
    else:
        numbers, unreadable = choice.numbers or (
            columns.booleans(column, wanted.na_values)
            if choice.kind == "boolean"
            else columns.numbers(column, wanted.na_values, choice.number_format)
        )
        missing = np.isnan(numbers)
        whole = bool(np.all(numbers[~missing] == np.floor(numbers[~missing])))
        notes = [choice.note]
        if choice.kind == "numeric" and (nines := placeholders.find(numbers)):
            cure = _missing_too(name, wanted, [nines])
            notes.append(f"{nines} is far from all other values; if it means missing, set {cure}")
        note = "; ".join(filter(None, notes)) or None
        reading = Reading(choice.kind, numbers, missing, whole=whole, number_format=choice.number_format, note=note)
    if unreadable.any():
        raise InputError(_misfits(name, column, wanted, choice, unreadable, rows))
    infinite = np.isinf(reading.values) if choice.kind == "numeric" else unreadable
    if infinite.any():
        raise InputError(
            f"{name!r}: infinite values in {_count(infinite)}: {shown(column, infinite, rows)}; "
            "replace them by numbers or leave them empty, or leave the column out with data.drop"
        )
    return reading


def times(name: str, column: Column, wanted: Asked, rows: npt.NDArray[np.int64]) -> Reading:
    """Read the column that orders the rows: numbers, or date-times as epoch seconds; parsing is the same as in `read`.

    Raises InputError if the column has another kind, or if a row has no value.
    """
    choice = _given(name, column, wanted) or _infer(name, column, wanted)
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
    return Reading(
        choice.kind,
        values,
        missing,
        date_format=choice.date_format,
        number_format=choice.number_format,
        note=choice.note,
    )


def channel(name: str, column: Column, wanted: Asked) -> _ColumnFormat | None:
    """How the numbers of a channel of a series are written, or None if nearly all of its values are no numbers.

    Raises InputError if two formats read the values as different numbers.
    """
    _, unreadable = columns.numbers(column, wanted.na_values)
    if columns.is_text(column) and (unreadable.any() or wanted.decimal == "," or wanted.thousands):
        formatted, _ = _formatted(name, _counts(columns.trimmed(column, wanted.na_values)), wanted)
        if formatted is not None:
            return formatted
    if unreadable.mean() > _SLIPS:
        return None
    plain = columns.is_text(column) and not unreadable.any()
    return _ColumnFormat("numeric", note=_doubtful(columns.trimmed(column, wanted.na_values)) if plain else None)


def other_meaning(name: str, column: Column, wanted: Asked, reading: Reading) -> str | None:
    """Return a note if numbers of an input may be codes, such as `1E10`, or dates, such as `20240131`.

    Categories may be numbers or dates as well: see `figures`.
    """
    if reading.kind == "categorical" and reading.note is None and wanted.kind is None:
        return figures(name, column, reading)
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


def figures(name: str, column: Column, reading: Reading) -> str | None:
    """Return a note if nearly all texts begin with figures, such as durations, or numbers with several units."""
    distinct = list(dict.fromkeys(reading.known.tolist()))
    begun = [text for text in distinct if _BEGINS_WITH_FIGURES.match(text)]
    if not columns.is_text(column) or reading.whole or len(begun) < max(2, _NEARLY_ALL * len(distinct)):
        return None
    return f"{name}: {begun[0]!r:.40}, {begun[1]!r:.40} fit no format of numbers or dates, and are read as categories"


def missing_words(name: str, column: Column, reading: Reading, wanted: Asked) -> tuple[dict[str, int], str | None]:
    """Return the words that were taken as missing, with the rows of each, and a note on such words that were kept."""
    if not columns.is_text(column) or reading.kind in ("image", "sequence"):
        return {}, None
    spellings = wanted.na_texts if reading.kind in ("categorical", "text") else wanted.na_values
    counts = _words(column, (*NA_VALUES, *spellings))
    kept = {word: count for word, count in counts.items() if word not in spellings}
    taken = {word: count for word, count in counts.items() if word in spellings}
    if not kept or reading.kind == "text":
        return taken, None
    listed = ", ".join(f"{word!r} in {count:,} rows" for word, count in kept.items())
    cure = setting("data.na_values", [*spellings, *kept], name)
    return taken, f"{name}: {listed} kept as a value like others; where it means missing, set {cure}"


def no_value(name: str, column: Column, wanted: Asked) -> str:
    """Return why a column without values has none, with the words that were taken as missing."""
    if not columns.is_text(column):
        return "no value in any row"
    counts = _words(column, wanted.na_values)
    if not counts:
        return "no value in any row"
    listed = ", ".join(f"{word!r} in {count:,} rows" for word, count in counts.items())
    cure = setting("data.na_values", list(wanted.na_texts), name)
    return f"no value but words that mean missing: {listed}; if they are values, set {cure}"


def missing_words_note(taken: dict[str, dict[str, int]]) -> list[str]:
    """Return at most one note, on the words that were `taken` as missing: by column, the rows of each word."""
    columns_of: dict[str, list[str]] = {}
    counts: Counter[str] = Counter()
    for name, words in taken.items():
        counts.update(words)
        for word in words:
            columns_of.setdefault(word, []).append(name)
    if not counts:
        return []
    lines = []
    for word, names in columns_of.items():
        shown = ", ".join(names[:_NAMED]) + (f" and {len(names) - _NAMED:,} more" if len(names) > _NAMED else "")
        lines.append(f"{word!r} in {counts[word]:,} rows of {shown}")
    return [f"taken as missing: {'; '.join(lines)}; data.na_values.COLUMN=[…] lists the spellings of a column"]


def time_format(table: pa.Table, data: DataConfig) -> tuple[str | None, tuple[str, ...]]:
    """Return the strptime format of the column `data.time`, if its text needs one, and a note on it."""
    if data.time is None or data.time not in table.column_names:  # `long_tables.order` reports an absent column
        return None, ()
    column, wanted = table.column(data.time), asked(data.time, data)
    if wanted.kind == "numeric" or not (columns.is_text(column) or pa.types.is_integer(column.type)):
        return None, ()
    if wanted.date_format is not None:
        return wanted.date_format, ()
    text = columns.trimmed(column, wanted.na_values)
    found = _dates_of_digits(data.time, text) or _dates(text, _NEARLY_ALL)
    return (found.date_format, (f"{data.time}: {found.note}",)) if found and found.note else (None, ())


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


def _given(name: str, column: Column, wanted: Asked) -> _ColumnFormat | None:
    if wanted.kind is None:
        return None if wanted.date_format is None else _ColumnFormat("datetime", wanted.date_format)
    if columns.is_text(column) and wanted.kind == "datetime" and wanted.date_format is None:
        return _dates(columns.trimmed(column, wanted.na_values), 0) or _ColumnFormat("datetime")
    if columns.is_text(column) and wanted.kind == "numeric":
        counts = _counts(columns.trimmed(column, wanted.na_values))
        formatted, _ = _formatted(name, counts, wanted)
        return formatted or _most_numbers(name, counts, wanted)
    return _ColumnFormat(wanted.kind, wanted.date_format)


def _infer(name: str, column: Column, wanted: Asked) -> _ColumnFormat:
    if columns.is_date(column):
        return _ColumnFormat("datetime")
    if columns.is_text(column):
        return _infer_text(name, column, wanted)
    if pa.types.is_integer(column.type) and (dates := _dates_of_digits(name, column.cast(pa.large_string()))):
        return dates
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


def _without_rounding(name: str, choice: _ColumnFormat, long: str, wanted: Asked) -> _ColumnFormat:
    """Return how a column with a whole number as `long` is read: as categories, or rounded if numbers are asked for."""
    if wanted.kind == "numeric":
        return replace(choice, note=f"numbers beyond ±2⁵³, such as {long}, are rounded to 16 digits")
    cure = setting("data.kinds", "numeric", name)
    note = (
        f"whole numbers beyond ±2⁵³, such as {long}, are taken as codes, not numbers; if they are amounts, set {cure}"
    )
    return _ColumnFormat("categorical", note=note)


def _infer_text(name: str, column: Column, wanted: Asked) -> _ColumnFormat:
    text = columns.trimmed(column, wanted.na_values)
    numbers, unreadable = columns.numbers(column, wanted.na_values)
    numeric = _ColumnFormat("numeric", numbers=(numbers, unreadable))
    if found := _dates_of_digits(name, text):
        return found
    if _are_codes(text):
        return _ColumnFormat("categorical", note="digits with leading zeros are taken as codes, not numbers")
    if not unreadable.any() and wanted.decimal in (None, ".") and wanted.thousands in (None, "", ","):
        return replace(numeric, note=_doubtful(text) or _maybe_codes(name, text))
    counts = _counts(text)
    words = {value.casefold() for value in counts}
    if sum(word.endswith(IMAGE_SUFFIXES) for word in words) >= _NEARLY_ALL * len(words):
        return _ColumnFormat("image")  # before amounts, because 12.png is no amount of png
    if words <= TRUE | FALSE and not words.isdisjoint(("true", "false")):
        return _ColumnFormat("boolean")
    formatted, reason = _formatted(name, counts, wanted)
    if formatted is not None:
        return formatted
    spellings = len(pc.unique(text.filter(pa.array(unreadable))))
    share = 1 - unreadable.sum() / (len(text) - text.null_count)
    if share >= _NEARLY_ALL or (share >= _HALF and spellings <= _FEW_SPELLINGS):
        return numeric
    if dates := _dates(text, _NEARLY_ALL):
        return dates
    most = _mostly_amounts(name, counts, wanted)
    if most is not None and most.kind == "numeric":
        return most
    return _ColumnFormat("categorical", note=reason or (most and most.note) or _partly_dates(counts))


def _counts(text: Column) -> Counter[str]:
    """The rows of each text."""
    distinct, positions = columns.distinct(text)
    rows = np.bincount(positions, minlength=len(distinct)).tolist()
    return Counter({value: count for value, count in zip(distinct, rows, strict=True) if value is not None})


def _formatted(name: str, counts: Counter[str], wanted: Asked) -> tuple[_ColumnFormat | None, str | None]:
    """Return the format of numbers that all texts fit, or None and what keeps numbers from having one format.

    Raises InputError if several formats fit and read the texts differently.
    """
    try:
        found = number_formats.infer(counts, wanted.decimal, wanted.thousands)
    except ValueError as error:
        return None, f"{error} are read as categories" if str(error) else None
    written = _decided(name, found)
    if written == PLAIN:
        return _ColumnFormat("numeric"), None
    return _ColumnFormat("numeric", number_format=written, note=number_formats.shown(counts, written)), None


def _decided(name: str, found: NumberFormat | Ambiguous) -> NumberFormat:
    if isinstance(found, NumberFormat):
        return found
    first, second = (each.decimal for each in found.formats[:2])
    raise InputError(
        f"{name!r}: {found.example!r:.40} may be {parse_number(found.example, found.formats[0]):g} or "
        f"{parse_number(found.example, found.formats[1]):g}; set {setting('data.decimal', first)} or "
        f"{setting('data.decimal', second)}"
    )


def _mostly_amounts(name: str, counts: Counter[str], wanted: Asked) -> _ColumnFormat | None:
    """Return how to read texts that are amounts for the most part: as numbers with slips, or as categories if few."""
    most = number_formats.of_most(counts, wanted.decimal, wanted.thousands)
    if most is None:
        return None
    written = _decided(name, most.format)
    if most.distinct > _FEW_AMOUNTS and (most.share >= _NEARLY_ALL or len(most.others) <= _FEW_SPELLINGS):
        return _ColumnFormat("numeric", number_format=written)
    listed = ", ".join(f"{text!r:.40}" for text in most.others[:_NAMED])
    more = f" and {len(most.others) - _NAMED:,} more" if len(most.others) > _NAMED else ""
    unit = f" in {written.unit}" if written.unit else ""
    return _ColumnFormat("categorical", note=f"numbers{unit} are read as categories because of {listed}{more}")


def _most_numbers(name: str, counts: Counter[str], wanted: Asked) -> _ColumnFormat:
    """Return the format of most texts, where numbers are wanted for; the others are reported as faults."""
    most = number_formats.of_most(counts, wanted.decimal, wanted.thousands)
    return _ColumnFormat("numeric", number_format=None if most is None else _decided(name, most.format))


def _dates_of_digits(name: str, text: Column) -> _ColumnFormat | None:
    """Return the format of dates that are written in digits alone, such as 20240131."""
    widths = pc.min_max(pc.utf8_length(text)).as_py()
    if widths["min"] != widths["max"] or widths["max"] not in date_formats.DIGITS:
        return None
    counts = _counts(text)
    written = date_formats.in_digits(list(counts)) if len(counts) >= _SURE else None
    if written is None:
        return None
    note = f"dates read as {written}{date_formats.day_or_month(written)}; if they are numbers, set "
    return _ColumnFormat("datetime", written, note=note + setting("data.kinds", "numeric", name))


def _partly_dates(counts: Counter[str]) -> str | None:
    """Return a note if many of the texts are dates in one format, and the others are not."""
    found = date_formats.infer(list(counts))
    if found.share < _SOME:
        return None
    return (
        f"{found.share:.0%} of the values are dates like {found.written or 'ISO 8601'}, the others are not; "
        "they are read as categories"
    )


def _maybe_codes(name: str, text: Column) -> str | None:
    """Return a note if numbers are spelled as codes are, with leading zeros, or as 1.1 and 1.10 in one column."""
    padded = text.filter(pc.match_substring_regex(text, r"^[+-]?0[0-9]"))
    if len(padded):
        found = f"{padded[0].as_py()!r} is read as {float(padded[0].as_py()):.15g}"
    else:
        longer = pc.unique(text.filter(pc.match_substring_regex(text, r"\.[0-9]*[1-9]0+$")))
        twice = longer.filter(pc.is_in(pc.utf8_rtrim(longer, "0"), text.combine_chunks()))
        if not len(twice):
            return None
        second = twice[0].as_py()
        found = f"{second.rstrip('0')!r} and {second!r} are read as one number"
    return f"{found}; if they are codes or dates, set {setting('data.kinds', 'categorical', name)}"


def _doubtful(text: Column) -> str | None:
    """Return a note if numbers with a decimal point may be whole numbers with points between thousands."""
    parts = (text.slice(start, _AT_ONCE).drop_null().to_pylist() for start in range(0, len(text), _AT_ONCE))
    found = number_formats.may_be_thousands(chain.from_iterable(parts))  # nearly always the first part decides
    if found is None:
        return None
    cure = setting("data.thousands", ".")
    return f"{found} is read with a decimal point; if it means {found.replace('.', '')}, set {cure}"


def _are_codes(text: Column) -> bool:
    """Whether digits of one width begin with zero somewhere, as in post codes."""
    widths = pc.min_max(pc.utf8_length(text)).as_py()
    same = widths["min"] == widths["max"] and (widths["max"] or 0) > 1
    return bool(same and pc.all(pc.ascii_is_decimal(text)).as_py() and pc.any(pc.starts_with(text, "0")).as_py())


def _dates(text: Column, least: float) -> _ColumnFormat | None:
    """Return the date format that fits most values, if it fits at least one and a share of `least`."""
    found = date_formats.infer([value for value in columns.distinct(text)[0] if value is not None])
    if not found.share or (found.share < least and not _mostly_dates(text, found.written)):
        return None
    if found.written is None:
        return _ColumnFormat("datetime")
    note = f"dates read as {found.written}{date_formats.day_or_month(found.written)}"
    if "%y" in found.written:
        first, last = date_formats.years(list(_counts(text)), found.written)
        note += f", years {first} to {last}"
    if found.other is not None:
        note += f", though {found.other} fits as well: choose one with data.date_formats"
    return _ColumnFormat("datetime", found.written, note=note)


def _mostly_dates(text: Column, written: str | None) -> bool:
    """Whether half of the values are days or times, and the others have few spellings, such as `00/00/0000`."""
    if written is not None and "%d" not in written and "%H" not in written and "%I" not in written:
        return False  # names of months are words too
    values, unreadable = columns.moments(text, (), written)
    others = len(pc.unique(text.filter(pa.array(unreadable))))
    dates = len(np.unique(values[values != MISSING_TIME]))
    return others <= _FEW_SPELLINGS and others < dates and 2 * int(unreadable.sum()) <= len(text) - text.null_count


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


def _misfits(
    name: str,
    column: Column,
    wanted: Asked,
    choice: _ColumnFormat,
    mask: npt.NDArray[np.bool_],
    rows: npt.NDArray[np.int64],
) -> str:
    what = _PLURAL[choice.kind] + (f" ({choice.date_format})" if choice.date_format else "")
    message = f"{name!r}: a column of {what} with something else in {_count(mask)}: {shown(column, mask, rows)}"
    if not columns.is_text(column):
        return f"{message}; set data.kinds.{name} to another kind"
    spellings = dict.fromkeys(column[place].as_py().strip() for place in np.flatnonzero(mask)[:1000].tolist())
    cures = []
    if mask.all() and choice.kind == "datetime":
        cures.append("to read them, give their format in data.date_formats")
    elif choice.kind == "datetime" and choice.date_format is None:
        others = date_formats.infer(list(spellings))  # ISO 8601 is read beside any format
        if others.share == 1 and others.written:
            cures.append(f"to read them too, set {setting('data.date_formats', others.written, name)}")
    if len(spellings) <= _FEW_SPELLINGS and not mask.all():
        cures.append(f"if they mean missing, set {_missing_too(name, wanted, spellings)}")
    cures.append(f"if the column holds categories, set {setting('data.kinds', 'categorical', name)}")
    return f"{message}; {'; '.join(cures)}"


def _missing_too(name: str, wanted: Asked, spellings: Iterable[str]) -> str:
    """Return the setting by which these spellings mean missing too."""
    if not set(NA_VALUES) <= set(wanted.na_values):  # the column has a list of its own
        return setting("data.na_values", [*wanted.na_values, *spellings], name)
    return setting("data.na_values", [*(each for each in wanted.na_values if each not in NA_VALUES), *spellings])


def _words(column: Column, spellings: Iterable[str]) -> dict[str, int]:
    """The words among the spellings, without the empty one, and the rows of each; frequent ones first."""
    texts = pc.utf8_trim_whitespace(column.cast(pa.large_string()))
    known = pa.array({*spellings} - {""}, pa.large_string())
    found = pc.value_counts(texts.filter(pc.is_in(texts, known))).to_pylist()
    return {each["values"]: each["counts"] for each in sorted(found, key=lambda each: -each["counts"])}


def _count(mask: npt.NDArray[np.bool_]) -> str:
    return f"{int(mask.sum()):,} of {len(mask):,} rows"
