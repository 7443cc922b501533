"""Converts Arrow columns of images into the `image` group: paths, contents of files, or arrays of bytes.

Paths are relative to the folder of the table. A missing image is black; in a column of paths the usual spellings of
missing values apply.
"""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from dle_bundle.images import pixels as decoding
from dle_bundle.images.pixels import BadImage, ImageSource
from dle_bundle.schema import ImageShape

Column = Any
Decode = Callable[[Sequence[ImageSource], ImageShape], tuple[Any, dict[int, str]]]
"""Decodes N sources into images (N, channels, H, W) and a reason, by index, for each invalid one, which is black."""
Broken = tuple[int, int, str]
"""An invalid image: its row, its position among the image columns, and the reason."""


def is_image(column: Column) -> bool:
    """Whether the column holds contents of files, or arrays of bytes with two or three dimensions."""
    return _is_content(column) or _pixels_of(column) is not None


def image_sources(column: Column, folder: Path | None, na_values: Sequence[str]) -> list[ImageSource | None]:
    """Each row's image, or None; empty for a column of arrays. Blank paths and `na_values` are missing."""
    if _is_content(column):
        return list(column.to_pylist())
    if isinstance(column.type, pa.FixedShapeTensorType):
        return []
    base, absent = folder or Path(), frozenset(("", *na_values))
    texts = (None if text is None else text.strip() for text in column.cast(pa.large_string()).to_pylist())
    return [None if text is None or text in absent else str(base / text) for text in texts]


def array_shape(column: Column) -> tuple[bool, int, int] | None:
    """For a column of arrays, whether they are in colour, their height and their width; else None."""
    sizes = _pixels_of(column)
    if sizes is None:
        return None
    if len(sizes) == 2:
        return False, sizes[0], sizes[1]
    last = sizes[2] in (1, 3, 4)
    height, width = (sizes[0], sizes[1]) if last else (sizes[1], sizes[2])
    return (sizes[2] if last else sizes[0]) > 1, height, width


def images(
    columns: Sequence[Column],
    shape: ImageShape,
    folder: Path | None,
    na_values: Sequence[str],
    decode: Decode | None = None,
) -> tuple[Any, list[Broken], npt.NDArray[np.bool_]]:
    """The images (N, columns · channels, H, W), the invalid ones, and a mask (N, columns) of the missing ones.

    `decode` reads the files; by default they are decoded one by one.
    """
    count = len(columns[0])
    arrays = [_pixels_of(column) is not None for column in columns]
    listed = [
        [None] * count if is_array else image_sources(column, folder, na_values)
        for column, is_array in zip(columns, arrays, strict=True)
    ]
    missing = np.array(
        [
            np.asarray(column.is_null()) if is_array else [source is None for source in found]
            for column, found, is_array in zip(columns, listed, arrays, strict=True)
        ],
        dtype=bool,
    ).T.reshape(count, len(columns))
    if any(arrays):
        whole = np.zeros((count, len(columns), shape.channels, shape.height, shape.width), dtype=np.uint8)
        broken: list[Broken] = []
        for index, column in enumerate(columns):
            if arrays[index]:
                whole[:, index] = _fitted(column, shape)
                continue
            found, reasons = _read([source for source in listed[index] if source is not None], shape, decode)
            rows = np.flatnonzero(~missing[:, index])
            whole[rows, index] = np.asarray(found)
            broken += [(int(rows[place]), index, reason) for place, reason in reasons.items()]
        wide = whole.reshape(count, len(columns) * shape.channels, shape.height, shape.width)
        return wide, sorted(broken), missing
    # row by row, so that the images of a row are adjacent; an empty content means missing
    together = [found[row] or b"" for row in range(count) for found in listed]
    found, reasons = _read(together, shape, decode)
    broken = [
        (place // len(columns), place % len(columns), reason)
        for place, reason in sorted(reasons.items())
        if not missing[place // len(columns), place % len(columns)]
    ]
    if len(columns) > 1:
        found = found.reshape(count, len(columns) * shape.channels, shape.height, shape.width)
    return found, broken, missing


def shown(column: Column, row: int) -> str:
    """The name of a row's image in messages: its path, or `image`."""
    value = column[row].as_py() if not isinstance(column.type, pa.FixedShapeTensorType) else None
    return value.strip() if isinstance(value, str) else "image"


def _is_content(column: Column) -> bool:
    kind = column.type
    return bool(pa.types.is_binary(kind) or pa.types.is_large_binary(kind))


def _pixels_of(column: Column) -> tuple[int, ...] | None:
    """The shape of each row's array of bytes, or None for any other column."""
    kind = column.type
    if not isinstance(kind, pa.FixedShapeTensorType) or kind.value_type != pa.uint8():
        return None
    sizes = tuple(kind.shape)
    return sizes if len(sizes) in (2, 3) else None


def _fitted(column: Column, shape: ImageShape) -> npt.NDArray[np.uint8]:
    chunks = column.chunks if isinstance(column, pa.ChunkedArray) else [column]
    whole = np.concatenate([chunk.to_numpy_ndarray() for chunk in chunks])
    plain = whole[:, None] if whole.ndim == 3 else whole
    if plain.shape[1:] == (shape.channels, shape.height, shape.width):
        fitted: npt.NDArray[np.uint8] = plain
        return fitted
    return np.stack([decoding.fit(pixels, shape) for pixels in whole]) if len(whole) else plain[:0]


def _read(found: Sequence[ImageSource], shape: ImageShape, decode: Decode | None) -> tuple[Any, dict[int, str]]:
    if decode is not None:
        return decode(found, shape)
    whole = np.zeros((len(found), shape.channels, shape.height, shape.width), dtype=np.uint8)
    reasons: dict[int, str] = {}
    for index, source in enumerate(found):
        try:
            whole[index] = decoding.read(source, shape)
        except BadImage as error:
            reasons[index] = str(error)
    return whole, reasons
