"""Finds every fault of every row in a body that the decoder rejected.

It parses the JSON again with Python's parser and reports for each value what the schema expects and what was found. Of
images it reads the headers only.
"""

import json
import math
from collections.abc import Callable, Iterator
from itertools import islice
from typing import Any

from dle_bundle import series
from dle_bundle.errors import Fault, RowFaults, nearest
from dle_bundle.images import pixels
from dle_bundle.images.pixels import BadImage
from dle_bundle.schema import Field, Schema, SequenceShape
from dle_bundle.values.base64_text import decode_base64
from dle_bundle.values.categories import category
from dle_bundle.values.dates import epoch_seconds
from dle_bundle.values.missing import missing_numbers
from dle_bundle.values.numbers import PLAIN, parse_number

MOST_FAULTS = 10_000
"""Maximum number of faults reported for one body, since a hostile body can have millions."""
_SUGGESTIONS = 100
"""The nearest known name is suggested for this many unknown names: finding it is the slowest step."""
_LONGEST_NAME = 200

_EXPECTED = {
    "numeric": "a number",
    "boolean": "true or false",
    "datetime": "an ISO 8601 date-time string",
    "categorical": "a string",
    "text": "a string",
    "image": "an image as a base64 string",
    "sequence": "a list of steps",
}
_MISSING = "missing", "a value is required"


class FaultFinder:
    """Finds the faults of `{"rows": [{…}, …]}` bodies of one schema."""

    def __init__(self, schema: Schema) -> None:
        self._schema = schema
        self._fields = {field.name: field for field in schema.inputs}
        self._sentinels = missing_numbers(schema.na_values)

    def find(self, body: bytes, otherwise: str) -> RowFaults:
        """The first `MOST_FAULTS` faults of `body`, or the message `otherwise` if no fault is found."""
        unknown: dict[str, str] = {}
        faults, more = first(body_faults(body, "rows", lambda index, row: self._row_faults(index, row, unknown)))
        return RowFaults(faults or [Fault(None, None, "json", otherwise)], more=more)

    def _row_faults(self, index: int, row: Any, unknown: dict[str, str]) -> Iterator[Fault]:
        if not isinstance(row, dict):
            yield Fault(index, None, "type", f"expected an object, got {json_kind(row)}")
            return
        for name in (key for key in row if key not in self._fields):
            message = f"unknown input{self._suggestion(name, unknown)}"
            if name == self._schema.outputs.target:
                message = "this is the target, which the model predicts; leave it out"
            yield Fault(index, shown(name), "unknown", message)
        for field in self._schema.inputs:
            fault = self._value_fault(row.get(field.name), field)
            if fault:
                yield Fault(index, field.name, *fault)

    def _suggestion(self, name: str, known: dict[str, str]) -> str:
        if name not in known:
            if len(known) >= _SUGGESTIONS or len(name) > _LONGEST_NAME:
                return ""
            known[name] = nearest(name, self._fields)
        return known[name]

    def _value_fault(self, value: Any, field: Field) -> tuple[str, str] | None:
        if value is None:
            return _MISSING if field.required else None
        wrong = "type", f"expected {_expected(field)}, got {json_kind(value)}"
        if field.kind == "numeric":
            if isinstance(value, str) and field.number_format is not None:
                return self._text_fault(value, field)
            if isinstance(value, bool) or not isinstance(value, int | float):
                return wrong
            return self._number_fault(value, field)
        if field.kind == "boolean":
            return None if isinstance(value, bool) else wrong
        if field.sequence is not None:
            return _series_fault(value, field.sequence, self._sentinels) if isinstance(value, list) else wrong
        if not isinstance(value, str):
            if field.json_type != "integer" or isinstance(value, bool) or not _is_whole(value):
                return wrong
            value = category(value)
        text = value.strip()
        if not text or text in self._schema.missing(field):
            return _MISSING if field.required else None
        if field.image is not None:
            return _image_fault(text)
        if field.kind == "datetime":
            try:
                epoch_seconds(text, field.date_format)
            except (ValueError, OverflowError) as error:
                return "type", shown(str(error))
        return None

    def _text_fault(self, value: str, field: Field) -> tuple[str, str] | None:
        text = value.strip()
        if not text or text in self._schema.missing(field):
            return _MISSING if field.required else None
        try:
            number = parse_number(text, field.number_format or PLAIN)
        except ValueError as error:
            return "type", shown(str(error))
        return self._number_fault(number, field)

    def _number_fault(self, value: int | float, field: Field) -> tuple[str, str] | None:
        try:
            finite = math.isfinite(float(value))
        except OverflowError:
            finite = False
        if not finite:
            return "non_finite", "expected a finite number"
        return _MISSING if field.required and value in missing_numbers(self._schema.missing(field)) else None


