"""Decodes the JSON rows of a request into groups.

A msgspec decoder built from the schema decodes a valid body directly into typed rows. Only if that fails, or a
required value is missing, is the body read again by the slower `FaultFinder`, which finds all faults. The headers of
all images are read before the first image is decoded.
"""

import math
import re
import threading
from collections.abc import Generator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, fields
from dataclasses import field as by_default
from operator import attrgetter
from typing import Any, Literal, NotRequired, Protocol, TypedDict, TypeVar

import msgspec
import numpy as np
import numpy.typing as npt

from dle_bundle import series
from dle_bundle.errors import Fault, InputError, RowFaults, counted
from dle_bundle.groups import MISSING_TIME, Groups
from dle_bundle.images import pixels as images
from dle_bundle.images.pixels import BadImage
from dle_bundle.rows.faults import FaultFinder, first, unreadable
from dle_bundle.schema import Field, Schema
from dle_bundle.values.base64_text import decode_base64
from dle_bundle.values.categories import category
from dle_bundle.values.dates import epoch_seconds
from dle_bundle.values.missing import missing_numbers
from dle_bundle.values.numbers import PLAIN, parse_number

_UNFIT = re.compile(r'["\\\x00-\x1f]')
"""Characters that the field names of a msgspec struct cannot contain."""

_JSON_TYPES: dict[str, Any] = {"numeric": float, "boolean": bool, "datetime": str, "sequence": list[Any]}


def _json_type(field: Field) -> Any:
    plain = (str | int | float) if field.json_type == "integer" else _JSON_TYPES.get(field.kind, str)
    if field.number_format is not None:
        plain = float | str
    return plain if field.required else plain | None


MOST_BYTES = 256 << 20
"""Maximum size of the images or series of a request as arrays, which can be much larger than the body."""


UNREADABLE = (msgspec.MsgspecError, ValueError, OverflowError, RecursionError)
"""What `RowDecoder.read` and `RowDecoder.checked` raise for an invalid body."""
_TURN_PIXELS = 1 << 20
_OPENING = 10_000
"""Number of pixels that are decoded in a turn, and that take as long as opening an image file."""
_LARGE_PIXELS = 4 << 20
_one_large = threading.Lock()
"""Held while a large image is decoded: a JPEG 2000 file takes 20 bytes for each pixel meanwhile."""

_Found = TypeVar("_Found")
Turns = Generator[None, None, _Found]
"""Work in turns: it yields before each longer piece of work, so that others can be served, and returns its result."""


class _Counted(msgspec.Struct):
    rows: list[msgspec.Raw] = []


class TooManyRows(InputError):
    """A request has more or larger rows than the decoder accepts."""


class TooManyPixels(TooManyRows):
    """The images of a request have more pixels than the decoder accepts."""


@dataclass(frozen=True, slots=True)
class DecodedRows:
    """Valid rows, as one list per group, so that the rows of many requests can be joined before arrays are made.

    An image is an array (channels, H, W) and a series an array (T, channels); None means missing.
    """

    numeric: list[Sequence[float | None]]
    categorical: list[Sequence[str]] = by_default(default_factory=list)
    datetime: list[list[int]] = by_default(default_factory=list)
    image: list[list[npt.NDArray[np.uint8] | None]] = by_default(default_factory=list)
    sequence: list[list[npt.NDArray[np.float64] | None]] = by_default(default_factory=list)
    text: list[Sequence[str]] = by_default(default_factory=list)
    known: list[list[npt.NDArray[np.float64] | None]] = by_default(default_factory=list)

    def __len__(self) -> int:
        return len(self.numeric)

    @property
    def steps(self) -> int:
        """The number of steps of the longest series, to which all are padded; at least 1."""
        return max((len(part) for row in self.sequence for part in row if part is not None), default=1)

    def take(self, rows: slice) -> "DecodedRows":
        """The rows at these positions."""
        return DecodedRows(*(getattr(self, each.name)[rows] for each in fields(DecodedRows)))


