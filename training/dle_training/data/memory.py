"""Tables in memory as sources: what Python users train on. No later command can read them again."""

import hashlib
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from dle_bundle import in_memory
from dle_bundle.in_memory import Rows
from dle_bundle.tables.columns import is_text
from dle_training.data.sources import MEMORY, Source


def read(rows: Rows) -> Source:
    """Return a DataFrame, an Arrow table or a list of dicts as a source. Raises InputError if it is no table.

    Paths of images are relative to the current folder.
    """
    table = in_memory.table(rows)
    return Source(f"{MEMORY}{type(rows).__name__}", table, _digest(table), None, Path.cwd())


def _digest(table: pa.Table) -> str:
    """The SHA-256 of names, types and values, however the table is cut into chunks."""
    content = hashlib.sha256()
    for name, column in zip(table.column_names, table.columns, strict=True):
        content.update(f"{name}\0{column.type}\0".encode())
        whole = pa.chunked_array(column.chunks, column.type).combine_chunks()
        _add(whole.chunk(0) if isinstance(whole, pa.ChunkedArray) else whole, content)
    return content.hexdigest()


def _add(array: Any, content: Any) -> None:
    kind = array.type
    if isinstance(kind, pa.ExtensionType | pa.FixedShapeTensorType):
        _add(array.storage, content)
        return
    if pa.types.is_dictionary(kind):
        _add(array.dictionary_decode(), content)
        return
    content.update(np.packbits(np.asarray(array.is_valid())).tobytes())
    if pa.types.is_struct(kind):
        for part in array.flatten():
            _add(part, content)
    elif pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind):
        content.update(np.asarray(pc.list_value_length(array).drop_null()).astype(np.int64).tobytes())
        _add(array.flatten(), content)
    elif is_text(array) or pa.types.is_binary(kind) or pa.types.is_large_binary(kind):
        values = array.drop_null().cast(pa.large_binary()).to_pylist()
        content.update(np.array([len(value) for value in values], dtype=np.int64).tobytes())
        content.update(b"".join(values))
    else:
        plain = np.asarray(array.drop_null())
        content.update(repr(plain.tolist()).encode() if plain.dtype.hasobject else plain.tobytes())
