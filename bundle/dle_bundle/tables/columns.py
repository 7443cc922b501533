"""Converts Arrow columns into groups, by the rules of `dle_bundle.values`, and finds every fault of every row.

Arrow casts numbers; text is parsed once for each distinct value. Faults are infinite numbers, text in a column of
numbers, invalid date-times, and missing values in required columns.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from dle_bundle import series
from dle_bundle.errors import Fault, nearest
from dle_bundle.groups import MISSING_TIME, Groups
from dle_bundle.schema import Field, Schema
from dle_bundle.tables import image_columns, series_columns
from dle_bundle.values import dates
from dle_bundle.values.categories import category
from dle_bundle.values.dates import epoch_microseconds, epoch_seconds
from dle_bundle.values.missing import missing_numbers
from dle_bundle.values.numbers import EXACT, PLAIN, NumberFormat, parse_boolean, parse_number, whole_number

Column = Any
_SHOWN = 20
_USUAL = {pa.string_view(): pa.large_string(), pa.binary_view(): pa.large_binary()}
_Floats = npt.NDArray[np.float64]
_Parse = Callable[[str], float]
_LOOKED_AT = 1_000
"""Distinct texts that show whether dates have fractions of a second."""


def usual(table: pa.Table) -> pa.Table:
    """The table in the types that all rules know: views and dictionaries of dates become plain columns."""
    for place, field in enumerate(table.schema):
        kind = _USUAL.get(field.type)
        if pa.types.is_dictionary(field.type) and _is_date(field.type.value_type):
            kind = field.type.value_type
        if kind is not None:
            table = table.set_column(place, field.with_type(kind), table.column(place).cast(kind))
    return table


def is_text(column: Column) -> bool:
    """Whether the column holds text, plain or dictionary-encoded."""
    kind = column.type.value_type if pa.types.is_dictionary(column.type) else column.type
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind))


def is_number(column: Column) -> bool:
    """Whether the column holds numbers, booleans or only nulls."""
    kind = column.type.value_type if pa.types.is_dictionary(column.type) else column.type
    known = (pa.types.is_integer, pa.types.is_floating, pa.types.is_decimal, pa.types.is_boolean, pa.types.is_null)
    return any(test(kind) for test in known)


def is_date(column: Column) -> bool:
    """Whether the column holds dates or time stamps."""
    return _is_date(column.type)


def _is_date(kind: pa.DataType) -> bool:
    return bool(pa.types.is_timestamp(kind) or pa.types.is_date(kind))


def distinct(column: Column) -> tuple[list[Any], npt.NDArray[np.int64]]:
    """The distinct values (None for null), and for each row (N,) the position of its value among them."""
    if pa.types.is_null(column.type):
        return [None], np.zeros(len(column), dtype=np.int64)
    encoded = column if pa.types.is_dictionary(column.type) else column.dictionary_encode()
    whole = encoded.unify_dictionaries().combine_chunks()
    if isinstance(whole, pa.ChunkedArray):
        whole = whole.chunk(0) if whole.num_chunks else pa.array([], whole.type)
    codes = whole.indices.fill_null(len(whole.dictionary)) if whole.indices.null_count else whole.indices
    positions = codes.to_numpy(zero_copy_only=False).astype(np.int64)
    return [*whole.dictionary.to_pylist(), None], positions


def trimmed(column: Column, na_values: tuple[str, ...]) -> Column:
    """A text column with white space trimmed, and the spellings of missing values as nulls."""
    plain = column.cast(pa.large_string())
    text = pc.utf8_trim_whitespace(plain)
    return pc.if_else(pc.is_in(text, pa.array(na_values, pa.large_string())), None, text)


def numbers(
    column: Column, na_values: tuple[str, ...], written: NumberFormat | None = None
) -> tuple[_Floats, npt.NDArray[np.bool_]]:
    """Parse a column into float64 (N,), NaN = missing, and a mask (N,) of the rows that are not numbers.

    `written` is the format of numbers in a column of text; None is the plain one.
    """
    if is_text(column):
        text = trimmed(column, na_values)
        values, unreadable = _plain_numbers(text) if written is None else _parsed(text, _in_format(written))
    elif not is_number(column):
        return np.full(len(column), np.nan), np.asarray(column.is_valid())
    else:
        kind = column.type.value_type if pa.types.is_dictionary(column.type) else column.type
        # text rounds decimals as JSON does
        between = pa.int8() if pa.types.is_boolean(kind) else pa.string() if pa.types.is_decimal(kind) else kind
        plain = column.cast(kind).cast(between)
        values = plain.cast(pa.float64(), safe=False).to_numpy().astype(np.float64)
        unreadable = np.zeros(len(column), dtype=bool)
    if sentinels := missing_numbers(na_values):
        values[np.isin(values, sentinels)] = np.nan
    return values, unreadable


def rounded(column: Column, na_values: tuple[str, ...], written: NumberFormat | None = None) -> str | None:
    """The first whole number that float64 may round, in a column that holds nothing else than whole numbers.

    These numbers are beyond ±2⁵³. `written` is the format of numbers in a column of text; None is the plain one.
    """
    if not is_text(column):
        kind = column.type.value_type if pa.types.is_dictionary(column.type) else column.type
        if not (pa.types.is_integer(kind) or (pa.types.is_decimal(kind) and kind.scale <= 0)):
            return None
        extremes = pc.min_max(column.cast(kind)).as_py()
        found = (value for value in extremes.values() if value is not None and abs(value) > EXACT)
        return next(map(str, found), None)
    text = trimmed(column, na_values)
    if written is None and not pc.all(pc.match_substring_regex(text, r"^[+-]?[0-9]+(\.0*)?$")).as_py():
        return None
    texts = text if written is not None else text.filter(pc.greater_equal(pc.utf8_length(text), len(str(EXACT))))
    numbers = {value: whole_number(value, written or PLAIN) for value in distinct(texts)[0] if value is not None}
    if None in numbers.values():
        return None
    return next((value for value, number in numbers.items() if number is not None and abs(number) > EXACT), None)


def rounded_floats(column: Column, below: float = np.inf) -> str | None:
    """The first value from ±2⁵³ on in a column of floats that are all whole: its last digits may be lost.

    None if a number is not within ±`below`.
    """
    kind = column.type.value_type if pa.types.is_dictionary(column.type) else column.type
    if not pa.types.is_floating(kind):
        return None
    values = column.cast(pa.float64()).to_numpy()
    values = values[np.isfinite(values)]
    large = values[np.abs(values) >= EXACT]
    if not len(large) or np.abs(large).max() > below or (values != np.floor(values)).any():
        return None
    return f"{large[0]:.0f}"


def unreadable_text(table: pa.Table, first: int) -> str | None:
    """The fault of the first column with text that is not UTF-8; its rows count from `first`.

    The text may also be in a dictionary alone, and in no row.
    """
    for name in table.column_names:
        column = table.column(name)
        try:
            if is_text(column):
                column.validate(full=True)
        except pa.ArrowInvalid:
            plain = column.cast(column.type.value_type) if pa.types.is_dictionary(column.type) else column
            for place, value in enumerate(plain.cast(pa.large_binary()).to_pylist(), start=first):
                try:
                    (value or b"").decode()
                except UnicodeDecodeError:
                    return f"row {place:,}: {name!r} is not UTF-8 text"
            return f"{name!r} is not UTF-8 text"
    return None


def booleans(column: Column, na_values: tuple[str, ...]) -> tuple[_Floats, npt.NDArray[np.bool_]]:
    """As `numbers`, for booleans: 1.0, 0.0, NaN = missing."""
    if is_text(column):
        return _parsed(trimmed(column, na_values), parse_boolean)
    values, unreadable = numbers(column, na_values)
    return values, unreadable | ~(np.isnan(values) | (values == 0) | (values == 1))


def categories(column: Column, na_values: tuple[str, ...]) -> npt.NDArray[np.object_]:
    """The categories as text (N,), `""` = missing."""
    values, positions = distinct(column)
    texts = ["" if value is None or value != value else category(_plain(value)) for value in values]
    missing = frozenset(na_values)
    table = np.array(["" if text in missing else text for text in texts], dtype=object)
    return table[positions]


def moments(
    column: Column, na_values: tuple[str, ...], date_format: str | None
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.bool_]]:
    """Parse a column into int64 UTC epoch seconds (N,), `MISSING_TIME` = missing, and a mask of the invalid rows."""
    if is_date(column):
        stamps = column.cast(pa.timestamp("us", tz=getattr(column.type, "tz", None)), safe=False).cast(pa.int64())
        micros = stamps.fill_null(0).to_numpy().astype(np.int64)
        missing = stamps.is_null().to_numpy()
        return np.where(missing, MISSING_TIME, micros // 1_000_000), np.zeros(len(column), dtype=bool)
    if pa.types.is_integer(column.type):  # 20240131
        column = column.cast(pa.string())
    if not is_text(column):
        return np.full(len(column), MISSING_TIME), np.asarray(column.is_valid())
    values, positions = distinct(trimmed(column, na_values))
    table = np.full(len(values), MISSING_TIME)
    unreadable = np.zeros(len(values), dtype=bool)
    for index, value in enumerate(values):
        if value is not None:
            try:
                table[index] = epoch_seconds(value, date_format)
            except (ValueError, OverflowError):
                unreadable[index] = True
    return table[positions], unreadable[positions]


def has_fractions(column: Column, na_values: tuple[str, ...], date_format: str | None) -> bool:
    """Whether dates have fractions of a second, which `moments` leaves out; of text, the first values are looked at."""
    if is_date(column):
        stamps = column.cast(pa.timestamp("us", tz=getattr(column.type, "tz", None)), safe=False).cast(pa.int64())
        return bool((stamps.drop_null().to_numpy() % 1_000_000 != 0).any())
    if not is_text(column):
        return False
    for value in filter(None, distinct(trimmed(column, na_values))[0][:_LOOKED_AT]):
        try:
            if epoch_microseconds(value, date_format) % 1_000_000:
                return True
        except (ValueError, OverflowError):
            continue
    return False


def to_groups(
    table: pa.Table,
    schema: Schema,
    first_row: int = 1,
    *,
    folder: Path | None = None,
    images: Any = None,
) -> tuple[Groups, list[Fault]]:
    """Convert a table into groups, and list the faults; the rows in faults count from `first_row`.

    Columns that are not in the schema are ignored. A missing column is one fault if it is required, or if the table has
    no column of the schema; otherwise all its values are missing. An invalid value is missing in the groups. Image
    paths are relative to `folder`; `images` is the `image` group if it has been read already.
    """
    reader = _ColumnReader(table, schema, first_row, folder)
    count = len(table)
    numeric = np.empty((count, len(schema.numeric)), dtype=np.float64)
    for index, field in enumerate(schema.numeric):
        numeric[:, index] = reader.number(field)
    categorical = np.empty((count, len(schema.categorical)), dtype=object)
    for index, field in enumerate(schema.categorical):
        categorical[:, index] = reader.category(field)
    datetime = np.empty((count, len(schema.datetime)), dtype=np.int64)
    for index, field in enumerate(schema.datetime):
        datetime[:, index] = reader.moment(field)
    image = images if images is not None else reader.images(schema.image)
    sequence, lengths = reader.series(schema.sequence)
    known, _ = reader.series(schema.known)
    text = None
    if schema.text:
        text = np.stack([reader.category(field) for field in schema.text], axis=1)
    order = {field.name: position for position, field in enumerate(schema.inputs)}
    faults = sorted(reader.faults, key=lambda fault: (fault.row or 0, order[fault.field or ""]))
    return Groups(numeric, categorical, datetime, image, sequence, lengths, text, known=known), faults


class _ColumnReader:
    """Reads one input at a time and collects the faults."""

    def __init__(self, table: pa.Table, schema: Schema, first_row: int, folder: Path | None) -> None:
        self._table = table
        self._folder = folder
        self._schema = schema
        self._missing_in = schema.missing
        self._first = first_row
        self._strange = not any(field.name in table.column_names for field in schema.inputs)
        self.faults: list[Fault] = []

    def number(self, field: Field) -> _Floats:
        column = self._column(field)
        if column is None:
            return np.full(len(self._table), np.nan)
        if field.kind == "boolean":
            values, unreadable = booleans(column, self._missing_in(field))
            expected = "true or false"
        else:
            values, unreadable = numbers(column, self._missing_in(field), field.number_format)
            expected = f"a number like {field.number_format.example}" if field.number_format else "a number"
        self._report(field, unreadable, "type", expected, column)
        infinite = np.isinf(values)
        self._report(field, infinite, "non_finite", "a finite number", column)
        values[infinite] = np.nan
        self._missing(field, np.isnan(values) & ~unreadable & ~infinite)
        return values

    def category(self, field: Field) -> npt.NDArray[np.object_]:
        column = self._column(field)
        if column is None:
            return np.full(len(self._table), "", dtype=object)
        if not (is_text(column) or is_number(column) or is_date(column)):
            self._report(field, np.asarray(column.is_valid()), "type", "a string or a number", column)
            return np.full(len(self._table), "", dtype=object)
        texts = categories(column, self._missing_in(field))
        self._missing(field, texts == "")
        return texts

    def moment(self, field: Field) -> npt.NDArray[np.int64]:
        column = self._column(field)
        if column is None:
            return np.full(len(self._table), MISSING_TIME)
        values, unreadable = moments(column, self._missing_in(field), field.date_format)
        self._report(field, unreadable, "type", dates.expected(field.date_format), column)
        self._missing(field, (values == MISSING_TIME) & ~unreadable)
        return values

    def images(self, fields: tuple[Field, ...]) -> Any:
        """The `image` group (N, images · channels, H, W); None without image inputs."""
        if not fields or (shape := fields[0].image) is None:
            return None
        count = len(self._table)
        empty = np.zeros((count, shape.channels, shape.height, shape.width), dtype=np.uint8)
        parts = []
        for field in fields:
            column = self._column(field)
            if column is None:
                parts.append(empty)
                continue
            if not (is_text(column) or image_columns.is_image(column)):
                expected = "the path of an image file, its content or an array of bytes"
                self._report(field, np.asarray(column.is_valid()), "type", expected, column)
                parts.append(empty)
                continue
            try:
                found, broken, missing = image_columns.images([column], shape, self._folder, self._missing_in(field))
            except ValueError as error:  # the column holds arrays, which all have the same shape
                broken, found, missing = (
                    [(row, 0, str(error)) for row in range(count)],
                    empty,
                    np.zeros((count, 1), bool),
                )
            self.faults += [
                Fault(self._first + row, field.name, "image", f"{image_columns.shown(column, row)}: {reason}")
                for row, _, reason in broken
            ]
            self._missing(field, missing[:, 0])
            parts.append(found)
        return parts[0] if len(parts) == 1 else np.concatenate(parts, axis=1)

    def series(self, fields: tuple[Field, ...]) -> tuple[Any, Any]:
        """The series of these fields (N, T, channels) and their lengths (N,); None without fields."""
        parts = []
        for field in fields:
            assert field.sequence is not None
            column = self._column(field)
            if column is None or not series_columns.is_series(column):
                if column is not None:
                    self._report(field, np.asarray(column.is_valid()), "type", "a list of numbers", column)
                parts.append(series.missing(len(self._table), field.sequence))
                continue
            found, lengths, reasons, missing = series_columns.read(
                column, field.sequence, missing_numbers(self._schema.na_values)
            )
            self.faults += [
                Fault(self._first + row, field.name, "sequence", reason) for row, reason in sorted(reasons.items())
            ]
            self._missing(field, missing)
            if field.sequence.complete:
                blank = np.isnan(found).any(axis=(1, 2)) & ~missing
                blank[list(reasons)] = False
                for row in np.flatnonzero(blank).tolist():
                    reason = series.missing_fault(found[row], field.sequence) or ""
                    self.faults.append(Fault(self._first + row, field.name, "missing", reason))
            parts.append((found, lengths))
        return series.join(parts) if parts else (None, None)

    def _column(self, field: Field) -> Column | None:
        if field.name in self._table.column_names:
            return self._table.column(field.name)
        if field.required:
            # finding a similar name takes long, and no more faults are shown
            known = [field.name for field in self._schema.inputs]
            others = (
                [name for name in self._table.column_names if name not in known] if len(self.faults) < _SHOWN else []
            )
            similar = nearest(field.name, others)
            self.faults.append(Fault(None, field.name, "missing", f"a required column is missing{similar}"))
        elif self._strange:
            self.faults.append(Fault(None, field.name, "missing", "missing, like all other columns of the model"))
        return None

    def _report(self, field: Field, rows: npt.NDArray[np.bool_], code: str, expected: str, column: Column) -> None:
        for row in np.flatnonzero(rows).tolist():
            message = f"expected {expected}, got {column[row].as_py()!r:.60}"
            self.faults.append(Fault(self._first + row, field.name, code, message))

    def _missing(self, field: Field, rows: npt.NDArray[np.bool_]) -> None:
        if field.required:
            self.faults += [
                Fault(self._first + row, field.name, "missing", "a value is required")
                for row in np.flatnonzero(rows).tolist()
            ]


def _plain_numbers(text: Column) -> tuple[_Floats, npt.NDArray[np.bool_]]:
    try:  # faster, with the same numbers, since Arrow and Python both round correctly
        return _unless_nan(text.cast(pa.float64()))
    except pa.ArrowInvalid:
        return _parsed(text, parse_number)


def _in_format(written: NumberFormat) -> _Parse:
    return lambda text: parse_number(text, written)


def _parsed(text: Column, parse: _Parse) -> tuple[_Floats, npt.NDArray[np.bool_]]:
    values, positions = distinct(text)
    table = np.full(len(values), np.nan)
    unreadable = np.zeros(len(values), dtype=bool)
    for index, value in enumerate(values):
        if value is not None:
            try:
                table[index] = parse(value)
            except ValueError:
                unreadable[index] = True
    return table[positions], unreadable[positions]


def _unless_nan(floats: Column) -> tuple[_Floats, npt.NDArray[np.bool_]]:
    # NaN in a spelling that does not mean missing is text, not a number
    values = floats.to_numpy().astype(np.float64)
    return values, np.isnan(values) & np.asarray(floats.is_valid())


def _plain(value: Any) -> str | int | float | bool:
    return value if isinstance(value, str | int | float | bool) else str(value)