class RowDecoder:
    """Decodes `{"rows": [{…}, …]}` bodies of one schema. Safe to share between threads.

    Example:
        >>> from dle_bundle.schema import Field, Outputs
        >>> age = Field(name="age", kind="numeric", required=True)
        >>> schema = Schema(inputs=(age,), outputs=Outputs(target="income", task="regression"))
        >>> RowDecoder(schema).decode(b'{"rows": [{"age": 39}, {"age": 41}]}').numeric.tolist()
        [[39.0], [41.0]]
    """

    def __init__(self, schema: Schema, most_rows: int | None = None, most_pixels: int | None = None) -> None:
        """`most_rows`, `most_pixels`: how many rows a body, and pixels the images of a body, may have together."""
        self._schema = schema
        self._most_rows = most_rows
        self._most_pixels = most_pixels
        self._finder = FaultFinder(schema)
        self._categories = [_TextLookup(field, frozenset(schema.missing(field))) for field in schema.categorical]
        reader = _DictReader if any(_UNFIT.search(field.name) for field in schema.inputs) else _StructReader
        self._reader: _BodyReader = reader(schema)
        self._numeric = self._reader.getter(schema.numeric)
        self._categorical = self._reader.getter(schema.categorical)
        self._datetime = self._reader.getter(schema.datetime)
        self._texts = [_TextLookup(field, frozenset(schema.missing(field))) for field in schema.text]
        self._text = self._reader.getter(schema.text)
        self._image = self._reader.getter(schema.image)
        self._sequence = self._reader.getter(schema.sequence)
        self._known = self._reader.getter(schema.known)
        self._numbers = [_NumberReader(field, schema.missing(field)) for field in schema.numeric]
        self._reads_numbers = any(number.is_needed for number in self._numbers)
        self._shapes = [field.image for field in schema.image if field.image is not None]
        self._image_bytes = sum(shape.channels * shape.height * shape.width for shape in self._shapes)
        ahead = [field.sequence for field in schema.known if field.sequence is not None]
        self._known_cells = sum(len(shape.channels) * shape.max_steps for shape in ahead)
        self._channels = sum(len(field.sequence.channels) for field in schema.sequence if field.sequence is not None)

    def decode(self, body: bytes) -> Groups:
        """Decode `body` into groups; raises as `rows` does."""
        return self.groups([self.rows(body)])

    def rows(self, body: bytes) -> DecodedRows:
        """Decode `body` into valid rows; raises TooManyRows, or RowFaults with every fault of every row.

        If there are only images that cannot be read, all are reported. Beside other faults, those are reported whose
        header or end is wrong.
        """
        return _at_once(self.rows_in_turns(body))

    def rows_in_turns(self, body: bytes) -> Turns[DecodedRows]:
        """As `rows`, in turns: each looks for faults, or decodes an image or several small ones."""
        try:
            rows, files = self._checked(self.read(body))
        except TooManyRows:
            raise
        except UNREADABLE as error:
            otherwise = str(error)
        else:
            yield from self._decode_images(rows, files)
            return rows
        yield
        self._check_count(_counted_rows(body))
        raise self._finder.find(body, otherwise)

    def read(self, body: bytes) -> list[Any]:
        """Decode `body` into rows of the right JSON types, for `checked`; raises an error of `UNREADABLE`."""
        return self._reader.read(body)

    def image_row(self, content: bytes) -> DecodedRows:
        """Decode an image file into a row, if an image is the schema's only input; raises RowFaults, TooManyPixels."""
        return _at_once(self.image_row_in_turns(content))

    def image_row_in_turns(self, content: bytes) -> Turns[DecodedRows]:
        """As `image_row`, in turns."""
        rows = DecodedRows([()], image=[[None]])
        yield from self._decode_images(rows, [[content]])
        return rows

    def groups(self, parts: Sequence[DecodedRows]) -> Groups:
        """Join the rows of all parts, in order, into groups."""
        rows = parts[0] if len(parts) == 1 else _joined(parts)
        schema, count = self._schema, len(rows)
        numbers = np.array(rows.numeric, dtype=np.float64).reshape(count, len(schema.numeric))
        categorical = np.array(rows.categorical, dtype=object).reshape(count, len(schema.categorical))
        datetime = np.array(rows.datetime, dtype=np.int64).reshape(count, len(schema.datetime))
        sequence, lengths = _series(rows.sequence, schema.sequence)
        known, _ = _series(rows.known, schema.known)
        text = np.array(rows.text, dtype=object).reshape(count, len(schema.text)) if schema.text else None
        return Groups(numbers, categorical, datetime, self._images(rows), sequence, lengths, text, known=known)

    def _images(self, rows: DecodedRows) -> Any:
        fields = self._schema.image
        if not fields or (shape := fields[0].image) is None:
            return None
        whole = np.zeros((len(rows), len(fields), shape.channels, shape.height, shape.width), dtype=np.uint8)
        for row, found in enumerate(rows.image):
            for column, pixels in enumerate(found):
                if pixels is not None:
                    whole[row, column] = pixels
        return whole.reshape(len(rows), len(fields) * shape.channels, shape.height, shape.width)

    def checked(self, rows: list[Any]) -> DecodedRows:
        """Convert and check the values of rows that `read` returned, also those of several bodies together.

        The schema has no images. Raises TooManyRows, or an error of `UNREADABLE` for an invalid value; `rows` describes
        the faults of a body.
        """
        return self._checked(rows)[0]

    def _checked(self, rows: list[Any]) -> tuple[DecodedRows, list[list[bytes | None]]]:
        """Convert and check every value; also return the image files, which are not decoded yet.

        Raises ValueError for an invalid value, which `FaultFinder` then describes.
        """
        self._check_count(rows)
        self._check_bytes(len(rows), self._image_bytes)
        numeric = [self._numeric(row) for row in rows]
        if self._reads_numbers:
            numeric = [[read(value) for read, value in zip(self._numbers, row, strict=True)] for row in numeric]
        categories, fields, schema = self._categories, self._schema.datetime, self._schema
        checked = DecodedRows(
            numeric,
            _looked_up(categories, self._categorical, rows),
            [
                [self._moment(text, field) for text, field in zip(self._datetime(row), fields, strict=True)]
                for row in rows
            ]
            if fields
            else [],
            [[None] * len(schema.image) for _ in rows] if schema.image else [],
            self._all_steps(rows, self._sequence, schema.sequence),
            _looked_up(self._texts, self._text, rows),
            self._all_steps(rows, self._known, schema.known),
        )
        self._check_bytes(len(rows), 4 * (self._channels * checked.steps + self._known_cells))
        return checked, self._image_files(rows) if schema.image else []

    def _check_count(self, rows: list[Any]) -> None:
        if self._most_rows is not None and len(rows) > self._most_rows:
            raise TooManyRows(f"expected at most {counted(self._most_rows, 'row')} in a request, found {len(rows):,}")

    def _check_bytes(self, rows: int, each: int) -> None:
        if rows * each > MOST_BYTES:
            raise TooManyRows(
                f"expected at most {counted(MOST_BYTES // each, 'row')} in a request whose largest row takes "
                f"{each:,} bytes in memory, found {rows:,}"
            )

    def _image_files(self, rows: list[Any]) -> list[list[bytes | None]]:
        fields = self._schema.image
        return [
            [self._image_file(text, field) for text, field in zip(self._image(row), fields, strict=True)]
            for row in rows
        ]

    def _image_file(self, text: str | None, field: Field) -> bytes | None:
        if text is None or text.strip() in ("", *self._schema.missing(field)):
            if field.required:
                raise ValueError("missing")
            return None
        return decode_base64(text)

    def _decode_images(self, rows: DecodedRows, files: list[list[bytes | None]]) -> Turns[None]:
        """Decode the files into `rows`, after reading all their headers; raises TooManyPixels, and then RowFaults."""
        faults: dict[tuple[int, int], Fault] = {}
        pixels: dict[tuple[int, int], int] = {}
        spent = 0
        present = [
            ((row, column), content)
            for row, contents in enumerate(files)
            for column, content in enumerate(contents)
            if content is not None
        ]
        for place, content in present:
            try:
                pixels[place] = images.declared(content)
            except BadImage as error:
                faults[place] = self._image_fault(place, error)
            spent += _OPENING
            if spent > _TURN_PIXELS:
                yield
                spent = 0
        self._check_pixels(sum(pixels.values()))
        for place, content in present:
            if place not in pixels:
                continue
            row, column = place
            try:
                with _one_large if pixels[place] > _LARGE_PIXELS else nullcontext():
                    rows.image[row][column] = images.decode(content, self._shapes[column])
            except BadImage as error:
                faults[place] = self._image_fault(place, error)
            spent += _OPENING + pixels[place]
            if spent > _TURN_PIXELS:
                yield
                spent = 0
        if faults:
            listed, more = first(faults[place] for place in sorted(faults))
            raise RowFaults(listed, more=more)

    def _check_pixels(self, found: int) -> None:
        if self._most_pixels is not None and found > self._most_pixels:
            raise TooManyPixels(
                f"expected at most {self._most_pixels:,} pixels in all images of a request, found {found:,}"
            )

    def _image_fault(self, place: tuple[int, int], error: BadImage) -> Fault:
        row, column = place
        return Fault(row, self._schema.image[column].name, "image", unreadable(error))

    def _all_steps(
        self, rows: list[Any], getter: Any, fields: tuple[Field, ...]
    ) -> list[list[npt.NDArray[np.float64] | None]]:
        if not fields:
            return []
        return [[self._steps(value, field) for value, field in zip(getter(row), fields, strict=True)] for row in rows]

    def _steps(self, value: list[Any] | None, field: Field) -> npt.NDArray[np.float64] | None:
        if value is None:
            if field.required:
                raise ValueError("missing")
            return None
        assert field.sequence is not None
        return series.parse(value, field.sequence, missing_numbers(self._schema.na_values))

    def _moment(self, value: str | int | float | None, field: Field) -> int:
        trimmed = None if value is None else category(value)
        if trimmed is None or trimmed in self._schema.missing(field):
            if field.required:
                raise ValueError("missing")
            return MISSING_TIME
        return epoch_seconds(trimmed, field.date_format)


