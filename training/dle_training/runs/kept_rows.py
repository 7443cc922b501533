"""The rows that a run keeps: a Parquet file with one column for each input and one for the target.

The values are those of `Groups`, decoded: numbers as float64 (NaN = missing), categories and texts as strings
("" = missing), date-times as epoch seconds, images as bytes (channels, height, width), series as flat lists (steps,
channels). A model therefore gives the same answers, bit for bit, for kept rows and for the rows of the source.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from dle_bundle.errors import InputError
from dle_bundle.files import atomic_path
from dle_bundle.groups import Groups
from dle_bundle.schema import Field, Schema
from dle_training.data.dataset import Dataset
from dle_training.data.target import Values

VALUES_PER_ROW = 1_000
"""Number of values, pixels, steps or characters that count as one row in the budget `data.keep_rows`."""
_ROWS_AT_ONCE, _PIXELS_AT_ONCE = 1_024, 1 << 22
_Image = npt.NDArray[np.uint8]


def count(dataset: Dataset, budget: int) -> dict[str, int]:
    """Return how many rows of the test and the validation part a run keeps, by part.

    A part that does not fit into the rest of `budget` is not kept at all. The test part comes first.
    """
    counts = {}
    for name in ("test", "validation"):
        rows = dataset.split.rows(name)
        size = _size(dataset.groups, rows)
        counts[name] = len(rows) if size <= budget else 0
        budget -= size if size <= budget else 0
    return counts


def _size(groups: Groups, rows: npt.NDArray[np.int64]) -> int:
    """Return how much of the budget `rows` take: their number, or a thousandth of their values if that is more."""
    columns: int = groups.numeric.shape[1] + groups.categorical.shape[1] + groups.datetime.shape[1]
    values = len(rows) * columns
    if groups.image is not None:
        values += len(rows) * int(np.prod(groups.image.shape[1:]))
    if groups.sequence is not None and groups.lengths is not None:
        values += int(groups.lengths[rows].sum()) * groups.sequence.shape[2]
    if groups.known is not None:
        values += len(rows) * int(np.prod(groups.known.shape[1:]))
    if groups.text is not None:
        values += sum(map(len, groups.text[rows].ravel().tolist()))
    return max(len(rows), -(-values // VALUES_PER_ROW))


def write(path: Path, groups: Groups, target: Values, rows: npt.NDArray[np.int64], schema: Schema) -> None:
    """Write the `rows` (M,), at least one, of `groups` and `target`, whole or not at all.

    `target` holds labels (N,), values (N,) or values (N, horizon). Images that are still in files are read.
    """
    strings = [field.name for field in (*schema.categorical, *schema.text)]
    with atomic_path(path) as temporary:
        writer = None
        pixels = 1 if groups.image is None else int(np.prod(groups.image.shape[1:]))
        step = max(1, min(_ROWS_AT_ONCE, _PIXELS_AT_ONCE // pixels))
        for start in range(0, len(rows), step):
            chunk = rows[start : start + step]
            table = _table(groups.take(chunk), target[chunk], schema)
            if writer is None:  # only columns of strings repeat values
                writer = pq.ParquetWriter(temporary, table.schema, compression="zstd", use_dictionary=strings or False)
            writer.write_table(table)
        assert writer is not None
        writer.close()


def read(path: Path, schema: Schema) -> tuple[Groups, Values]:
    """Return the rows and targets that `write` wrote. Raises InputError if the file is missing or has other columns."""
    try:
        table = pq.ParquetFile(path).read()
        return _groups(table, schema), _target(table.column(schema.outputs.target), schema)
    except (OSError, pa.ArrowException, KeyError) as error:
        raise InputError(f"{path}: no readable rows of this run: {error}") from error


def _table(groups: Groups, target: Values, schema: Schema) -> pa.Table:
    columns = {field.name: pa.array(groups.numeric[:, index]) for index, field in enumerate(schema.numeric)}
    for index, field in enumerate(schema.categorical):
        columns[field.name] = pa.array(groups.categorical[:, index], pa.string())
    for index, field in enumerate(schema.datetime):
        columns[field.name] = pa.array(groups.datetime[:, index])
    if groups.text is not None:
        for index, field in enumerate(schema.text):
            columns[field.name] = pa.array(groups.text[:, index], pa.string())
    columns |= _image_columns(groups, schema) | _series_columns(groups, schema) | _known_columns(groups, schema)
    outputs = schema.outputs
    ordered = {field.name: columns[field.name] for field in schema.inputs}
    if outputs.classes is not None:
        return pa.table(ordered | {outputs.target: pa.array(target.tolist())})
    values = pa.array(target.reshape(-1))
    if outputs.horizon > 1:
        values = pa.FixedSizeListArray.from_arrays(values, outputs.horizon)
    return pa.table(ordered | {outputs.target: values})


def _image_columns(groups: Groups, schema: Schema) -> dict[str, pa.Array]:
    columns: dict[str, pa.Array] = {}
    if not schema.image:
        return columns
    pixels: _Image = np.asarray(groups.image)
    channels = pixels.shape[1] // len(schema.image)
    for index, field in enumerate(schema.image):
        own = np.ascontiguousarray(pixels[:, index * channels : (index + 1) * channels])
        kind = pa.binary(own[0].size)
        columns[field.name] = pa.FixedSizeBinaryArray.from_buffers(kind, len(own), [None, pa.py_buffer(own)])
    return columns


def _series_columns(groups: Groups, schema: Schema) -> dict[str, pa.Array]:
    """Return a flat list for each row, without the steps beyond the row's end."""
    columns: dict[str, pa.Array] = {}
    if groups.sequence is None or groups.lengths is None:
        return columns
    real = np.arange(groups.sequence.shape[1]) < groups.lengths[:, None]  # (N, T)
    for name, channels in _channels(schema).items():
        own = groups.sequence[:, :, channels]
        offsets = np.append(0, np.cumsum(groups.lengths * own.shape[2])).astype(np.int64)
        columns[name] = pa.LargeListArray.from_arrays(offsets, own[real].reshape(-1))
    return columns


