"""Load the dataset: read the source, find the target, infer the inputs, split the rows and compute statistics.

The schema and the preprocessing learn from the training part alone; the other parts only have to be readable.
`read_labelled` reads another table by the schema of a run, for evaluation.
"""

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, replace
from typing import Any, Literal

import msgspec
import numpy as np
import numpy.typing as npt
import pyarrow as pa

from dle_bundle.errors import InputError, RowFaults, combined
from dle_bundle.groups import MISSING_TIME, Groups
from dle_bundle.schema import Field, Schema, TextFormat
from dle_bundle.tables import columns
from dle_training.config.run_config import RunConfig
from dle_training.data import column_roles, missing_target, sources, target
from dle_training.data.column_roles import Arranged
from dle_training.data.columns import column_settings, inference, statistics, telling_columns
from dle_training.data.columns.inference import InferredInputs
from dle_training.data.columns.kinds import Reading
from dle_training.data.columns.telling_columns import Found
from dle_training.data.images import pictures
from dle_training.data.images.image_rows import ImageRows
from dle_training.data.images.pictures import Pictures
from dle_training.data.rows import repeated_rows
from dle_training.data.series import forecastable, series_shapes, telling_covariates, windows
from dle_training.data.sources import Place, Source
from dle_training.data.splits import blocks, repeated_entities, split
from dle_training.data.splits.blocks import Blocks
from dle_training.data.splits.split import Split, Strata
from dle_training.data.target import Target, Values
from dle_training.scoring.forecast_baselines import Baselines, Fitted

PartName = Literal["train", "validation", "test"]


@dataclass(frozen=True, slots=True)
class Labelled:
    """The N rows of a table that have a target: inputs, and labels (str, int or bool) or float64 values (N,)."""

    groups: Groups
    target: Values
    notes: tuple[str, ...]
    baselines: Baselines | None = None


@dataclass(frozen=True, slots=True)
class Dataset:
    """The data of a training: inputs, targets, schema and split.

    `groups` and `target` hold all N rows of the source, so that a row has one number everywhere; a row without a target
    (label None, value NaN) is in no part of `split`. `source` can be opened from any folder, `digest` is the SHA-256 of
    its content. `split_by` is how the rows were split, `blocks` are the rows that a split keeps together (None: rows
    are independent), `baselines` are those of a forecast, `dropped` gives the reason for each column that is not an
    input, `notes` are shown to the user, `warnings` before them.
    """

    source: Place
    digest: str
    schema: Schema
    groups: Groups
    target: Values
    split: Split
    split_by: str
    dropped: dict[str, str]
    notes: tuple[str, ...]
    blocks: Blocks | None = None
    baselines: Baselines | None = None
    warnings: tuple[str, ...] = ()

    def part(self, name: PartName) -> tuple[Groups, Values]:
        """Inputs and target of the rows of one part. Images in memory are not copied."""
        rows, groups = self.split.rows(name), self.groups
        if isinstance(groups.image, np.ndarray):
            groups = replace(groups, image=ImageRows(groups.image, np.arange(len(groups))))
        return groups.take(rows), self.target[rows]

    def actual(self, rows: npt.NDArray[np.int64]) -> Values:
        """Return the targets of `rows` in the form that metrics expect: class indices, or values."""
        classes = self.schema.outputs.classes
        return self.target[rows] if classes is None else target.class_index(self.target[rows], classes)

    def with_split(self, split: Split) -> "Dataset":
        """The same rows in other parts, such as a fold of cross-validation.

        The schema keeps the ranges and categories of the training part of `self`; they describe inputs, not targets.
        """
        return replace(self, split=split)


