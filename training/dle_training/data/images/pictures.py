"""The images of a source: their common shape and their pixels, kept in memory if they fit and as files otherwise.

All image columns of a table share one shape, so that they share one encoder.
"""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt
import pyarrow as pa

from dle_bundle import integrity
from dle_bundle.errors import InputError, counted, few, row_name
from dle_bundle.images.pixels import ImageSource, Remark
from dle_bundle.schema import Field, ImageShape
from dle_bundle.tables import image_columns
from dle_training.config.run_config import RunConfig
from dle_training.data.images import image_files, image_fit
from dle_training.preprocessing.settings import PreprocessingConfig
from dle_training.settings.proposals import setting

LARGEST_NATIVE = 96
DEFAULT_SIZE = 64
_GIB = 1 << 30
_LISTED, _NAMED = 20, 5
_REMARKS: dict[Remark, str] = {
    "frames": "several frames or pages, and the first is used",
    "dim": "16 bits but use at most a sixteenth of their levels, as images of 12 bits do; scaled to 8 bits, they are "
    "nearly black and keep 16 levels, so scale them to all 16 bits before",
}


@dataclass(frozen=True, slots=True)
class Pictures:
    """`images` as in `Groups.image`, for all N rows of the table.

    `broken` gives the reason for each row with a bad image, `remarks` the files (`""` = the content of one) that each
    remark is about, `digests` the SHA-256 of each file by its path.
    """

    images: Any
    broken: dict[int, str]
    remarks: dict[Remark, list[str]]
    digests: dict[str, str]


def shaped(
    fields: Sequence[Field],
    table: pa.Table,
    rows: npt.NDArray[np.bool_],
    folder: Path | None,
    config: PreprocessingConfig,
    na_values: Sequence[str],
) -> tuple[tuple[Field, ...], tuple[str, ...]]:
    """Return the fields, with the shape of image fields added, and a note on how images are fitted to it.

    Settings that are None are chosen from the images of the `rows` (N,).
    """
    names = [field.name for field in fields if field.kind == "image"]
    if not names:
        return tuple(fields), ()
    colours, sizes = _surveyed([table.column(name) for name in names], rows, folder, na_values)
    size, common = config.image_size, sizes[0] if len(set(sizes)) == 1 else None
    if size is not None:
        height, width = (size, size) if isinstance(size, int) else size
    elif common is not None and max(common) <= LARGEST_NATIVE:
        height, width = common
    else:
        height, width = DEFAULT_SIZE, DEFAULT_SIZE
    fit, note = config.image_fit, None
    if fit is None:
        fit, note = image_fit.choose(sizes, height, width)
    shape = ImageShape(channels=3 if any(colours) else 1, height=height, width=width, fit=fit)
    shaped = (msgspec.structs.replace(field, image=shape) if field.kind == "image" else field for field in fields)
    return tuple(shaped), () if note is None else (note,)


def read(
    fields: Sequence[Field], table: pa.Table, folder: Path | None, config: RunConfig, na_values: Sequence[str]
) -> Pictures | None:
    """The images of all rows; None without image columns. Broken images are black."""
    pictured = [field for field in fields if field.kind == "image"]
    if not pictured:
        return None
    shape = pictured[0].image
    assert shape is not None
    budget = int(config.data.image_memory * _GIB)
    digests: dict[str, str] = {}
    remarks: dict[Remark, list[str]] = {}

    def decode(sources: Sequence[Any], shape: ImageShape) -> tuple[Any, dict[int, str]]:
        found = image_files.read_all(sources, shape, memory_bytes=budget)
        digests.update(found.digests)
        for remark, indices in found.remarks.items():
            remarks.setdefault(remark, []).extend(_shown(sources[index], folder) for index in indices)
        return found.images, found.broken

    columns = [table.column(field.name) for field in pictured]
    images, faults, _ = image_columns.images(columns, shape, folder, na_values, decode)
    broken: dict[int, str] = {}
    for row, column, reason in faults:
        words = f"{image_columns.shown(columns[column], row)}: {reason}"
        broken[row] = f"{broken[row]}; {words}" if row in broken else words
    return Pictures(images, broken, remarks, digests)