class _NumberReader:
    """Reads the numbers of one column that are written as text, or that mean missing.

    Raises ValueError when a required value is missing, or a text is not in the column's format.
    """

    def __init__(self, field: Field, na_values: tuple[str, ...]) -> None:
        self._written = field.number_format
        self._na_values = frozenset(na_values)
        self._sentinels = frozenset(missing_numbers(na_values)) if field.kind == "numeric" else frozenset()
        self._required = field.required
        self.is_needed = self._written is not None or bool(self._sentinels)

    def __call__(self, value: float | str | None) -> float | None:
        if isinstance(value, str):
            text = value.strip()
            value = None if text in self._na_values or not text else parse_number(text, self._written or PLAIN)
            if value is not None and math.isinf(value):
                raise ValueError("expected a finite number")
        if value is not None and value not in self._sentinels:
            return value
        if self._required:
            raise ValueError("missing")
        return None


class _TextLookup(dict[str | int | float | None, str]):
    """Maps the values of one column to the text that the graph takes, `""` = missing.

    Known categories take one look-up. Raises ValueError when a required value is missing, and for numbers that are not
    whole.
    """

    def __init__(self, field: Field, na_values: frozenset[str]) -> None:
        super().__init__((value, value) for value in field.categories or () if value not in na_values)
        if not field.required:
            self[None] = ""
        self._na_values = na_values
        self._required = field.required

    def __missing__(self, value: str | int | float | None) -> str:
        # not stored, since clients can send any number of different texts
        if isinstance(value, float) and not value.is_integer():
            raise ValueError("expected a whole number")
        text = "" if value is None else category(value)
        if text in self._na_values or not text:
            if self._required:
                raise ValueError("missing")
            return ""
        return text