def load(config: RunConfig, source: Source | None = None) -> Dataset:
    """Read and prepare `config.data.source`, or prepare `source` if it has been read already.

    Raises InputError if the source, the configured columns, the target or the inputs are invalid.
    """
    source = source or _source(config)
    name, chosen = _target_name(source, config)
    common = column_settings.of(column_settings.EVERY_COLUMN, config.data)
    with source.files.naming():
        arranged = column_roles.arrange(source.table, config, name, common.na_values)
    with source.files.naming() if arranged.layout is None else nullcontext():  # series are rows of another table
        understood = _understand(arranged, source.table.column_names, name, config)
        shaped = _shape(understood, arranged, source, config, common.na_values)
    goal, inputs = understood.goal, understood.inputs
    parts = _split(arranged.table, understood, shaped.known, config)

    draft = Schema(
        inputs=shaped.fields,
        outputs=goal.outputs,
        na_values=common.na_values,
        na_texts=common.na_texts,
        text_format=_text_format(source, name),
        layout=arranged.layout,
    )
    series = _series(arranged.table, draft, shaped.known)
    read = _ReadColumns(inputs.readings, np.flatnonzero(goal.known), series)
    training = read.grouped(draft).take(parts.train)  # without images, which have no statistics
    schema, empty, rare = statistics.complete(draft, training, config.preprocessing.max_categories)
    dropped = _dropped(arranged, inputs, empty)
    if not schema.inputs:
        raise inference.no_inputs(dropped)

    groups = read.grouped(schema)
    telling = _telling(groups, parts, understood, arranged, schema, config)
    repeated = repeated_rows.warning(groups, goal.values, parts)
    split_notes = _split_notes(arranged, understood, name, config)
    notes = (
        *(*source.notes, chosen, *arranged.notes, *goal.notes, *shaped.skipped, *split_notes),
        *(*inputs.notes, *shaped.notes, *rare, *telling.notes),
    )
    return Dataset(
        source=source.place,
        digest=_digest(source, shaped, arranged.table, common.na_values),
        schema=schema,
        groups=replace(groups, image=None if shaped.images is None else shaped.images.images),
        target=goal.values,
        split=parts,
        split_by=understood.by.name,
        dropped=dropped,
        notes=tuple(note for note in notes if note),
        blocks=arranged.blocks or understood.blocks,
        baselines=arranged.baselines,
        warnings=(*telling.warnings, *([repeated] if repeated else [])),
    )


@dataclass(frozen=True, slots=True)
class _Understood:
    """What the columns of a table mean: the target, how rows are split, which rows belong together, and the inputs."""

    goal: Target
    by: split.SplitRule
    blocks: Blocks | None
    inputs: InferredInputs


@dataclass(frozen=True, slots=True)
class _Shaped:
    """The inputs with the shapes of their images and series.

    `known` (N,) marks the rows with a target and readable images, `skipped` are notes on the others.
    """

    fields: tuple[Field, ...]
    images: Pictures | None
    known: npt.NDArray[np.bool_]
    skipped: tuple[str, ...]
    notes: tuple[str, ...]


def _source(config: RunConfig) -> Source:
    if config.data.source is None:
        raise InputError("no data: name files, a folder of images or sklearn:NAME")
    return sources.read(config.data.source, config.data.text_format)


def _target_name(source: Source, config: RunConfig) -> tuple[str, str | None]:
    """The name of the target, and a note if the user did not give it."""
    wanted = config.data.target
    try:
        return target.choose(source.table.column_names, wanted, source.target)
    except InputError as error:
        cure = missing_target.cure(source, config.data.text_format, wanted) if wanted is not None else ""
        raise InputError(f"{error.message}{cure}", error.details) from None


def _shape(
    understood: _Understood, arranged: Arranged, source: Source, config: RunConfig, na_values: tuple[str, ...]
) -> _Shaped:
    """Read the images, and find the shapes of images and series in the training rows."""
    goal, table = understood.goal, arranged.table
    trains = split.may_train(table, understood.by.name)
    fields, notes = pictures.shaped(
        understood.inputs.fields, table, trains, source.folder, config.preprocessing, na_values
    )
    fields = series_shapes.shaped(fields, table, arranged.layout)
    images = pictures.read(fields, table, source.folder, config, na_values)
    labels = None if goal.outputs.classes is None else goal.values
    known, skipped = pictures.check(images, goal.known, config, labels)
    return _Shaped(fields, images, known, skipped, tuple(notes))


