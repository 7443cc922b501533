"""Reads rows that a Python program holds: a DataFrame, any other Arrow table, or a list of dicts.

Tables are read by the rules for files, dicts by the rules for the rows of a request, so that the same rows get the same
answers whichever way they come in. Rows count from 0, as Python counts them.
"""

import math
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import date
from pathlib import Path
from typing import Any, Protocol, TypeGuard, cast, runtime_checkable

import msgspec
import numpy as np
import pyarrow as pa

from dle_bundle.errors import InputError, RowFaults
from dle_bundle.groups import Groups
from dle_bundle.rows.decoder import RowDecoder
from dle_bundle.schema import Schema
from dle_bundle.tables import columns, forecast_tables
from dle_bundle.tables.arrays import SEQUENCE

EXPECTED = "a DataFrame, an Arrow table or a list of dicts"


@runtime_checkable
class ArrowStream(Protocol):
    """A table that other libraries can read: DataFrames of pandas and Polars, tables of Arrow and DuckDB."""

    def __arrow_c_stream__(self, requested_schema: object | None = None) -> object: ...


Rows = ArrowStream | Sequence[Mapping[str, Any]]


def table(rows: Rows) -> pa.Table:
    """Return the rows as an Arrow table, without the index of a DataFrame of pandas.

    Raises InputError if this is no table, if a column holds values of different types, if two columns have one name, or
    if there are no rows.
    """
    if not (_are_dicts(rows) or isinstance(rows, ArrowStream)):
        raise _no_table(rows)
    try:
        if isinstance(rows, ArrowStream):
            found = _without_index(_stream(rows).read_all())
        else:
            names = dict.fromkeys(name for row in rows for name in row)
            found = pa.table({name: _column(name, [row.get(name) for row in rows]) for name in names})
    except InputError:
        raise
    except (pa.ArrowException, ValueError, TypeError, OverflowError) as error:
        raise InputError(f"{type(rows).__name__}: not readable as a table: {_one_line(error)}") from error
    counts = Counter(found.column_names)
    twice = [f"column name {name!r} occurs {count} times" for name, count in counts.items() if count > 1]
    if twice or not counts or not len(found):
        expected = "columns with different names" if twice else "at least one row and one column"
        raise InputError(f"{type(rows).__name__}: expected {expected}", twice)
    usual = columns.usual(found)
    if (fault := columns.unreadable_text(usual, 0)) is not None:
        raise InputError(f"{type(rows).__name__}: {fault}")
    return usual


def read(rows: Rows, schema: Schema) -> tuple[Groups, pa.Table | None]:
    """Return the rows as inputs of a model; columns that are not in its schema are ignored.

    Paths of images are relative to the current folder. A long table becomes one row for each series. If it is to be
    forecast, these rows are returned too, see `prediction_columns.table`. Raises InputError as `table` does, and
    RowFaults with every fault of every row.
    """
    if _are_dicts(rows) and (schema.layout is None or any(SEQUENCE in row for row in rows)):
        return RowDecoder(schema).decode(_request(rows, schema)), None
    found = forecast_tables.rows(table(rows), schema)
    groups, faults = columns.to_groups(found.table, schema, 0, folder=Path.cwd())
    if faults:
        faults = [place for fault in faults for place in found.located(fault, schema, 0)]
        absent = [fault for fault in faults if fault.row is None]
        raise RowFaults(absent or faults, columns=bool(absent))
    return groups, found.table if forecast_tables.has_times(found.table, schema) else None


def described(value: object) -> str:
    """Return what a value is, as the end of a message: `a pandas Series`, `a list of lists`, `the text 'y'`, `None`."""
    name, library = type(value).__name__, type(value).__module__.partition(".")[0]
    if isinstance(value, str):
        return f"the text {value!r}"
    if isinstance(value, list | tuple):
        kinds = dict.fromkeys(map(_kind, value))
        return f"a {name} of {' and '.join(kinds)}" if kinds else f"an empty {name}"
    if library != "builtins":
        return f"a {library} {name}"
    return f"a {name}" if isinstance(value, Iterable) else str(value)


