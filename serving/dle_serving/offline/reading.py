"""Reads a source for `dle-predict`, part by part: valid rows for the model, faults, and what a user must know.

Files are read in parts, except for long tables, whose series may be spread over the file; each of their rows is one
series.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
from msgspec.structs import replace

from dle_bundle.errors import Fault, InputError, RowFaults, few, nearest
from dle_bundle.groups import Groups
from dle_bundle.schema import Schema
from dle_bundle.tables import folders, forecast_tables, prediction_columns
from dle_bundle.tables.columns import Column, is_date, is_number, is_text, to_groups
from dle_bundle.tables.forecast_tables import SeriesRows
from dle_bundle.tables.source_files import ONE_FILE, FileRows, Part, SourceFiles
from dle_serving.offline.bare_numbers import BareNumbers
from dle_serving.offline.out_of_range import ValuesOutOfRange
from dle_serving.offline.unseen import UnseenCategories

FILE, ROW = "file", "row"
"""The columns that say which row of the source a row of the output or a fault belongs to."""
_PART_ROWS, _PART_CELLS = 65_536, 1 << 26
"""Maximum number of rows, and of pixels in them, that are read at once."""
_SERIES_ROWS = 4_096
"""Maximum number of rows with series that are read at once, since series are padded to the longest."""
_MOST_FAULTS = 100_000
"""Reading stops after this many faults, since those of a wrong file could fill the memory."""
_LISTED = 10


@dataclass(frozen=True, slots=True)
class Decoded:
    """The valid rows of one part, and the faults of the others.

    `groups` are the inputs of the model, `table` has the same rows, and `places` the columns that say where they come
    from, if the output needs them.
    """

    groups: Groups
    table: pa.Table
    places: dict[str, Column]
    faults: list[Fault]

    def placed(self, answered: pa.Table) -> pa.Table:
        """The answers to the rows, with their places before them."""
        return pa.table({**self.places, **dict(zip(answered.column_names, answered.columns, strict=True))})


class Reader:
    """Reads the rows of a source by a schema, once, and keeps account of what it finds.

    `keep` are the columns that the output begins with, `rows` the number of rows that were read. `faults`, `ignored`,
    `absent`, `notes`, `unseen`, `out_of_range` and `bare` become parts of `Summary`.
    """

    def __init__(self, files: SourceFiles, schema: Schema, keep: Sequence[str], suffix: str, *, reported: bool) -> None:
        """`suffix` is that of the output. `reported`: faults go to a report, and the output says where its rows are.

        Raises InputError if the files are images that the model does not take, or if their format is unclear.
        """
        _check_images(files, schema)
        self._files, self._schema, self._suffix, self._reported = files, schema, suffix, reported
        self.notes = files.detect(schema.text_format, proposing=False).notes
        self.keep = tuple(keep)
        self.rows = 0
        self.ignored: tuple[str, ...] = ()
        self.absent: tuple[str, ...] = ()
        self.faults = Faults(reported)
        self.unseen, self.out_of_range = UnseenCategories(schema), ValuesOutOfRange(schema)
        self.bare = BareNumbers(schema)

    def parts(self) -> Iterator[Decoded]:
        """Decode the rows, part by part, in order.

        Raises InputError for a source or kept columns that cannot be used, and RowFaults for required columns that are
        absent, or for too many faults.
        """
        schema = self._schema
        for part, series, rows in self._tables():
            table = part.table
            places = self._places(part) if series is None and self._reported else {}
            if not self.rows:
                self._begin(table, places)
            self.rows += len(table)
            self.notes = tuple(dict.fromkeys((*self.notes, *forecast_tables.notes(table, schema))))
            groups, found = to_groups(table, schema, part.first_row, folder=self._files.folder)
            self._check_columns(found)
            if series is None:
                located = [replace(fault, file=part.file) for fault in found]
            else:
                located = [rows.placed(place) for fault in found for place in series.located(fault, schema, 1)]
            good = self.faults.take(found, located, part.first_row, len(table))
            if good is not None:
                kept = pa.array(np.flatnonzero(good))
                groups, table = groups.take(good), table.take(kept)
                places = {name: column.take(kept) for name, column in places.items()}
            self.unseen.add(groups)
            self.out_of_range.add(groups)
            self.bare.add(table)
            yield Decoded(groups, table, places, located)

    def _tables(self) -> Iterator[tuple[Part, SeriesRows | None, FileRows]]:
        """The parts of the source; those of a long table hold a row for each of its series, which come with them."""
        schema, files, rows = self._schema, self._files, _rows_of_a_part(self._schema)
        if schema.layout is None:
            for part in files.stream(schema.text_format, rows=rows, proposing=False):
                if files.are_images:  # rename it to the input's name in training
                    part = Part(part.table.rename_columns({folders.IMAGE: schema.image[0].name}), part.first_row)
                yield part, None, ONE_FILE
            return
        parts = list(files.stream(schema.text_format, proposing=False))
        if not forecast_tables.is_long(parts[0].table, schema):
            for part in parts:
                for start in range(0, len(part.table), rows):
                    yield Part(part.table.slice(start, rows), part.first_row + start, part.file), None, ONE_FILE
            return
        whole = pa.concat_tables([part.table for part in parts], promote_options="permissive")
        _check_present(self.keep, whole.column_names)
        of_files = FileRows.of(parts)
        with of_files.naming():
            series = forecast_tables.rows(whole, schema, self.keep)
        self.unseen.add_steps(whole)
        for start in range(0, len(series.table), rows):
            yield Part(series.table.slice(start, rows), start + 1), series, of_files

    def _begin(self, table: pa.Table, places: dict[str, Column]) -> None:
        """Check what is kept, and find out what is ignored and absent, by the first part."""
        schema, present = self._schema, table.column_names
        taken = [*places, *prediction_columns.taken(schema)]
        twice = sorted({name for name in self.keep if self.keep.count(name) > 1 or name in taken})
        if twice:
            raise InputError(
                f"--keep {', '.join(twice)}: the output would have two columns with the same name; its own are "
                f"{few(taken, _LISTED)}"
            )
        _check_present(self.keep, present)
        self.keep = self.keep or tuple(name for name in self._named_by(table) if name not in taken)
        known = {field.name for field in schema.inputs} | set(self.keep)
        if schema.layout is not None:
            known |= {name for name in (schema.layout.sequence_id, schema.layout.time) if name is not None}
        self.ignored = tuple(name for name in present if name not in known)
        self.absent = tuple(field.name for field in schema.inputs if field.name not in present)
        columns = prediction_columns.before(table, schema, self.keep)
        wide = [name for name, each in columns.items() if not (is_text(each) or is_number(each) or is_date(each))]
        if wide and self._suffix != ".parquet":
            raise InputError(
                f"--keep {', '.join(wide)}: not text, numbers or dates; only a .parquet file can hold such columns"
            )

    def _check_columns(self, found: list[Fault]) -> None:
        """Raise RowFaults for required columns that are absent.

        It has the notes on the files, since the cause may be a separator or another sheet.
        """
        absent = [fault for fault in found if fault.row is None]
        if absent:
            error = RowFaults(absent, columns=True)
            error.details = (*error.details, *self.notes)
            raise error

    def _named_by(self, table: pa.Table) -> tuple[str, ...]:
        """The column that identifies each row of the output when it is not simply a row of the source file."""
        if self._files.are_images:
            return (self._schema.image[0].name,)
        return prediction_columns.series_name(table, self._schema)

    def _places(self, part: Part) -> dict[str, Column]:
        """The columns that say where the rows of a part are."""
        rows = np.arange(part.first_row, part.first_row + len(part.table))
        named = {} if part.file is None else {FILE: pa.array([part.file] * len(rows), pa.large_string())}
        return {**named, ROW: pa.array(rows)}


class Faults:
    """The faults so far: collected for one error at the end, or only counted if they are written to a report."""

    def __init__(self, reported: bool) -> None:
        self._reported = reported
        self._kept: list[Fault] = []
        self.count = self.rows = 0

    @property
    def fatal(self) -> bool:
        """Whether the run will fail, so that no output is needed."""
        return bool(self._kept)

    def take(self, found: list[Fault], located: list[Fault], first: int, count: int) -> Any:
        """Add the faults of one part; returns the mask (count,) of its valid rows, or None when all are valid.

        The rows in `found` are those of the part, from `first`; `located` names them as the user does.
        """
        if not found:
            return None
        good = np.ones(count, dtype=bool)
        good[[fault.row - first for fault in found if fault.row is not None]] = False
        self.count += len(located)
        self.rows += int((~good).sum())
        if not self._reported:
            self._kept += located
            if len(self._kept) > _MOST_FAULTS:
                raise RowFaults(self._kept[:_MOST_FAULTS], more=True)
        return good

    def check(self) -> None:
        """Raise RowFaults when faults were collected."""
        if self._kept:
            raise RowFaults(self._kept)


def _rows_of_a_part(schema: Schema) -> int:
    rows = _SERIES_ROWS if schema.sequence else _PART_ROWS
    shapes = [field.image for field in schema.image if field.image is not None]
    pixels = sum(shape.channels * shape.height * shape.width for shape in shapes)
    return max(1, min(rows, _PART_CELLS // pixels)) if pixels else rows


def _check_images(files: SourceFiles, schema: Schema) -> None:
    """Raise InputError if the source consists of images, and the model has no image input, or several."""
    if not files.are_images or len(schema.image) == 1:
        return
    inputs = few([field.name for field in schema.image or schema.inputs], _LISTED)
    if schema.image:
        raise InputError(f"the source holds images, but the model needs several: give a table with paths for {inputs}")
    raise InputError(f"the source holds images, but the model has no image input; its inputs are {inputs}")


def _check_present(keep: Sequence[str], present: Sequence[str]) -> None:
    absent = [f"{name}{nearest(name, present)}" for name in keep if name not in present]
    if absent:
        raise InputError(f"--keep: no such column; the source has {', '.join(present)}", absent)
