"""Where rows come from: a SOURCE on the command line becomes an Arrow table and the facts that go with it.

Files, and folders of images, are read by `dle_bundle.tables`, as offline prediction reads them. scikit-learn's bundled
tables let a new user start without a file, and arrays saved as X/y (with their own test part) are tables as well.
"""

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from dle_bundle import folders, integrity, tables
from dle_bundle.errors import InputError, nearest
from dle_training.data.split import PARTS

SKLEARN = "sklearn:"
SKLEARN_TABLES = ("breast_cancer", "diabetes", "digits", "iris", "wine")
"""Tables with one target that scikit-learn carries itself, without a download."""


@dataclass(frozen=True, slots=True)
class Source:
    """A table as it was read.

    `place` is a SOURCE that works from any folder, `digest` the SHA-256 of the content, by which a later reader tells
    that the data changed, `target` the column that the source itself calls its target. Paths in the table are relative
    to `folder`.
    """

    place: str
    table: pa.Table
    digest: str
    target: str | None = None
    folder: Path | None = None


def read(source: str, *, delimiter: str | None = None) -> Source:
    """The table behind `source`: a file, a folder of images, or `sklearn:NAME`.

    Raises InputError: no such file or bundled table, not readable as its type, arrays that do not belong together.
    """
    if source.startswith(SKLEARN):
        return _sklearn(source.removeprefix(SKLEARN))
    path = Path(source).expanduser()
    if path.is_dir():
        table = tables.read(path)
        target = folders.LABEL if folders.LABEL in table.column_names else None
        return Source(str(path.absolute()), table, _digest(table), target, path.absolute())
    if path.name.lower().endswith(".npz"):
        table, target = _npz(path)
    else:
        table, target = tables.read(path, delimiter=delimiter), None
    return Source(str(path.absolute()), table, integrity.digest(path), target, path.absolute().parent)


def default_name(source: str) -> str:
    """What a run of `source` is called: the file's stem, or the name of the folder or bundled table."""
    if source.startswith(SKLEARN):
        return source.removeprefix(SKLEARN)
    if Path(source).is_dir():
        return Path(source).resolve().name
    name = Path(source).name
    return name[: -len(tables.suffix(Path(source)))] or name


def _sklearn(name: str) -> Source:
    if name not in SKLEARN_TABLES:
        known = ", ".join(SKLEARN + table for table in SKLEARN_TABLES)
        raise InputError(f"{SKLEARN}{name}: no such table{nearest(name, SKLEARN_TABLES)}; there are {known}")
    from sklearn import datasets

    bunch = getattr(datasets, f"load_{name}")()
    target = bunch.target if name == "diabetes" else np.asarray(bunch.target_names)[bunch.target]
    columns = {str(name): bunch.data[:, index] for index, name in enumerate(bunch.feature_names)}
    table = pa.table({**columns, "target": target})
    return Source(SKLEARN + name, table, _digest(table), "target")


def _npz(path: Path) -> tuple[pa.Table, str | None]:
    """Arrays as columns, and the target's name.

    X_train, y_train, X_test, y_test (and X_validation, y_validation) become one table whose column `split` names the
    part; `classes` are the names of the whole numbers in y.
    """
    arrays = tables.load_arrays(path)
    names = arrays.pop("classes", None) if "y" in arrays or "y_train" in arrays else None
    if "X_train" in arrays:
        arrays = _joined(path, arrays)
    if names is not None and "y" in arrays:
        arrays["y"] = _named(path, arrays["y"], names)
    table = tables.from_arrays(path, arrays)
    if not len(table):
        raise InputError(f"{path}: no rows")
    return table, "y" if "y" in arrays else None


def _joined(path: Path, arrays: dict[str, npt.NDArray[Any]]) -> dict[str, npt.NDArray[Any]]:
    parts = [part for part in PARTS if f"X_{part}" in arrays]
    expected = [f"{stem}_{part}" for part in parts for stem in ("X", "y")]
    if sorted(expected) != sorted(arrays):
        raise InputError(f"{path}: expected the arrays {', '.join(expected)}, found {', '.join(sorted(arrays))}")
    shown = {name: arrays[name].shape for name in expected}
    if not all(shown.values()):
        raise InputError(f"{path}: expected arrays with a row for each example, found {shown}")
    rows = {part: (len(arrays[f"X_{part}"]), len(arrays[f"y_{part}"])) for part in parts}
    shapes = {part: arrays[f"X_{part}"].shape[1:] for part in parts}
    if any(features != labels for features, labels in rows.values()) or len(set(shapes.values())) > 1:
        raise InputError(f"{path}: expected X and y of one length in each part and one width, found {shown}")
    try:
        joined = {stem: np.concatenate([arrays[f"{stem}_{part}"] for part in parts]) for stem in ("X", "y")}
    except (ValueError, TypeError) as error:
        raise InputError(f"{path}: X and y of the parts cannot be put together: {error}") from error
    return {**joined, "split": np.repeat(parts, [rows[part][0] for part in parts])}


def _named(path: Path, codes: npt.NDArray[Any], names: npt.NDArray[Any]) -> npt.NDArray[Any]:
    if names.ndim != 1:
        raise InputError(f"{path}: classes: expected one dimension, found shape {names.shape}")
    if not (codes.dtype.kind in "iu" and codes.size and 0 <= codes.min() <= codes.max() < len(names)):
        raise InputError(f"{path}: expected y to be whole numbers from 0 to {len(names) - 1}, places in `classes`")
    named: npt.NDArray[Any] = names[codes]
    return named


def _digest(table: pa.Table) -> str:
    content = hashlib.sha256()
    for name in table.column_names:
        content.update(name.encode())
        content.update(np.asarray(table.column(name)).astype(str).tobytes())
    return content.hexdigest()
