"""Predicts the rows of a file, with the same decoding and the same graph as the service: the work of `dle-predict`.

The output is written to a temporary file and renamed at the end, so it is never incomplete; an existing file is
replaced. With `errors`, invalid rows are reported there and left out of the output; the other rows keep their order.
Files are read in parts, except for long tables, whose series may be spread over the file; each row of their output is
one series.
"""

import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from msgspec.structs import replace

from dle_bundle import bundle as bundles
from dle_bundle.errors import Fault, InputError, RowFaults, counted, few, nearest
from dle_bundle.schema import Schema
from dle_bundle.tables import folders, forecast_tables, prediction_columns, source_files
from dle_bundle.tables.columns import is_date, is_number, is_text, to_groups
from dle_bundle.tables.source_files import STDIN, FileRows, Part, Place, SourceFiles
from dle_serving.models.runtime import Model
from dle_serving.offline.bare_numbers import BareNumbers
from dle_serving.offline.loaded import answers
from dle_serving.offline.out_of_range import OutOfRange, ValuesOutOfRange
from dle_serving.offline.prediction_files import PREDICTION_SUFFIXES, TableWriter, fault_report, writer
from dle_serving.offline.unseen import Unseen, UnseenCategories
from dle_serving.settings import Device

_PART_ROWS, _PART_CELLS = 65_536, 1 << 26
"""Maximum number of rows, and of pixels in them, that are read at once."""
_SERIES_ROWS = 4_096
"""Maximum number of rows with series that are read at once, since series are padded to the longest."""
_LISTED = 10
_MOST_FAULTS = 100_000
"""Reading stops after this many faults, since those of a wrong file could fill the memory."""


@dataclass(frozen=True, slots=True)
class Summary:
    """The result of a run.

    `ignored`: columns that are neither inputs of the model nor in `keep`. `absent`: optional inputs that are no column
    of the source, so they are missing in all rows. `replaced`: files that existed before.
    `steps`: the steps predicted for all `rows`, which are series, if the source is the long table of a forecast.
    `unseen`: columns with categories that did not occur in training. `out_of_range`: columns with numbers or dates
    outside of their range in training. `left_out`: files of a folder of images that are not named like images that can
    be read. `notes`: what was found in the files.
    """

    rows: int
    predicted: int
    steps: int | None
    faulty: int
    faults: int
    ignored: tuple[str, ...]
    absent: tuple[str, ...]
    replaced: tuple[Path, ...]
    unseen: tuple[Unseen, ...]
    out_of_range: tuple[OutOfRange, ...]
    left_out: tuple[Path, ...]
    notes: tuple[str, ...]
    provider: str
    seconds: float


