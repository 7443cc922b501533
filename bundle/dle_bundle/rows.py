"""JSON rows to groups, in one pass; and every fault of every row when there is one.

A well-formed body is decoded by a msgspec decoder built from the schema, straight into typed rows. Only when that
fails, or a required value turns out to be missing, is the body read again by the slow walk that finds all faults.
"""

import json
import math
from collections.abc import Iterator
from operator import attrgetter
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt

from dle_bundle import decode
from dle_bundle.errors import Fault, RowFaults, nearest
from dle_bundle.groups import MISSING_TIME, Groups
from dle_bundle.schema import Field, Schema

_JSON_TYPES: dict[str, Any] = {"numeric": float, "boolean": bool, "datetime": str}
_EXPECTED = {
    "numeric": "a number",
    "boolean": "true or false",
    "datetime": "an ISO 8601 date-time string",
    "categorical": "a string",
}


def _json_type(field: Field) -> Any:
    plain = (str | int) if field.json_type == "integer" else _JSON_TYPES.get(field.kind, str)
    return plain if field.required else plain | None


def _expected(field: Field) -> str:
    return "a string or a whole number" if field.json_type == "integer" else _EXPECTED[field.kind]


class RowDecoder:
    """Decodes `{"rows": [{…}, …]}` bodies of one schema. Safe to share between threads.

    Example::

        groups = RowDecoder(schema).decode(b'{"rows": [{"age": 39}]}')
    """

    def __init__(self, schema: Schema) -> None:
        self._schema = schema
        self._fields = {field.name: field for field in schema.inputs}
        self._categories = [_Categories(field, frozenset(schema.na_values)) for field in schema.categorical]
        # attributes are f0, f1, … and renamed, since a column's name need not be an identifier
        slots = {field.name: f"f{index}" for index, field in enumerate(schema.inputs)}
        row = msgspec.defstruct(
            "Row",
            [(slots[field.name], _json_type(field), *(() if field.required else (None,))) for field in schema.inputs],
            rename={slot: name for name, slot in slots.items()},
            forbid_unknown_fields=True,
            kw_only=True,
            gc=False,
        )
        body = msgspec.defstruct("Body", [("rows", list[row])], forbid_unknown_fields=True, gc=False)  # type: ignore[valid-type]
        self._decoder = msgspec.json.Decoder(body)
        self._numeric = _getter([slots[field.name] for field in schema.numeric])
        self._categorical = [attrgetter(slots[field.name]) for field in schema.categorical]
        self._sentinels = decode.missing_numbers(schema.na_values)
        self._datetime = [attrgetter(slots[field.name]) for field in schema.datetime]

    def decode(self, body: bytes) -> Groups:
        """Groups of the rows in `body`, in order; raises RowFaults with every fault of every row."""
        try:
            rows = self._decoder.decode(body).rows  # type: ignore[attr-defined]
            return self._assemble(rows)
        except (msgspec.MsgspecError, ValueError, OverflowError, RecursionError) as error:
            faults = list(self._faults(body))
            # the walk reads JSON by another parser; what only the fast one refuses is reported in its words
            raise RowFaults(faults or [Fault(None, None, "json", str(error))]) from None

    def _assemble(self, rows: list[Any]) -> Groups:
        schema, count = self._schema, len(rows)
        numbers = np.array([self._numeric(row) for row in rows], dtype=np.float64)
        if self._sentinels:
            numbers = self._without_sentinels(numbers)
        numeric = decode.float32(numbers.reshape(count, len(schema.numeric)))
        categorical = np.empty((count, len(schema.categorical)), dtype=object)
        for column, (get, categories) in enumerate(zip(self._categorical, self._categories, strict=True)):
            categorical[:, column] = [categories.text(get(row)) for row in rows]
        datetime = np.empty((count, len(schema.datetime)), dtype=np.int64)
        for column, (get, field) in enumerate(zip(self._datetime, schema.datetime, strict=True)):
            datetime[:, column] = [self._moment(get(row), field) for row in rows]
        return Groups(numeric, categorical, datetime)

    def _without_sentinels(self, numbers: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        """`numbers` (N, F) with NaN for those that mean missing; ValueError where a value is required."""
        plain = [field.kind == "numeric" for field in self._schema.numeric]
        missing = np.isin(numbers, self._sentinels) & plain
        if any(field.required and missing[:, index].any() for index, field in enumerate(self._schema.numeric)):
            raise ValueError("missing")
        return np.where(missing, np.nan, numbers)

    def _moment(self, text: str | None, field: Field) -> int:
        trimmed = None if text is None else text.strip()
        if trimmed is None or trimmed in self._schema.na_values:
            if field.required:
                raise ValueError("missing")
            return MISSING_TIME
        return decode.epoch_seconds(trimmed, field.date_format)

    def _faults(self, body: bytes) -> Iterator[Fault]:
        try:
            document = json.loads(body)
        except (ValueError, RecursionError) as error:
            yield Fault(None, None, "json", f"not readable as JSON: {error}")
            return
        if not isinstance(document, dict):
            yield Fault(None, None, "type", f'expected an object {{"rows": […]}}, got {_kind(document)}')
            return
        for name in (key for key in document if key != "rows"):
            yield Fault(None, name, "unknown", 'unknown key beside "rows"')
        rows = document.get("rows")
        if rows is None:
            yield Fault(None, "rows", "missing", 'the key "rows" is absent or null')
        elif not isinstance(rows, list):
            yield Fault(None, "rows", "type", f"expected an array of objects, got {_kind(rows)}")
        else:
            for index, row in enumerate(rows):
                yield from self._row_faults(index, row)

    def _row_faults(self, index: int, row: Any) -> Iterator[Fault]:
        if not isinstance(row, dict):
            yield Fault(index, None, "type", f"expected an object, got {_kind(row)}")
            return
        for name in (key for key in row if key not in self._fields):
            yield Fault(index, name, "unknown", f"no such input{nearest(name, self._fields)}")
        for field in self._schema.inputs:
            fault = self._value_fault(row.get(field.name), field)
            if fault:
                yield Fault(index, field.name, *fault)

    def _value_fault(self, value: Any, field: Field) -> tuple[str, str] | None:
        if value is None:
            return ("missing", "a value is required") if field.required else None
        wrong = "type", f"expected {_expected(field)}, got {_kind(value)}"
        if field.kind == "numeric":
            if isinstance(value, bool) or not isinstance(value, int | float):
                return wrong
            try:
                finite = math.isfinite(float(value))
            except OverflowError:
                finite = False
            if not finite:
                return "non_finite", "expected a finite number"
            return ("missing", "a value is required") if field.required and value in self._sentinels else None
        if field.kind == "boolean":
            return None if isinstance(value, bool) else wrong
        if not isinstance(value, str):
            integer = field.json_type == "integer" and isinstance(value, int) and not isinstance(value, bool)
            return None if integer else wrong
        if value.strip() in self._schema.na_values:
            return ("missing", "a value is required") if field.required else None
        if field.kind == "datetime":
            try:
                decode.epoch_seconds(value.strip(), field.date_format)
            except (ValueError, OverflowError) as error:
                return "type", str(error)
        return None


class _Categories:
    """The text of one column's categories; known ones take one dictionary look-up."""

    def __init__(self, field: Field, na_values: frozenset[str]) -> None:
        self._known: dict[Any, str] = {value: value for value in field.categories or ()}
        self._na_values = na_values
        self._required = field.required

    def text(self, value: str | int | None) -> str:
        """`value` as the graph takes it, `""` when missing; ValueError when missing but required."""
        known = self._known.get(value)
        if known is not None:
            return known
        text = "" if value is None else decode.category(value)
        if text in self._na_values:
            if self._required:
                raise ValueError("missing")
            return ""
        return text


def _getter(slots: list[str]) -> Any:
    """A function from a row to the tuple of its values in these slots."""
    if len(slots) > 1:
        return attrgetter(*slots)
    return (lambda row: (getattr(row, slots[0]),)) if slots else (lambda row: ())


def _kind(value: Any) -> str:
    names = {dict: "an object", list: "an array", str: "a string", bool: "a truth value", type(None): "null"}
    kind = names.get(type(value), "a number")
    return f"{kind} ({value!r:.40})" if isinstance(value, str | int | float) else kind