def _split(table: pa.Table, understood: _Understood, known: npt.NDArray[np.bool_], config: RunConfig) -> Split:
    outputs, strata = understood.goal.outputs, None
    if outputs.classes is not None:
        strata = Strata(target.class_index(understood.goal.values[known], outputs.classes), outputs.classes)
    rows = np.flatnonzero(known)
    return split.make(table, rows, understood.by.name, config.split, config.seed, strata, understood.blocks)


def _telling(
    groups: Groups, parts: Split, understood: _Understood, arranged: Arranged, schema: Schema, config: RunConfig
) -> Found:
    """Inputs that tell the target alone, by the training rows."""
    goal, training = understood.goal, groups.take(parts.train)
    trained = goal.values[parts.train]
    if goal.outputs.classes is not None:
        trained = target.class_index(trained, goal.outputs.classes)
    if arranged.baselines is None:
        return telling_columns.find(training, trained, schema, config.data)
    beside = arranged.baselines.take(parts.train)
    return Found(telling_covariates.find(training, trained, schema, config.data, beside))


def _makes_split(arranged: Arranged) -> bool:
    """Whether `windows.make` added the split column of a forecast, which its own note describes."""
    return arranged.layout is not None and arranged.layout.window is not None


def _dropped(arranged: Arranged, inputs: InferredInputs, empty: dict[str, str]) -> dict[str, str]:
    made = {windows.SPLIT} if _makes_split(arranged) else set()
    return {name: why for name, why in (arranged.dropped | inputs.dropped | empty).items() if name not in made}


def _split_notes(arranged: Arranged, understood: _Understood, name: str, config: RunConfig) -> list[str | None]:
    """Notes on how rows are split, on other ways to use them, and on the rows that belong together."""
    goal, by, found = understood.goal, understood.by, understood.blocks
    readings, values, classes = understood.inputs.readings, goal.values[goal.known], goal.outputs.classes is not None
    notes: list[str | None] = []
    if not _makes_split(arranged):
        notes.append(by.note or split.later_rows(by.name, config.split, readings, values, classes=classes))
    if arranged.layout is None:
        notes += repeated_entities.notes(readings, values, by.name, config)
        if not classes:
            notes.append(forecastable.note(readings, values, name, by.name, config))
    return [*notes, found.note if found else None]


def _digest(source: Source, shaped: _Shaped, table: pa.Table, na_values: tuple[str, ...]) -> str:
    digests = {} if shaped.images is None else shaped.images.digests
    return pictures.digest(source.digest, shaped.fields, table, source.folder, na_values, digests)


def read_labelled(found: Source, schema: Schema, config: RunConfig, fitted: Fitted | None = None) -> Labelled:
    """Read the rows of the source `found` that have a target, by the schema of a run instead of by inference.

    `fitted` are the baselines of a forecast, from the run.

    Raises InputError if the target column is missing, a label is not a class or no row has a target. Raises RowFaults,
    with all faults of all rows, if inputs do not fit the schema.
    """
    name, _ = target.choose(found.table.column_names, schema.outputs.target, None)
    with found.files.naming():
        arranged = column_roles.rearrange(found.table, schema, name, fitted)
    with found.files.naming() if schema.layout is None else nullcontext():
        return _labelled(found, arranged, name, schema, config)


def _labelled(found: Source, arranged: Arranged, name: str, schema: Schema, config: RunConfig) -> Labelled:
    table = arranged.table
    column = table.column(name)
    if schema.outputs.classes is None:
        values, known = target.values(column, schema.outputs)
    else:
        values, known = target.labels(column, schema.outputs)
    if not known.any():
        raise InputError(f"{name!r}: the target has no value in any row")
    images = pictures.read(schema.inputs, table, found.folder, config, schema.na_values)
    usable, skipped = pictures.check(images, known, config, None)
    groups = _by_schema(table, schema, usable, images)
    beside = None if arranged.baselines is None else arranged.baselines.take(np.flatnonzero(usable))
    absent = [field.name for field in schema.inputs if field.name not in table.column_names]
    lacking = (f"no column of the table, so missing in all rows: {', '.join(absent)}",) if absent else ()
    notes = (*target.missing_note(name, known), *skipped, *lacking)
    return Labelled(groups.take(usable), values[usable], notes, beside)


