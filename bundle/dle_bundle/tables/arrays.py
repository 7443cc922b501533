"""Reads array files (.npy, .npz) as Arrow tables, for training and offline prediction.

`X` and `y` are inputs and target. The parts X_train, y_train, X_test, y_test (and X_validation, y_validation) become
one table with the column `split`. `classes` are the class names for the integers in `y`.
"""

import zipfile
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from dle_bundle.errors import InputError
from dle_bundle.tables import folders
from dle_bundle.tables.folders import PARTS, SPLIT

SEQUENCE = "sequence"
"""The name of the column of series where the file gives none."""
TARGET = "y"
# RuntimeError: an encrypted zip file, or one with an unknown compression
_DAMAGED = (
    OSError,
    EOFError,
    ValueError,
    KeyError,
    AttributeError,
    RuntimeError,
    TypeError,
    SyntaxError,
    zipfile.BadZipFile,
    zlib.error,
)


def read(path: Path) -> pa.Table:
    """Read the arrays of a .npy or .npz file as columns; the array of a .npy file is `X`.

    Raises InputError when the file is unreadable, or its arrays do not match or have a wrong shape.
    """
    arrays = _loaded(path)
    names = arrays.pop("classes", None) if TARGET in arrays or f"{TARGET}_train" in arrays else None
    if "X_train" in arrays:
        arrays = _joined(path, arrays)
    if names is not None and TARGET in arrays:
        arrays[TARGET] = _named(path, arrays[TARGET], names)
    return _columns(path, arrays)


def _loaded(path: Path) -> dict[str, npt.NDArray[Any]]:
    """The arrays of the file by name; a single array is `X`."""
    kind = path.suffix.lower()
    try:
        if kind == ".npz":
            # opened here, since NumPy does not close a damaged file
            with path.open("rb") as content, np.load(content, allow_pickle=False) as file:
                return {name: file[name] for name in file.files}
        whole = np.load(path, allow_pickle=False)
        return {name: whole[name] for name in whole.dtype.names} if whole.dtype.names else {"X": whole}
    except _DAMAGED as error:
        reason = "not a NumPy array file, or one with Python objects" if "pickle" in str(error) else error
        raise InputError(f"{path}: not readable as {kind}: {reason}") from error


def _joined(path: Path, arrays: dict[str, npt.NDArray[Any]]) -> dict[str, npt.NDArray[Any]]:
    parts = [part for part in PARTS if f"X_{part}" in arrays]
    expected = [f"{stem}_{part}" for part in parts for stem in ("X", "y")]
    if sorted(expected) != sorted(arrays):
        raise InputError(f"{path}: expected the arrays {', '.join(expected)}, found {', '.join(sorted(arrays))}")
    shown = {name: arrays[name].shape for name in expected}
    if not all(shown.values()):
        raise InputError(f"{path}: expected arrays with one row per example, found {shown}")
    rows = {part: (len(arrays[f"X_{part}"]), len(arrays[f"y_{part}"])) for part in parts}
    shapes = {part: arrays[f"X_{part}"].shape[1:] for part in parts}
    if any(features != labels for features, labels in rows.values()) or len(set(shapes.values())) > 1:
        raise InputError(
            f"{path}: expected X and y of equal length in each part, and the same width in all parts, found {shown}"
        )
    try:
        joined = {stem: np.concatenate([arrays[f"{stem}_{part}"] for part in parts]) for stem in ("X", "y")}
    except (ValueError, TypeError) as error:
        raise InputError(f"{path}: cannot join the parts of X and y: {error}") from error
    return {**joined, SPLIT: np.repeat(parts, [rows[part][0] for part in parts])}


def _named(path: Path, codes: npt.NDArray[Any], names: npt.NDArray[Any]) -> npt.NDArray[Any]:
    if names.ndim != 1:
        raise InputError(f"{path}: classes: expected one dimension, found shape {names.shape}")
    if not (codes.dtype.kind in "iu" and codes.size and 0 <= codes.min() <= codes.max() < len(names)):
        raise InputError(f"{path}: expected y to be integers from 0 to {len(names) - 1}, positions in `classes`")
    named: npt.NDArray[Any] = names[codes]
    return named


def _columns(path: Path, arrays: dict[str, npt.NDArray[Any]]) -> pa.Table:
    """The arrays as columns: a matrix gives NAME0, NAME1, … (`X`: x0, x1, …), any other array one column.

    `X` with three or more dimensions is named `image` if it holds bytes, else `sequence`.
    """
    lengths = {name: len(array) if array.ndim else 0 for name, array in arrays.items()}
    if len(set(lengths.values())) > 1:
        found = ", ".join(f"{name}: {length:,}" for name, length in lengths.items())
        raise InputError(f"{path}: expected arrays of equal length, found {found}")
    columns: list[tuple[str, pa.Array]] = []
    for name, array in arrays.items():
        if not 1 <= array.ndim <= 4 or (array.ndim == 4 and array.dtype != np.uint8):
            cure = "; write images as uint8 from 0 to 255" if array.ndim == 4 else ""
            raise InputError(
                f"{path}: {name}: expected one or two dimensions, three for series, or three or four of uint8 for "
                f"images, found {array.dtype} of shape {array.shape}{cure}"
            )
        if array.ndim == 1:
            columns.append((name, _column(path, name, array)))
        elif array.ndim > 2:
            own = name if name != "X" else folders.IMAGE if array.dtype == np.uint8 else SEQUENCE
            columns.append((own, _tensors(path, name, array)))
        else:
            stem = "x" if name == "X" else name
            columns += ((f"{stem}{index}", _column(path, name, array[:, index])) for index in range(array.shape[1]))
    return pa.Table.from_arrays([column for _, column in columns], [name for name, _ in columns])


def _column(path: Path, name: str, array: npt.NDArray[Any]) -> pa.Array:
    try:
        # Arrow accepts only the native byte order
        native = array.astype(str if array.dtype.kind == "S" else array.dtype.newbyteorder("="), copy=False)
        return pa.array(native)
    except (pa.ArrowException, ValueError, TypeError) as error:
        raise InputError(
            f"{path}: {name}: expected numbers, booleans, dates or text, found {array.dtype} values: {error}"
        ) from error


def _tensors(path: Path, name: str, array: npt.NDArray[Any]) -> pa.Array:
    if array.dtype.kind not in "iufb" or 0 in array.shape[1:]:
        raise InputError(f"{path}: {name}: expected numbers, found {array.dtype} of shape {array.shape}")
    plain = array if array.dtype in (np.uint8, np.float32) else array.astype(np.float64)
    return pa.FixedShapeTensorArray.from_numpy_ndarray(np.ascontiguousarray(plain))