def check(
    pictures: Pictures | None, known: npt.NDArray[np.bool_], config: RunConfig, labels: npt.NDArray[np.object_] | None
) -> tuple[npt.NDArray[np.bool_], tuple[str, ...]]:
    """Return the usable rows (N,) of `known`, and notes on unusable rows and on what was lost of others.

    Raises InputError that lists every broken image unless `data.skip_bad` is set; also, whatever is set, if no image of
    one of the `labels` (N,), or no image at all, can be read. `labels` are None for regression.
    """
    if pictures is None:
        return known, ()
    notes = tuple(_remark(remark, files) for remark, files in sorted(pictures.remarks.items()))
    broken = {row: why for row, why in pictures.broken.items() if known[row]}
    if not broken:
        return known, notes
    usable = known.copy()
    usable[list(broken)] = False
    _check_classes(broken, known, usable, labels)
    lines = [f"{row_name(row + 1)}: {why}" for row, why in sorted(broken.items())]
    more = [f"and {len(lines) - _LISTED:,} more"] if len(lines) > _LISTED else []
    if not config.data.skip_bad:
        found = f"{len(lines):,} of {counted(int(known.sum()), 'row')} {'has' if len(lines) == 1 else 'have'}"
        raise InputError(
            f"{found} an image that cannot be read; repair or remove such images, or set "
            f"{setting('data.skip_bad', True)} to leave them out",
            [*lines[:_LISTED], *more],
        )
    reasons = _first([broken[row] for row in sorted(broken)])
    left_out = (
        f"{len(broken):,} of {counted(int(known.sum()), 'row')} {'was' if len(broken) == 1 else 'were'} left out "
        f"for an image that cannot be read: {reasons}; to refuse such images, set {setting('data.skip_bad', False)}"
    )
    return usable, (left_out, *notes)


def _check_classes(
    broken: Mapping[int, str],
    known: npt.NDArray[np.bool_],
    usable: npt.NDArray[np.bool_],
    labels: npt.NDArray[np.object_] | None,
) -> None:
    """Raise InputError with every class that has `known` rows (N,) but no `usable` ones; without labels, for all."""
    named = np.full(len(known), "all rows", dtype=object) if labels is None else labels
    lost = {label: np.flatnonzero(known & (named == label)) for label in set(named[known]) - set(named[usable])}
    if not lost:
        return
    details = [
        f"{label}: {counted(len(rows), 'image')}: {_by_reason([broken[row] for row in rows.tolist()])}"
        for label, rows in sorted(lost.items(), key=lambda each: str(each[0]))
    ]
    if others := len(broken) - sum(map(len, lost.values())):
        details.append(f"other classes: {counted(others, 'image')}")
    names = sorted(map(str, lost))
    named_lost = names[0] if len(names) == 1 else f"the classes {few(names, _NAMED)}"
    raise InputError(
        f"no image of {named_lost} can be read; repair the files, or take the rows out of the data",
        details,
    )


def _remark(remark: Remark, files: Sequence[str]) -> str:
    names = _first([file for file in files if file])
    count = "1 image has" if len(files) == 1 else f"{len(files):,} images have"
    return f"{count} {_REMARKS[remark]}{names and f': {names}'}"


def _shown(source: ImageSource, folder: Path | None) -> str:
    if isinstance(source, bytes):
        return ""
    path = Path(source)
    return str(path.relative_to(folder)) if folder is not None and path.is_relative_to(folder) else source


def _by_reason(faults: Sequence[str]) -> str:
    """Each reason once, with the first images that have it; `faults` are `IMAGE: REASON`."""
    images: dict[str, list[str]] = {}
    for fault in faults:
        image, _, reason = fault.partition(": ")
        images.setdefault(reason, []).append(image)
    return _first([f"{reason} ({few(names, _NAMED)})" for reason, names in images.items()])


def _first(texts: Sequence[str]) -> str:
    return "; ".join(texts[:_NAMED]) + ("; …" if len(texts) > _NAMED else "")


def digest(
    source: str,
    fields: Sequence[Field],
    table: pa.Table,
    folder: Path | None,
    na_values: Sequence[str],
    known: Mapping[str, str],
) -> str:
    """SHA-256 of the digest of a source and the content of all image files that it names.

    `known` are the digests of files that were read already, by path; the others are read here.
    """
    paths = [
        path
        for field in fields
        if field.kind == "image"
        for path in image_columns.image_sources(table.column(field.name), folder, na_values)
        if isinstance(path, str)
    ]
    files = [path for path in paths if path in known or Path(path).is_file()]
    found = [known.get(file) or integrity.digest(Path(file)) for file in files]
    return hashlib.sha256("".join((source, *found)).encode()).hexdigest() if found else source


def _surveyed(
    columns: Sequence[Any], rows: npt.NDArray[np.bool_], folder: Path | None, na_values: Sequence[str]
) -> tuple[list[bool], list[tuple[int, int]]]:
    """Return, for some images of these rows (N,), whether they are in colour, and their heights and widths."""
    measured: list[tuple[bool, int, int]] = []
    files: list[ImageSource] = []
    for column in columns:
        array = image_columns.array_shape(column)
        measured += [] if array is None else [array] * min(int(rows.sum()), image_files.SURVEYED)
        sources = image_columns.image_sources(column, folder, na_values)
        files += [source for source, own in zip(sources, rows, strict=False) if own and source is not None]
    measured += image_files.survey(files)
    return [colour for colour, _, _ in measured], [(height, width) for _, height, width in measured]