def predict(
    bundle: Path,
    source: Place,
    out: Path,
    *,
    keep: Sequence[str] = (),
    errors: Path | None = None,
    sheet: str | None = None,
    device: Device = "auto",
) -> Summary:
    """Predict every row of `source` and write `out` (.csv[.gz], .tsv or .parquet).

    `source` is a table in one or several files, a file of arrays or a folder of images; image paths in a table are
    relative to the folder of the first file. The output begins with the columns in `keep`; without `keep`, with the
    paths for a folder of images and with the ids for a long table. Then follow `label, probability,
    probability_<class>…`, or `value`, or `value_1`, `value_2`, … for a forecast. The forecast of a long table has a row
    for each series and step, with its time and `value`. `errors` is a CSV file of the faults in invalid rows: row (from
    1), field, code, message. With several files, the name of the file comes first, and rows count in each file. `sheet`
    is that of a workbook, if not the one that training read.

    Raises InputError for a wrong bundle, source, suffix or column, and if `errors` takes all rows; `out` is not written
    then. Raises RowFaults with every fault when rows are invalid and `errors` is None; nothing is written then.
    """
    started = time.perf_counter()
    paths = source_files.listed(source)
    suffix = _check_paths(paths, out, errors)
    loaded = bundles.load(bundle)
    schema, model = loaded.schema, Model(loaded, device)
    _check_keep(keep, schema)
    replaced = tuple(path for path in (out, errors) if path is not None and path.exists())
    faults = _Faults(errors is not None)
    unseen, outside, bare = UnseenCategories(schema), ValuesOutOfRange(schema), BareNumbers(schema)
    rows = predicted = 0
    steps: int | None = None
    ignored: tuple[str, ...] = ()
    absent: tuple[str, ...] = ()
    with ExitStack() as stack:
        files = stack.enter_context(source_files.opened(paths))
        files.check_sheet(sheet)
        if sheet is not None:
            schema = replace(schema, text_format=replace(schema.text_format, sheet=sheet))
        _check_images(files, schema)
        notes = files.detect(schema.text_format, proposing=False).notes
        report = (
            None
            if errors is None
            else stack.enter_context(fault_report(errors, named=len(paths) > 1 and schema.layout is None))
        )
        output: TableWriter | None = None
        for part in _parts(files, schema, unseen):
            table = part.table
            if not rows:
                keep = keep or _named_by(table, files, schema)
                ignored = _ignored(table, keep, schema)
                absent = tuple(field.name for field in schema.inputs if field.name not in table.column_names)
                _check_kept(table, keep, suffix, schema)
            notes = tuple(dict.fromkeys((*notes, *forecast_tables.notes(table, schema))))
            groups, found = to_groups(table, schema, part.first_row, folder=files.folder)
            found = [replace(fault, file=part.file) for fault in found]
            good = faults.take(found, part.first_row, len(table))
            if report is not None:
                report(found)
            if good is not None:
                groups, table = groups.take(good), table.take(pa.array(np.flatnonzero(good)))
            rows += len(part.table)
            if len(table) and not faults.fatal:
                if output is None:
                    output = stack.enter_context(writer(out, suffix))
                predicted += len(table)
                if forecast_tables.has_times(table, schema):
                    steps = predicted * schema.outputs.horizon
                unseen.add(groups)
                outside.add(groups)
                bare.add(table)
                output.write(prediction_columns.table(answers(model, groups), table, schema, keep))
        faults.check()
        left_out = folders.left_out(files.folder) if files.is_folder else ()
    if rows and not predicted:
        raise InputError(f"Nothing was predicted: all {counted(rows, 'row')} have faults, which are in {errors}")
    seconds = time.perf_counter() - started
    return Summary(
        rows,
        predicted,
        steps,
        faults.rows,
        faults.count,
        ignored,
        absent,
        replaced,
        unseen.found(),
        outside.found(bare.without_unit()),
        left_out,
        (*notes, *bare.notes()),
        model.provider,
        seconds,
    )


def _parts(files: SourceFiles, schema: Schema, unseen: UnseenCategories) -> Iterator[Part]:
    """The source as tables with one row per prediction, in order; categories of steps are counted in `unseen`."""
    rows = _rows_of_a_part(schema)
    if schema.layout is not None:
        parts = list(files.stream(schema.text_format, proposing=False))
        whole = pa.concat_tables([part.table for part in parts], promote_options="permissive")
        with FileRows.of(parts).naming():
            table = forecast_tables.rows(whole, schema)
        unseen.add_steps(whole)
        yield from (Part(table.slice(start, rows), start + 1) for start in range(0, len(table), rows))
        return
    for part in files.stream(schema.text_format, rows=rows, proposing=False):
        if files.are_images:  # rename it to the input's name in training
            yield Part(part.table.rename_columns({folders.IMAGE: schema.image[0].name}), part.first_row)
        else:
            yield part


