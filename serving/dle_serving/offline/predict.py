"""Predicts the rows of a file, with the same decoding and the same graph as the service: the work of `dle-predict`.

The output is written to a temporary file and renamed at the end, so it is never incomplete; an existing file is
replaced. With `errors`, invalid rows are reported there and left out of the output; the other rows keep their order.
"""

import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from msgspec.structs import replace

from dle_bundle import bundle as bundles
from dle_bundle.errors import InputError, counted
from dle_bundle.tables import folders, forecast_tables, prediction_columns, source_files
from dle_bundle.tables.source_files import STDIN, Place
from dle_serving.models.runtime import Model
from dle_serving.offline.loaded import answers
from dle_serving.offline.out_of_range import OutOfRange
from dle_serving.offline.prediction_files import PREDICTION_SUFFIXES, TableWriter, fault_report, writer
from dle_serving.offline.reading import Reader
from dle_serving.offline.unseen import Unseen
from dle_serving.settings import Device


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
    1), field, code, message. The output then begins with the row, unless its rows are series. With several files, the
    name of the file comes before the row, and rows count in each file. `sheet` is that of a workbook, if not the one
    that training read.

    Raises InputError for a wrong bundle, source, suffix or column, and if `errors` takes all rows; `out` is not written
    then. Raises RowFaults with every fault when rows are invalid and `errors` is None; nothing is written then.
    """
    started = time.perf_counter()
    paths = source_files.listed(source)
    suffix = _check_paths(paths, out, errors)
    loaded = bundles.load(bundle)
    schema, model = loaded.schema, Model(loaded, device)
    if sheet is not None:
        schema = replace(schema, text_format=replace(schema.text_format, sheet=sheet))
    replaced = tuple(path for path in (out, errors) if path is not None and path.exists())
    predicted, steps = 0, None
    with ExitStack() as stack:
        files = stack.enter_context(source_files.opened(paths))
        files.check_sheet(sheet)
        reader = Reader(files, schema, keep, suffix, reported=errors is not None)
        report = None if errors is None else stack.enter_context(fault_report(errors, named=len(paths) > 1))
        output: TableWriter | None = None
        for part in reader.parts():
            if report is not None:
                report(part.faults)
            if not len(part.table) or reader.faults.fatal:
                continue
            answered = prediction_columns.table(answers(model, part.groups), part.table, schema, reader.keep)
            if output is None:
                output = stack.enter_context(writer(out, suffix))
            output.write(part.placed(answered))
            predicted += len(part.table)
            if forecast_tables.has_times(part.table, schema):
                steps = predicted * schema.outputs.horizon
        reader.faults.check()
        left_out = folders.left_out(files.folder) if files.is_folder else ()
    if reader.rows and not predicted:
        raise InputError(f"Nothing was predicted: all {counted(reader.rows, 'row')} have faults, which are in {errors}")
    return Summary(
        rows=reader.rows,
        predicted=predicted,
        steps=steps,
        faulty=reader.faults.rows,
        faults=reader.faults.count,
        ignored=reader.ignored,
        absent=reader.absent,
        replaced=replaced,
        unseen=reader.unseen.found(),
        out_of_range=reader.out_of_range.found(reader.bare.without_unit()),
        left_out=left_out,
        notes=(*reader.notes, *reader.bare.notes()),
        provider=model.provider,
        seconds=time.perf_counter() - started,
    )


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
