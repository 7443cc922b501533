"""Reads JSON lines (.jsonl): one object in each line, whose values keep their types.

Arrow reads the file. What it refuses is looked up again with Python's parser, so that errors name the line, the column
and what was found. Whole numbers that Arrow would round to floating-point numbers become text, as in a .csv file.
"""

import json
import math
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NoReturn

import pyarrow as pa
import pyarrow.json

from dle_bundle.errors import InputError
from dle_bundle.schema import TextFormat
from dle_bundle.tables import columns, text_encoding

_KIND = ".jsonl"
_LISTED = 10
_NULL = re.compile(r"(?:^|\})[ \t\r]*null", re.MULTILINE)
_HALF = re.compile("[\ud800-\udfff]")
"""Half of a surrogate pair, which JSON can contain but UTF-8 cannot."""
_SHOWN = 40
_WORDS = {bool: "a truth value", int: "a number", float: "a number", str: "text", list: "a list", dict: "an object"}


def detect(path: Path, written: TextFormat) -> tuple[str, ...]:
    """Return notes on the encoding of the file."""
    return text_encoding.find(path, _KIND, path.read_bytes(), written.encoding)[1]


def read(path: Path, written: TextFormat, *, proposing: bool) -> pa.Table:
    """Read the whole file.

    Raises InputError, with the lines, if the file is in another encoding, if a line is no JSON object, or if the values
    of a column have different types.
    """
    content = path.read_bytes()
    if not content.strip():
        raise InputError(f"{path}: empty file")
    encoding, _ = text_encoding.find(path, _KIND, content, written.encoding)
    try:
        text = content.decode(encoding)
    except UnicodeDecodeError as error:
        raise text_encoding.refusal(path, _KIND, encoding, proposing) from error
    if _NULL.search(text):  # Arrow ends the process
        list(_objects(path, text, json.JSONDecoder()))
    try:
        table = pyarrow.json.read_json(pa.BufferReader(text.encode()))
    except pa.ArrowInvalid as error:
        _refuse(path, text, error)
    for place, name in enumerate(table.column_names):
        if columns.rounded_floats(table.column(name)) is not None:
            # the digits as they are written
            objects = _objects(path, text, json.JSONDecoder(parse_int=str, parse_float=str))
            digits = pa.chunked_array([[row.get(name) for _, row in objects]], pa.large_string())
            if columns.rounded(digits, ()) is not None:
                table = table.set_column(place, name, digits)
    return table


def _objects(path: Path, text: str, decoder: json.JSONDecoder) -> Iterator[tuple[int, dict[str, Any]]]:
    """The object of each line that is not empty, and the number of this line."""
    for number, line in enumerate(text.split("\n"), start=1):
        if not (stripped := line.strip()):
            continue
        try:
            value = decoder.decode(stripped)
        except (ValueError, RecursionError) as error:
            what = error.msg if isinstance(error, json.JSONDecodeError) else str(error)
            raise _error(path, f"line {number:,}: expected one JSON object in each line: {what}") from None
        if not isinstance(value, dict):
            found = _WORDS.get(type(value), "null")
            raise _error(path, f"line {number:,}: expected a JSON object {{…}}, found {found}")
        yield number, value


def _refuse(path: Path, text: str, error: pa.ArrowInvalid) -> NoReturn:
    """Raise the error for a file that Arrow does not read: with the lines, where they are found."""
    first: dict[str, tuple[str, int]] = {}
    faults: dict[str, str] = {}
    odd = ""
    for number, row in _objects(path, text, json.JSONDecoder(object_pairs_hook=_without_repetition)):
        for place, value in _values("", row):
            found = _WORDS[type(value)]
            before, line = first.setdefault(place, (found, number))
            if found != before and place not in faults:
                faults[place] = f"line {number:,}: {place!r} is {found}, and {before} in line {line:,}"
            if (isinstance(value, float) and math.isinf(value)) or (isinstance(value, str) and _HALF.search(value)):
                odd = odd or f"line {number:,}: {place!r} is {found} that no column can hold: {ascii(value)[:_SHOWN]}"
    if odd and not faults:
        raise _error(path, odd) from error
    if not faults:
        raise _error(path, str(error).splitlines()[0]) from error
    lines = list(faults.values())
    if len(lines) == 1:
        raise _error(path, f"{lines[0]}; give the column one type") from error
    more = [f"and {len(lines) - _LISTED:,} more"] if len(lines) > _LISTED else []
    raise InputError(
        f"{path}: not readable as {_KIND}: columns hold values of different types; give each one type",
        [*lines[:_LISTED], *more],
    ) from error


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


def _error(path: Path, message: str) -> InputError:
    return InputError(f"{path}: not readable as {_KIND}: {message}")