def _looked_up(columns: Sequence[_TextLookup], getter: Any, rows: list[Any]) -> list[Sequence[str]]:
    """The texts of these columns in each row, looked up a column at a time; empty without columns."""
    by_column = zip(*map(getter, rows), strict=True)
    found = [map(each.__getitem__, values) for each, values in zip(columns, by_column, strict=False)]
    return list(zip(*found, strict=True))


def _series(rows: list[list[npt.NDArray[np.float64] | None]], fields: tuple[Field, ...]) -> tuple[Any, Any]:
    """The series of these fields (N, T, channels) and their lengths (N,); None without fields."""
    stacked = [
        series.stack([found[column] for found in rows], field.sequence)
        for column, field in enumerate(fields)
        if field.sequence is not None
    ]
    return series.join(stacked) if stacked else (None, None)


def _joined(parts: Sequence[DecodedRows]) -> DecodedRows:
    return DecodedRows(*([row for part in parts for row in getattr(part, each.name)] for each in fields(DecodedRows)))


def _at_once(turns: Turns[_Found]) -> _Found:
    while True:
        try:
            next(turns)
        except StopIteration as done:
            found: _Found = done.value
            return found


class _BodyReader(Protocol):
    """Decodes bodies into rows of typed values; raises msgspec's ValidationError or DecodeError."""

    def read(self, body: bytes) -> list[Any]: ...

    def getter(self, fields: Sequence[Field]) -> Any:
        """A function that returns the values of these fields from a row, as a tuple."""


