"""How the values of a column are written: which kind they are, and the format of dates and amounts.

The type or the values of a column decide, and all rows share the format.
"""

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from itertools import chain

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
from dle_bundle.values.numbers import FALSE, PLAIN, TRUE, NumberFormat, parse_number
from dle_training.config.run_config import DataConfig
from dle_training.data.columns import column_settings, date_formats, number_formats
from dle_training.data.columns.column_settings import ColumnSettings
from dle_training.data.columns.number_formats import Ambiguous
from dle_training.settings.proposals import setting

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


@dataclass(frozen=True, slots=True)
class ColumnFormat:
    """How a column is to be read. `numbers` are those of `columns.numbers`, where the kind was found by them.

    `cure` reads values that do not fit, and are probably slips.
    """

    kind: Kind
    date_format: str | None = None
    number_format: NumberFormat | None = None
    note: str | None = None
    numbers: tuple[npt.NDArray[np.float64], npt.NDArray[np.bool_]] | None = None
    cure: str | None = None


def choose(name: str, column: Column, wanted: ColumnSettings) -> ColumnFormat:
    """Return how a column is to be read: as its settings say, or else by its type and values.

    Raises InputError if the Arrow type suits no kind, or if two formats read the values as different numbers.
    """
    return _given(name, column, wanted) or _infer(name, column, wanted)


def _given(name: str, column: Column, wanted: ColumnSettings) -> ColumnFormat | None:
    if wanted.kind is None:
        return None if wanted.date_format is None else ColumnFormat("datetime", wanted.date_format)
    if columns.is_text(column) and wanted.kind == "datetime" and wanted.date_format is None:
        return _dates(columns.trimmed(column, wanted.na_values), 0) or ColumnFormat("datetime")
    if columns.is_text(column) and wanted.kind == "numeric":
        counts = _counts(columns.trimmed(column, wanted.na_values))
        formatted, _ = _formatted(name, counts, wanted)
        return formatted or _most_numbers(name, counts, wanted)
    return ColumnFormat(wanted.kind, wanted.date_format)


def _infer(name: str, column: Column, wanted: ColumnSettings) -> ColumnFormat:
    if columns.is_date(column):
        return ColumnFormat("datetime")
    if columns.is_text(column):
        return _infer_text(name, column, wanted)
    if pa.types.is_integer(column.type) and (days := _dates_of_digits(name, column.cast(pa.large_string()))):
        return days
    if image_columns.is_image(column):
        return ColumnFormat("image")
    if series_columns.is_series(column):
        return ColumnFormat("sequence")
    if not columns.is_number(column):
        raise InputError(
            f"{name!r}: holds {column.type}: no numbers, text, dates, images or series; "
            f"leave it out with {column_settings.without(name, wanted)}"
        )
    if pa.types.is_dictionary(column.type):
        return ColumnFormat("categorical")
    return ColumnFormat("boolean" if pa.types.is_boolean(column.type) else "numeric")


def channel(name: str, column: Column, wanted: ColumnSettings) -> ColumnFormat | None:
    """Return how a channel of a series is written: numbers, or dates, which are no channels; None for anything else.

    Raises InputError if two formats read the values as different numbers.
    """
    if wanted.kind == "numeric":
        return _given(name, column, wanted)
    if columns.is_date(column):
        return ColumnFormat("datetime")
    typed = not columns.is_text(column)
    if typed and not pa.types.is_integer(column.type):
        return ColumnFormat("numeric") if columns.is_number(column) else None
    text = column.cast(pa.large_string()) if typed else columns.trimmed(column, wanted.na_values)
    if days := _dates_of_digits(name, text):
        return days
    if typed:
        return ColumnFormat("numeric")
    numbers, unreadable = columns.numbers(column, wanted.na_values)
    if unreadable.any() or wanted.decimal == "," or wanted.thousands:
        found, _ = _amounts(name, text, _counts(text), wanted)
        if found is not None:
            return found
    if unreadable.mean() > _SLIPS:
        found = _dates(text, _NEARLY_ALL)
        return found if found is not None and dates.has_year(found.date_format) else None
    note = None if unreadable.any() else _doubtful(name, _values(text), wanted)
    return ColumnFormat("numeric", note=note, numbers=(numbers, unreadable))