def _no_table(rows: object) -> InputError:
    """The error for rows that are no table, with what to pass instead."""
    cure = ""
    if isinstance(rows, ArrowStream):
        cure = ", which is one column; pass a table that has it, or for one row of a DataFrame [row.to_dict()]"
    elif isinstance(rows, np.ndarray) or (isinstance(rows, list | tuple) and rows):
        cure = "; name the columns, as in pandas.DataFrame(values, columns=[…])"
    elif isinstance(rows, Mapping):
        cure = "; pass [row] for one row, pandas.DataFrame(columns) or pyarrow.table(columns) for columns"
    elif isinstance(rows, str | Path):
        cure = "; read the file first, as in pandas.read_csv(path)"
    elif isinstance(rows, Iterator):
        cure = "; pass list(rows)"
    elif callable(getattr(rows, "collect", None)):
        cure = "; pass rows.collect()"
    return InputError(f"expected {EXPECTED}, found {described(rows)}{cure}")


def _are_dicts(rows: object) -> TypeGuard[Sequence[Mapping[str, Any]]]:
    return isinstance(rows, list | tuple) and all(isinstance(row, Mapping) for row in rows)


def _column(name: str, values: list[Any]) -> pa.Array:
    """Return the values as a column. Raises InputError if their types do not go together."""
    try:
        return pa.array(values, from_pandas=True)
    except (pa.ArrowException, ValueError, TypeError):
        kinds = list(dict.fromkeys(_kind(value) for value in values if value is not None))
        if len(kinds) < 2:
            raise
        raise InputError(f"list: column {name!r} holds {' and '.join(kinds[:2])}; give it one type") from None


def _kind(value: object) -> str:
    words: dict[type | tuple[type, ...], str] = {
        (bool, np.bool_): "truth values",
        (int, float, np.number): "numbers",
        str: "texts",
        date: "dates",
        (list, tuple, np.ndarray): "lists",
        Mapping: "objects",
    }
    return next((word for kind, word in words.items() if isinstance(value, kind)), type(value).__name__)


def _stream(rows: ArrowStream) -> pa.RecordBatchReader:
    """The rows as Arrow reads them. Raises InputError for a single column, which is a stream of values."""
    try:
        return pa.RecordBatchReader.from_stream(rows)
    except pa.ArrowException as error:
        if "non-struct" in str(error) or np.ndim(cast(Any, rows)) == 1:  # a row of pandas is a column of several types
            raise _no_table(rows) from None
        raise


def _without_index(found: pa.Table) -> pa.Table:
    """The table without the columns that pandas makes of an index, which says how rows are found, not what they are."""
    known = (found.schema.pandas_metadata or {}).get("index_columns", ())
    index = [name for name in known if isinstance(name, str) and name in found.column_names]
    return found.drop_columns(index).replace_schema_metadata(None)


def _request(rows: Sequence[Mapping[str, Any]], schema: Schema) -> bytes:
    """The body of a request with these rows, without what the model does not know."""
    names = [field.name for field in schema.inputs]
    content = [{name: _finite(row[name]) for name in names if name in row} for row in rows]
    return msgspec.json.Encoder(enc_hook=_plain, decimal_format="number").encode({"rows": content})


def _finite(value: Any) -> Any:
    """The value, or a number beyond all others for an infinite one, for which JSON has no word."""
    if isinstance(value, float | np.floating) and math.isinf(value):
        return msgspec.Raw(b"1e999" if value > 0 else b"-1e999")
    return value


def _plain(value: Any) -> Any:
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, np.ndarray):
        return value.tolist()
    if isinstance(value, date):  # a subclass, such as the Timestamp of pandas, whose NaT differs from itself
        return value.isoformat() if value == value else None
    return str(value)


def _one_line(error: Exception) -> str:
    return "; ".join(str(part) for part in error.args) or type(error).__name__