def _is_whole(value: Any) -> bool:
    return isinstance(value, int) or (isinstance(value, float) and value.is_integer())


def _image_fault(text: str) -> tuple[str, str] | None:
    try:
        pixels.declared(decode_base64(text))
    except BadImage as error:
        return "image", unreadable(error)
    except ValueError as error:
        return "image", shown(str(error))
    return None


def _series_fault(value: list[Any], shape: SequenceShape, sentinels: tuple[float, ...]) -> tuple[str, str] | None:
    try:
        series.parse(value, shape, sentinels)
    except series.BadSeries as error:
        return error.code, str(error)
    return None


def _expected(field: Field) -> str:
    if field.number_format is not None:
        return f"a number, or a string like {field.number_format.example}"
    return "a string or a whole number" if field.json_type == "integer" else _EXPECTED[field.kind]


def unreadable(error: BadImage) -> str:
    """The message of the fault of an image."""
    return f"the image cannot be read: {error}"


def first(faults: Iterator[Fault]) -> tuple[list[Fault], bool]:
    """The first `MOST_FAULTS` faults, and whether there are more."""
    found = list(islice(faults, MOST_FAULTS + 1))
    return found[:MOST_FAULTS], len(found) > MOST_FAULTS


def body_faults(body: bytes, key: str, each: Callable[[int, Any], Iterator[Fault]]) -> Iterator[Fault]:
    """The faults of a body `{key: [{…}, …]}`; `each` finds the faults of one element by its position, from 0."""
    if not body.strip():
        yield Fault(None, None, "json", "the body is empty")
        return
    try:
        document = json.loads(body)
    except (ValueError, RecursionError) as error:
        yield Fault(None, None, "json", f"the body is not valid JSON: {error}")
        return
    if not isinstance(document, dict):
        yield Fault(None, None, "type", f'expected an object {{"{key}": […]}}, got {json_kind(document)}')
        return
    for name in (name for name in document if name != key):
        yield Fault(None, shown(name), "unknown", f'unknown key: expected only "{key}"')
    elements = document.get(key)
    if elements is None:
        yield Fault(None, key, "missing", f'the key "{key}" is missing or null')
    elif not isinstance(elements, list):
        yield Fault(None, key, "type", f"expected an array of objects, got {json_kind(elements)}")
    else:
        for index, element in enumerate(elements):
            yield from each(index, element)


def shown(text: str) -> str:
    """`text` shortened to the length of a name, without lone surrogates, which JSON can contain but UTF-8 cannot."""
    return text[:_LONGEST_NAME].encode(errors="replace").decode()


def json_kind(value: Any) -> str:
    """The JSON type of a value in words, with its first characters."""
    names = {dict: "an object", list: "an array", str: "a string", bool: "a boolean", type(None): "null"}
    kind = names.get(type(value), "a number")
    if isinstance(value, bool):
        return f"{kind} ({'true' if value else 'false'})"
    return f"{kind} ({shown(f'{value!r:.40}')})" if isinstance(value, str | int | float) else kind