def time_format(table: pa.Table, data: DataConfig) -> tuple[str | None, tuple[str, ...]]:
    """Return the strptime format of the column `data.time`, if its text needs one, and a note on it."""
    if data.time is None or data.time not in table.column_names:  # `long_tables.order` reports an absent column
        return None, ()
    column, wanted = table.column(data.time), column_settings.of(data.time, data)
    if wanted.kind == "numeric" or not (columns.is_text(column) or pa.types.is_integer(column.type)):
        return None, ()
    if wanted.date_format is not None:
        return wanted.date_format, ()
    text = columns.trimmed(column, wanted.na_values)
    found = _dates_of_digits(data.time, text) or _dates(text, _NEARLY_ALL)
    return (found.date_format, (f"{data.time}: {found.note}",)) if found and found.note else (None, ())


def without_rounding(name: str, choice: ColumnFormat, long: str, wanted: ColumnSettings) -> ColumnFormat:
    """Return how a column with a whole number as `long` is read: as categories, or rounded if numbers are asked for."""
    if wanted.kind == "numeric":
        return replace(choice, note=f"numbers beyond ±2⁵³, such as {long}, are rounded to 16 digits")
    cure = setting("data.kinds", "numeric", name)
    note = (
        f"whole numbers beyond ±2⁵³, such as {long}, are taken as codes, not numbers; if they are amounts, set {cure}"
    )
    return ColumnFormat("categorical", note=note)


def _infer_text(name: str, column: Column, wanted: ColumnSettings) -> ColumnFormat:
    text = columns.trimmed(column, wanted.na_values)
    numbers, unreadable = columns.numbers(column, wanted.na_values)
    numeric = ColumnFormat("numeric", numbers=(numbers, unreadable))
    if found := _dates_of_digits(name, text):
        return found
    if _are_codes(text):
        return ColumnFormat("categorical", note="digits with leading zeros are taken as codes, not numbers")
    if not unreadable.any() and wanted.decimal in (None, ".") and wanted.thousands in (None, "", ","):
        return replace(numeric, note=_doubtful(name, _values(text), wanted) or _maybe_codes(name, text))
    counts = _counts(text)
    words = {value.casefold() for value in counts}
    if sum(word.endswith(IMAGE_SUFFIXES) for word in words) >= _NEARLY_ALL * len(words):
        return ColumnFormat("image")  # before amounts, because 12.png is no amount of png
    if words <= TRUE | FALSE and not words.isdisjoint(("true", "false")):
        return ColumnFormat("boolean")
    amounts, reason = _amounts(name, text, counts, wanted)
    if amounts is not None:
        return amounts
    spellings = len(pc.unique(text.filter(pa.array(unreadable))))
    share = 1 - unreadable.sum() / (len(text) - text.null_count)
    if share >= _NEARLY_ALL or (share >= _HALF and spellings <= _FEW_SPELLINGS):
        return numeric
    if days := _dates(text, _NEARLY_ALL):
        return days
    most = _mostly_amounts(name, counts, wanted)
    if most is not None and most.kind == "numeric":
        return most
    return ColumnFormat("categorical", note=reason or (most and most.note) or _partly_dates(counts))


def _counts(text: Column) -> Counter[str]:
    """The rows of each text."""
    distinct, positions = columns.distinct(text)
    rows = np.bincount(positions, minlength=len(distinct)).tolist()
    return Counter({value: count for value, count in zip(distinct, rows, strict=True) if value is not None})


