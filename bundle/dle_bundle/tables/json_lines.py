"""Reads JSON: lines with one object each (.jsonl, .ndjson), or an array of objects (.json). Values keep their types.

`json_arrays` makes lines of an array, and Arrow reads them. What it refuses is looked up again with Python's parser, so
that errors name the line, the column and what was found. Whole numbers that Arrow would round to floating-point numbers
become text, as in a .csv file.
"""

import json
import math
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

import pyarrow as pa
import pyarrow.json

from dle_bundle.errors import InputError
from dle_bundle.schema import TextFormat
from dle_bundle.tables import columns, json_arrays, text_encoding

JSON_SUFFIXES = (".json", ".jsonl", ".ndjson")
_LISTED = 10
_NULL = re.compile(r"(?:^|\})[ \t\r]*null", re.MULTILINE)
_HALF = re.compile("[\ud800-\udfff]")
"""Half of a surrogate pair, which JSON can contain but UTF-8 cannot."""
_SHOWN = 40
_DEEP = 500
"""Lists and objects inside of each other that Arrow surely reads."""
_WORDS = {bool: "a truth value", int: "a number", float: "a number", str: "text", list: "a list", dict: "an object"}


@dataclass(frozen=True, slots=True)
class _Lines:
    """The JSON lines of a file. `unit`: what messages call each, `line`, or `object` of an array."""

    path: Path
    kind: str
    text: str
    unit: str

    def error(self, message: str, details: Iterable[str] = ()) -> InputError:
        """The error with this message."""
        return InputError(f"{self.path}: not readable as {self.kind}: {message}", details)

    def place(self, number: int) -> str:
        """How messages call a line."""
        return f"{self.unit} {number:,}"


def detect(path: Path, kind: str, written: TextFormat) -> tuple[str, ...]:
    """Return notes on the encoding of the file."""
    return text_encoding.find(path, kind, path.read_bytes(), written.encoding)[1]


def read(path: Path, kind: str, written: TextFormat, *, proposing: bool) -> pa.Table:
    """Read the whole file of `kind`, one of `JSON_SUFFIXES`.

    Raises InputError, with the lines, if the file is in another encoding, if a line is no JSON object, or if the values
    of a column have different types.
    """
    content = path.read_bytes()
    encoding, _ = text_encoding.find(path, kind, content, written.encoding)
    try:
        text = content.decode(encoding)
    except UnicodeDecodeError as error:
        raise text_encoding.refusal(path, kind, encoding, proposing) from error
    if not text.strip():
        raise InputError(f"{path}: empty file")
    lines = _Lines(path, kind, *(json_arrays.lines(path, text) if kind == ".json" else (text, "line")))
    if not lines.text:
        raise InputError(f"{path}: no rows")
    if _NULL.search(lines.text) or _may_be_deep(lines.text):  # Arrow may end the process
        for _ in _objects(lines, json.JSONDecoder()):
            pass
    try:
        table = pyarrow.json.read_json(pa.BufferReader(lines.text.encode()))
    except pa.ArrowInvalid as error:
        _refuse(lines, error)
    for place, name in enumerate(table.column_names):
        if columns.rounded_floats(table.column(name)) is not None:
            # the digits as they are written
            objects = _objects(lines, json.JSONDecoder(parse_int=str, parse_float=str))
            digits = pa.chunked_array([[row.get(name) for _, row in objects]], pa.large_string())
            if columns.rounded(digits, ()) is not None:
                table = table.set_column(place, name, digits)
    return table


def _may_be_deep(text: str) -> bool:
    """Whether lists or objects may be nested deeply: a line has many of them."""
    return any(line.count("[") + line.count("{") > _DEEP for line in text.split("\n"))


def _objects(lines: _Lines, decoder: json.JSONDecoder) -> Iterator[tuple[int, dict[str, Any]]]:
    """The object of each line that is not empty, and the number of this line."""
    for number, line in enumerate(lines.text.split("\n"), start=1):
        if not (stripped := line.strip()):
            continue
        try:
            value = decoder.decode(stripped)
        except (ValueError, RecursionError) as error:
            each = " in each line" if lines.unit == "line" else ""
            raise lines.error(
                f"{lines.place(number)}: expected one JSON object{each}: {json_arrays.fault(error)}"
            ) from None
        if not isinstance(value, dict):
            found = _WORDS.get(type(value), "null")
            raise lines.error(f"{lines.place(number)}: expected a JSON object {{…}}, found {found}")
        yield number, value


def _refuse(lines: _Lines, error: pa.ArrowInvalid) -> NoReturn:
    """Raise the error for a file that Arrow does not read: with the lines, where they are found."""
    first: dict[str, tuple[str, int]] = {}
    faults: dict[str, str] = {}
    odd = ""
    for number, row in _objects(lines, json.JSONDecoder(object_pairs_hook=_without_repetition)):
        for place, value in _values("", row):
            found = _WORDS[type(value)]
            before, line = first.setdefault(place, (found, number))
            if found != before and place not in faults:
                faults[place] = f"{lines.place(number)}: {place!r} is {found}, and {before} in {lines.place(line)}"
            if (isinstance(value, float) and math.isinf(value)) or (isinstance(value, str) and _HALF.search(value)):
                shown = ascii(value)[:_SHOWN]
                odd = odd or f"{lines.place(number)}: {place!r} is {found} that no column can hold: {shown}"
    if odd and not faults:
        raise lines.error(odd) from error
    if not faults:
        raise lines.error(str(error).splitlines()[0]) from error
    details = list(faults.values())
    if len(details) == 1:
        raise lines.error(f"{details[0]}; give the column one type") from error
    more = [f"and {len(details) - _LISTED:,} more"] if len(details) > _LISTED else []
    what = "columns hold values of different types; give each one type"
    raise lines.error(what, [*details[:_LISTED], *more]) from error


def _values(place: str, value: Any) -> Iterator[tuple[str, Any]]:
    """The values in `value` that are not null, also those inside of lists and objects, each with its place."""
    if value is None:
        return
    if place:
        yield place, value
    if isinstance(value, dict):
        for name, each in value.items():
            yield from _values(f"{place}.{name}" if place else name, each)
    elif isinstance(value, list):
        for each in value:
            yield from _values(f"{place}[]", each)


def _without_repetition(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, value in pairs:
        if name in found:
            raise ValueError(f"the name {name!r} occurs twice")
        found[name] = value
    return found