def _text_format(source: Source, target: str) -> TextFormat:
    """Return the format of later files, which may lack the target if its place is the last one."""
    written = source.text_format
    if written.columns is None or target != f"c{max(written.columns)}":
        return written
    return msgspec.structs.replace(written, columns=(max(written.columns) - 1, max(written.columns)))


def digest(found: Source, schema: Schema) -> str:
    """Return the digest that `load` computes for `found` if it holds the data of this schema. Raises InputError."""
    if not schema.image:
        return found.digest
    name, _ = target.choose(found.table.column_names, schema.outputs.target, None)
    table = column_roles.rearrange(found.table, schema, name).table
    return pictures.digest(found.digest, schema.inputs, table, found.folder, schema.na_values, {})


def _understand(arranged: Arranged, columns_of_source: list[str], name: str, config: RunConfig) -> _Understood:
    """Return what the columns mean, or raise one InputError that reports all their problems."""
    table, config = arranged.table, arranged.forecasting(config)
    errors: list[InputError] = []
    goal, inputs, by, found = None, None, None, None
    with _collected(errors):
        inference.check_names(config.data, columns_of_source, name)
    with _collected(errors):
        goal = target.infer(name, table.column(name), column_settings.of(name, config.data), config.objective.task)
    known = goal.known if goal is not None else np.ones(len(table), dtype=bool)
    with _collected(errors):
        by = split.choose(table, config.split, goal is None or goal.outputs.classes is not None)
        found = blocks.read(table, by.name, name, known, config.data)
    with _collected(errors):
        apart = {name: ""} | split.apart(table, config.split)
        inputs = inference.infer(table.filter(pa.array(known)), config.data, np.flatnonzero(known), apart)
    if errors:
        raise combined(f"{len(errors)} problems must be fixed before training", errors)
    assert goal is not None
    assert by is not None
    assert inputs is not None
    if arranged.layout is not None and (written := arranged.layout.number_formats.get(name)) is not None:
        goal = replace(goal, outputs=msgspec.structs.replace(goal.outputs, unit=written.unit or None))
    return _Understood(goal, by, found, inputs)


@contextmanager
def _collected(errors: list[InputError]) -> Iterator[None]:
    try:
        yield
    except InputError as error:
        errors.append(error)


@dataclass(frozen=True, slots=True)
class _ReadColumns:
    """The columns that inference has read, at the positions `rows` (M,), and the series of all rows."""

    readings: dict[str, Reading]
    rows: npt.NDArray[np.int64]
    series: Groups

    def grouped(self, schema: Schema) -> Groups:
        """Return groups of all rows, without images; rows that inference did not read hold missing values."""
        return replace(
            self.series,
            numeric=self._side_by_side(schema.numeric, np.nan, np.float64),
            categorical=self._side_by_side(schema.categorical, "", object),
            datetime=self._side_by_side(schema.datetime, MISSING_TIME, np.int64),
            text=self._side_by_side(schema.text, "", object) if schema.text else None,
        )

    def _side_by_side(self, fields: tuple[Field, ...], missing: object, dtype: Any) -> npt.NDArray[Any]:
        array = np.full((len(self.series), len(fields)), missing, dtype=dtype)
        for index, field in enumerate(fields):
            array[self.rows, index] = self.readings[field.name].values
        return array


def _series(table: pa.Table, schema: Schema, known: npt.NDArray[np.bool_]) -> Groups:
    """Return only the series of all rows. Raises RowFaults as `_by_schema` does."""
    return _by_schema(table, msgspec.structs.replace(schema, inputs=(*schema.sequence, *schema.known)), known, None)


def _by_schema(table: pa.Table, schema: Schema, known: npt.NDArray[np.bool_], images: Pictures | None) -> Groups:
    """Return groups of all rows, with these images; raise RowFaults for faults in the rows that `known` (N,) marks."""
    groups, faults = columns.to_groups(table, schema, images=None if images is None else images.images)
    if wrong := [fault for fault in faults if fault.row is None or known[fault.row - 1]]:
        raise RowFaults(wrong, columns=all(fault.row is None for fault in wrong))
    return groups