def _formatted(name: str, counts: Counter[str], wanted: ColumnSettings) -> tuple[ColumnFormat | None, str | None]:
    """Return the format of numbers that all texts fit, or None and what keeps numbers from having one format.

    Raises InputError if several formats fit and read the texts differently.
    """
    try:
        found = number_formats.infer(counts, wanted.decimal, wanted.thousands)
    except ValueError as error:
        return None, f"{error} are read as categories" if str(error) else None
    written = _decided(name, found)
    doubt = None
    if (written.decimal, written.thousands) == (PLAIN.decimal, PLAIN.thousands):
        doubt = _doubtful(name, map(number_formats.digits, counts), wanted)
    if written == PLAIN:
        return ColumnFormat("numeric", note=doubt), None
    note = number_formats.shown(counts, written)
    return ColumnFormat("numeric", number_format=written, note=f"{note}; {doubt}" if doubt else note), None


def _amounts(
    name: str, text: Column, counts: Counter[str], wanted: ColumnSettings
) -> tuple[ColumnFormat | None, str | None]:
    """Return the format of numbers that all texts fit, but for slips, or that of dates that look like amounts.

    None with the reason of `_formatted` if no format fits. Raises InputError as `_formatted` does.
    """
    formatted, reason = _formatted(name, counts, wanted)
    if formatted is None:
        return None, reason
    return _dates_not_amounts(name, text, formatted) or _without_slips(name, counts, formatted), None


def _without_slips(name: str, counts: Counter[str], amounts: ColumnFormat) -> ColumnFormat:
    """Return the format of plain numbers if few rows have a unit or a scale, such as one `5k`, which are then faults.

    A zero needs no unit, so it does not count.
    """
    written = amounts.number_format
    if written is None:
        return amounts
    bare, others = number_formats.without_unit(counts, written)
    rows = sum(count for text, count in counts.items() if parse_number(text, written) != 0)
    slips = sum(others.values())
    if not others or 2 * slips >= rows or (slips > _SLIPS * rows and len(others) > _FEW_SPELLINGS):
        return amounts
    example = next(iter(others))
    unit = f" {written.unit}" if written.unit else ""
    return ColumnFormat(
        "numeric",
        number_format=None if bare == PLAIN else bare,
        cure=f"to read {example!r:.40} as {parse_number(example, written):.15g}{unit}, "
        f"set {setting('data.kinds', 'numeric', name)}",
    )


def _decided(name: str, found: NumberFormat | Ambiguous) -> NumberFormat:
    if isinstance(found, NumberFormat):
        return found
    first, second = (each.decimal for each in found.formats[:2])
    raise InputError(
        f"{name!r}: {found.example!r:.40} may be {parse_number(found.example, found.formats[0]):g} or "
        f"{parse_number(found.example, found.formats[1]):g}; set {setting('data.decimal', first)} or "
        f"{setting('data.decimal', second)}"
    )


def _mostly_amounts(name: str, counts: Counter[str], wanted: ColumnSettings) -> ColumnFormat | None:
    """Return how to read texts that are amounts for the most part: as numbers with slips, or as categories if few."""
    most = number_formats.of_most(counts, wanted.decimal, wanted.thousands)
    if most is None:
        return None
    written = _decided(name, most.format)
    if most.distinct > _FEW_AMOUNTS and (most.share >= _NEARLY_ALL or len(most.others) <= _FEW_SPELLINGS):
        return ColumnFormat("numeric", number_format=written)
    listed = ", ".join(f"{text!r:.40}" for text in most.others[:_NAMED])
    more = f" and {len(most.others) - _NAMED:,} more" if len(most.others) > _NAMED else ""
    unit = f" in {written.unit}" if written.unit else ""
    return ColumnFormat("categorical", note=f"numbers{unit} are read as categories because of {listed}{more}")


def _most_numbers(name: str, counts: Counter[str], wanted: ColumnSettings) -> ColumnFormat:
    """Return the format of most texts, where numbers are wanted for; the others are reported as faults."""
    most = number_formats.of_most(counts, wanted.decimal, wanted.thousands)
    return ColumnFormat("numeric", number_format=None if most is None else _decided(name, most.format))