def _rows_of_a_part(schema: Schema) -> int:
    rows = _SERIES_ROWS if schema.sequence else _PART_ROWS
    shapes = [field.image for field in schema.image if field.image is not None]
    pixels = sum(shape.channels * shape.height * shape.width for shape in shapes)
    return max(1, min(rows, _PART_CELLS // pixels)) if pixels else rows


class _Faults:
    """The faults so far: collected for one error at the end, or only counted if they are written to a report."""

    def __init__(self, reported: bool) -> None:
        self._reported = reported
        self._kept: list[Fault] = []
        self.count = self.rows = 0

    @property
    def fatal(self) -> bool:
        """Whether the run will fail, so that no output is needed."""
        return bool(self._kept)

    def take(self, found: list[Fault], first: int, count: int) -> Any:
        """Add the faults of one part; returns the mask (count,) of its valid rows, or None when all are valid."""
        if any(fault.row is None for fault in found):
            raise RowFaults((fault for fault in found if fault.row is None), columns=True)
        if not found:
            return None
        good = np.ones(count, dtype=bool)
        good[[fault.row - first for fault in found if fault.row is not None]] = False
        self.count += len(found)
        self.rows += int((~good).sum())
        if not self._reported:
            self._kept += found
            if len(self._kept) > _MOST_FAULTS:
                raise RowFaults(self._kept[:_MOST_FAULTS], more=True)
        return good

    def check(self) -> None:
        """Raise RowFaults when faults were collected."""
        if self._kept:
            raise RowFaults(self._kept)


def _check_paths(sources: Sequence[Path], out: Path, errors: Path | None) -> str:
    suffix = next(
        (known for known in sorted(PREDICTION_SUFFIXES, key=len)[::-1] if out.name.lower().endswith(known)), None
    )
    faults = []
    if suffix is None:
        faults.append(f"{out}: expected a file ending in {', '.join(PREDICTION_SUFFIXES)}")
    if out.is_dir():
        faults.append(f"{out}: is a folder, not a file")
    read = [path for path in sources if str(path) != STDIN]
    places = [path.resolve() for path in (*read, out, errors) if path is not None]
    if len(set(places)) < len(places):
        faults.append("the source, the output and the errors must be different files")
    if faults:
        raise InputError("Nothing was predicted", faults)
    assert suffix is not None
    return suffix


def _check_images(files: SourceFiles, schema: Schema) -> None:
    """Raise InputError if the source consists of images, and the model has no image input, or several."""
    if not files.are_images or len(schema.image) == 1:
        return
    inputs = few([field.name for field in schema.image or schema.inputs], _LISTED)
    if schema.image:
        raise InputError(f"the source holds images, but the model needs several: give a table with paths for {inputs}")
    raise InputError(f"the source holds images, but the model has no image input; its inputs are {inputs}")


def _named_by(table: pa.Table, files: SourceFiles, schema: Schema) -> tuple[str, ...]:
    """The column that identifies each row of the output when it is not simply a row of the source file."""
    if files.are_images:
        name = schema.image[0].name
        return () if name in prediction_columns.names(schema.outputs) else (name,)
    return prediction_columns.series_name(table, schema)


def _check_keep(keep: Sequence[str], schema: Schema) -> None:
    twice = sorted({name for name in keep if keep.count(name) > 1 or name in prediction_columns.names(schema.outputs)})
    if twice:
        raise InputError(f"--keep {', '.join(twice)}: the output would have two columns with the same name")


def _ignored(table: pa.Table, keep: Sequence[str], schema: Schema) -> tuple[str, ...]:
    present = table.column_names
    absent = [f"{name}{nearest(name, present)}" for name in keep if name not in present]
    if absent:
        raise InputError(f"--keep: no such column; the source has {', '.join(present)}", absent)
    known = {field.name for field in schema.inputs} | set(keep)
    if schema.layout is not None:
        known |= {name for name in (schema.layout.sequence_id, schema.layout.time) if name is not None}
    return tuple(name for name in present if name not in known)


def _check_kept(table: pa.Table, keep: Sequence[str], suffix: str, schema: Schema) -> None:
    own = schema.layout.time if schema.layout is not None and forecast_tables.has_times(table, schema) else None
    columns = {name: table.column(name) for name in keep if name != own}
    wide = [name for name, column in columns.items() if not (is_text(column) or is_number(column) or is_date(column))]
    if wide and suffix != ".parquet":
        raise InputError(
            f"--keep {', '.join(wide)}: not text, numbers or dates; only a .parquet file can hold such columns"
        )