class _StructReader:
    """Decodes rows as structs, the fast way."""

    def __init__(self, schema: Schema) -> None:
        # attributes are named f0, f1, … and renamed, since a column's name need not be an identifier
        self._slots = {field.name: f"f{index}" for index, field in enumerate(schema.inputs)}
        row = msgspec.defstruct(
            "Row",
            [
                (self._slots[field.name], _json_type(field), *(() if field.required else (None,)))
                for field in schema.inputs
            ],
            rename={slot: name for name, slot in self._slots.items()},
            forbid_unknown_fields=True,
            kw_only=True,
            gc=False,
        )
        self._decoder = _body_decoder(row)

    def read(self, body: bytes) -> list[Any]:
        rows: list[Any] = self._decoder.decode(body).rows
        return rows

    def getter(self, fields: Sequence[Field]) -> Any:
        slots = [self._slots[field.name] for field in fields]
        if len(slots) > 1:
            return attrgetter(*slots)
        return (lambda row: (getattr(row, slots[0]),)) if slots else (lambda row: ())


class _DictReader:
    """Decodes rows as dicts, for names that a struct cannot have, in two passes: a TypedDict allows unknown keys."""

    def __init__(self, schema: Schema) -> None:
        types = {field.name: _json_type(field) for field in schema.inputs}
        row = TypedDict(  # type: ignore[misc]
            "Row",
            {
                field.name: types[field.name] if field.required else NotRequired[types[field.name]]
                for field in schema.inputs
            },
        )
        self._decoder = _body_decoder(row)
        self._names = _body_decoder(dict[Literal[tuple(types)], msgspec.Raw])  # type: ignore[misc]

    def read(self, body: bytes) -> list[Any]:
        self._names.decode(body)
        rows: list[Any] = self._decoder.decode(body).rows
        return rows

    def getter(self, fields: Sequence[Field]) -> Any:
        names = [field.name for field in fields]
        return lambda row: tuple([row.get(name) for name in names])


def _body_decoder(row: Any) -> msgspec.json.Decoder[Any]:
    body = msgspec.defstruct("Body", [("rows", list[row])], forbid_unknown_fields=True, gc=False)
    return msgspec.json.Decoder(body)


def _counted_rows(body: bytes) -> list[msgspec.Raw]:
    """The rows of a body, whatever they hold; empty if it is no body of rows."""
    try:
        return msgspec.json.decode(body, type=_Counted).rows
    except (msgspec.MsgspecError, ValueError, RecursionError):
        return []