def _dates_of_digits(name: str, text: Column) -> ColumnFormat | None:
    """Return the format of dates that are written in digits alone, such as 20240131."""
    widths = pc.min_max(pc.utf8_length(text)).as_py()
    if widths["min"] != widths["max"] or widths["max"] not in date_formats.DIGITS:
        return None
    counts = _counts(text)
    written = date_formats.in_digits(list(counts)) if len(counts) >= _SURE else None
    if written is None:
        return None
    note = f"dates read as {written}{date_formats.day_or_month(written)}; if they are numbers, set "
    return ColumnFormat("datetime", written, note=note + setting("data.kinds", "numeric", name))


def _dates_not_amounts(name: str, text: Column, amounts: ColumnFormat) -> ColumnFormat | None:
    """Return the format of dates with one end, such as `5 May` or `01/2023`, which look like amounts with a unit."""
    if amounts.number_format is None or not date_formats.ends_in(amounts.number_format.unit):
        return None
    dates = _dates(text, 1)
    return dates and replace(
        dates, note=f"{dates.note}; if they are numbers, set {setting('data.kinds', 'numeric', name)}"
    )


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


def _values(text: Column) -> Iterator[str]:
    """The texts of a column, in parts, because the first ones are nearly always enough."""
    parts = (text.slice(start, _AT_ONCE).drop_null().to_pylist() for start in range(0, len(text), _AT_ONCE))
    return chain.from_iterable(parts)


def _doubtful(name: str, digits: Iterable[str], wanted: ColumnSettings) -> str | None:
    """Return a note if numbers with a decimal point may be whole numbers with points between thousands.

    Raises InputError if they hardly can be anything else and no setting says so.
    """
    if wanted.decimal is not None or wanted.thousands is not None:
        return None
    found = number_formats.may_be_thousands(digits)
    if found is None:
        return None
    value, surely = found
    whole = value.replace(".", "")
    thousands, decimal = setting("data.thousands", "."), setting("data.decimal", ".")
    if surely:
        raise InputError(
            f"{name!r}: {value} stands beside whole numbers below 1,000, so it may be {whole}; set {thousands} to read "
            f"it so, or {decimal} to read {value}"
        )
    return f"{value} is read with a decimal point; if it means {whole}, set {thousands}"


def _are_codes(text: Column) -> bool:
    """Whether digits of one width begin with zero somewhere, as in post codes."""
    widths = pc.min_max(pc.utf8_length(text)).as_py()
    same = widths["min"] == widths["max"] and (widths["max"] or 0) > 1
    return bool(same and pc.all(pc.ascii_is_decimal(text)).as_py() and pc.any(pc.starts_with(text, "0")).as_py())


def _dates(text: Column, least: float) -> ColumnFormat | None:
    """Return the date format that fits most values, if it fits at least one and a share of `least`."""
    found = date_formats.infer([value for value in columns.distinct(text)[0] if value is not None])
    if not found.share or (found.share < least and not _mostly_dates(text, found.written)):
        return None
    if found.written is None:
        return ColumnFormat("datetime")
    note = f"dates read as {found.written}{date_formats.day_or_month(found.written)}"
    if "%y" in found.written:
        first, last = date_formats.years(list(_counts(text)), found.written)
        note += f", years {first} to {last}"
    if found.other is not None:
        note += f", though {found.other} fits as well: choose one with data.date_formats"
    return ColumnFormat("datetime", found.written, note=note)


def _mostly_dates(text: Column, written: str | None) -> bool:
    """Whether half of the values are days or times, and the others have few spellings, such as `00/00/0000`."""
    if written is not None and "%d" not in written and "%H" not in written and "%I" not in written:
        return False  # names of months are words too
    values, unreadable = columns.moments(text, (), written)
    others = len(pc.unique(text.filter(pa.array(unreadable))))
    days = len(np.unique(values[values != MISSING_TIME]))
    return others <= _FEW_SPELLINGS and others < days and 2 * int(unreadable.sum()) <= len(text) - text.null_count