def _known_columns(groups: Groups, schema: Schema) -> dict[str, pa.Array]:
    if groups.known is None:
        return {}
    flat, size = pa.array(groups.known.reshape(-1)), int(np.prod(groups.known.shape[1:]))
    return {field.name: pa.FixedSizeListArray.from_arrays(flat, size) for field in schema.known}


def _channels(schema: Schema) -> Mapping[str, slice]:
    """Return the channels of each series in the `sequence` group, as a slice."""
    found, start = {}, 0
    for field in schema.sequence:
        assert field.sequence is not None
        found[field.name] = slice(start, start + len(field.sequence.channels))
        start += len(field.sequence.channels)
    return found


def _groups(table: pa.Table, schema: Schema) -> Groups:
    def side_by_side(fields: tuple[Field, ...], dtype: Any) -> npt.NDArray[Any]:
        array = np.empty((len(table), len(fields)), dtype=dtype)
        for index, field in enumerate(fields):
            array[:, index] = table.column(field.name).to_numpy()
        return array

    sequence, lengths = _series(table, schema)
    return Groups(
        numeric=side_by_side(schema.numeric, np.float64),
        categorical=side_by_side(schema.categorical, object),
        datetime=side_by_side(schema.datetime, np.int64),
        image=_images(table, schema),
        sequence=sequence,
        lengths=lengths,
        known=_known(table, schema),
        text=side_by_side(schema.text, object) if schema.text else None,
    )


def _images(table: pa.Table, schema: Schema) -> _Image | None:
    if not schema.image:
        return None
    columns = []
    for field in schema.image:
        assert field.image is not None
        shape = (-1, field.image.channels, field.image.height, field.image.width)
        chunks = table.column(field.name).chunks
        columns.append(np.concatenate([_bytes(chunk).reshape(shape) for chunk in chunks]))
    return columns[0] if len(columns) == 1 else np.concatenate(columns, axis=1)


def _bytes(chunk: pa.FixedSizeBinaryArray) -> _Image:
    width = chunk.type.byte_width
    return np.frombuffer(chunk.buffers()[1], np.uint8, len(chunk) * width, chunk.offset * width)


def _series(table: pa.Table, schema: Schema) -> tuple[npt.NDArray[np.float64] | None, npt.NDArray[np.int64] | None]:
    if not schema.sequence:
        return None, None
    places = _channels(schema)
    columns = {name: table.column(name).combine_chunks() for name in places}
    name, channels = next(iter(places.items()))
    # all series of a row are padded to the steps of the longest one
    lengths = np.asarray(columns[name].value_lengths()).astype(np.int64) // (channels.stop - channels.start)
    width = max(channels.stop for channels in places.values())
    sequence = np.full((len(table), int(lengths.max()), width), np.nan)
    real = np.arange(sequence.shape[1]) < lengths[:, None]  # (N, T)
    for name, channels in places.items():
        values = columns[name].flatten().to_numpy()
        sequence[:, :, channels][real] = values.reshape(-1, channels.stop - channels.start)
    return sequence, lengths


def _known(table: pa.Table, schema: Schema) -> npt.NDArray[np.float64] | None:
    for field in schema.known:
        assert field.sequence is not None
        values = np.array(table.column(field.name).combine_chunks().flatten())  # tensors need writable memory
        return values.reshape(len(table), -1, len(field.sequence.channels))
    return None


def _target(column: pa.ChunkedArray, schema: Schema) -> Values:
    if schema.outputs.classes is not None:
        labels: Values = np.empty(len(column), dtype=object)
        labels[:] = column.to_pylist()
        return labels
    whole = column.combine_chunks()
    if schema.outputs.horizon > 1:
        return np.asarray(whole.flatten()).reshape(-1, schema.outputs.horizon)
    return np.asarray(whole)
