"""Prepares a training: reads the source, infers the schema, splits the rows and makes every open choice."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import msgspec
import numpy as np

from dle_bundle import documents
from dle_bundle import schema as schemas
from dle_bundle.errors import InputError
from dle_bundle.files import atomic_folder, write_atomic
from dle_bundle.images.pixels import ImageFiles
from dle_bundle.tables.source_files import STDIN
from dle_training.config import devices, run_config
from dle_training.config.resolve import resolve
from dle_training.config.run_config import RunConfig
from dle_training.data import dataset as datasets
from dle_training.data.dataset import Dataset
from dle_training.data.images import image_files
from dle_training.data.images.image_rows import ArrayStream
from dle_training.data.sources import Source, said, sent
from dle_training.data.splits import split as splits
from dle_training.fitting import loop
from dle_training.fitting.batches import ImageStream
from dle_training.models import mlp, registry
from dle_training.optimization import objectives
from dle_training.runs.folder import RunFolder, facts, read_facts, refuse_existing
from dle_training.scoring import metrics
from dle_training.settings import proposals
from dle_training.settings.base import chosen


@dataclass(frozen=True, slots=True)
class Plan:
    """What is trained within `minutes`: up to `epochs`, in the predicted `seconds`.

    `deadline` is the time of `time.monotonic` at which the network shall be trained; see `FitInputs`. `members` and
    `folds` are those of a pack, and None for other models.
    """

    minutes: float
    deadline: float
    seconds: float
    epochs: int
    members: int | None
    folds: int | None

    def document(self) -> dict[str, float | None]:
        """The plan for JSON: `predicted_seconds` are those of training."""
        return {
            "minutes": self.minutes,
            "predicted_seconds": self.seconds,
            "epochs": self.epochs,
            "members": self.members,
            "folds": self.folds,
        }

    def __str__(self) -> str:
        pack = "" if self.members is None else f"{self.members} members, "
        folds = f"{self.folds} folds, " if self.folds is not None and self.folds > 1 else ""
        return (
            f"Plan for {self.minutes:g} minutes: {pack}{folds}up to {self.epochs} epochs; predicted training time: "
            f"{self.seconds:.0f} s"
        )


@dataclass(frozen=True, slots=True)
class Prepared:
    """Data that is ready for training, and the configuration without open choices.

    `plan` is None if training takes as long as it takes.
    """

    config: RunConfig
    dataset: Dataset
    plan: Plan | None = None


def prepare(
    config: RunConfig, progress: image_files.ImageProgress | None = None, source: Source | None = None
) -> Prepared:
    """Read the source, infer the schema, split the rows and resolve the configuration.

    A `source` that has been read already is not read again.

    `progress(done, total)` is called while images are read. Raises InputError for any fault of source or configuration.
    """
    with image_files.reporting_to(progress):
        dataset = datasets.load(config, source)
    return resolved(config, dataset)


def resolved(config: RunConfig, dataset: Dataset) -> Prepared:
    """Return `dataset`, which was read by `config`, with the resolved configuration. Raises InputError as `prepare`."""
    change = msgspec.structs.replace
    layout = dataset.schema.layout
    season = config.data.season if layout is None else layout.season
    written = msgspec.structs.asdict(dataset.schema.text_format)
    del written["columns"]  # no setting
    known = change(
        config,
        data=change(config.data, source=dataset.source, season=season, **written),
        split=change(config.split, by=dataset.split_by),
    )
    complete = resolve(known, dataset.schema, len(dataset.split.train))
    _check_objective(complete, dataset)
    own = (*_idle_preset(known, complete, dataset), *_without_baseline(known, complete, dataset))
    notes = dict.fromkeys((*dataset.notes, *own))
    return Prepared(complete, replace(dataset, notes=tuple(notes)))


def _idle_preset(asked: RunConfig, resolved: RunConfig, dataset: Dataset) -> tuple[str, ...]:
    """A note that the preset fast has no effect, because another model of a table was asked for."""
    name, own = resolved.model.name, mlp.FAMILY.name
    if asked.preset != "fast" or registry.inputs(dataset.schema) != ("table",) or name == own:
        return ()
    trains = proposals.setting("model.name", own)
    return (f"preset=fast has no effect beside model.name={name}; {trains} trains the model of the preset",)


def _without_baseline(asked: RunConfig, resolved: RunConfig, dataset: Dataset) -> tuple[str, ...]:
    """A note that the table is too large for baselines that nobody asked for."""
    alone = registry.inputs(dataset.schema) == ("table",)
    if not alone or asked.training.baseline is not None or resolved.training.baseline:
        return ()
    trains = proposals.option("training.baseline", True)
    slow = "boosted trees may take more than a minute on this table"
    return (f"{slow}, so they and a linear model are not trained beside the model; {trains} trains them",)


def _check_objective(config: RunConfig, dataset: Dataset) -> None:
    """Raise InputError for a class weight without its class, or a metric undefined on the validation targets."""
    outputs = dataset.schema.outputs
    metric = metrics.METRICS[chosen(config.training.metric)]
    objectives.check_class_weights(outputs.classes, config.objective.class_weights)
    loop.check_meaning(metric, dataset.actual(dataset.split.validation), len(outputs.classes or ()))


def reopen(
    run: RunFolder,
    progress: image_files.ImageProgress | None = None,
    source: Source | None = None,
    device: str | None = None,
) -> Prepared:
    """Read the data of a run again, from its own source or from `source`.

    With `device` the run continues on that device, and its config.yaml is changed to that device. Raises InputError if
    there is no run, if the data has changed or is read differently, or if the device does not exist.
    """
    config = run.read_config()
    if source is not None:
        config = msgspec.structs.replace(config, data=msgspec.structs.replace(config.data, source=source.place))
    if device is not None:
        config = msgspec.structs.replace(config, device=devices.choose(device).type)
    try:
        prepared = prepare(config, progress, source)
    except InputError as error:
        if config.data.source != STDIN:
            raise
        raise InputError(
            f"{run.path} was trained on standard input, which must be sent again: "
            f"{proposals.resuming(run.path)}{sent(STDIN)}",
            [error.message, *error.details],
        ) from None
    dataset = prepared.dataset
    place = said(dataset.source)
    if read_facts(run).digest != dataset.digest:
        raise InputError(f"{place} has changed since {run.path} was trained: restore it, or train a new run")
    if schemas.load(run.schema) != dataset.schema or not splits.load(run.split).equals(dataset.split):
        raise InputError(f"{run.path} was trained by a version of dle that reads {place} differently: train a new run")
    if device is not None:
        write_atomic(run.config, run_config.dump(config))
    return prepared


def on_device(prepared: Prepared, device: str) -> Prepared:
    """Return the same data and configuration with another `device`, which may be auto."""
    return replace(prepared, config=msgspec.structs.replace(prepared.config, device=device))


def create(folder: Path, prepared: Prepared) -> RunFolder:
    """Create the run directory, readable by its owner alone, with all files that are known before training.

    Raises InputError if the directory exists already.
    """
    refuse_existing(folder)
    dataset = prepared.dataset
    with atomic_folder(folder, mode=0o700) as temporary:
        run = RunFolder(temporary)
        write_atomic(run.config, run_config.dump(prepared.config))
        write_atomic(run.data, documents.encode(facts(dataset, prepared.config.data.keep_rows)))
        write_atomic(run.schema, documents.encode(dataset.schema))
        dataset.split.save(run.split)
    return RunFolder(folder)


def discard_untrained(run: RunFolder) -> None:
    """Remove a run that failed before its first checkpoint, so that the corrected command can create it again."""
    if not loop.is_begun(run.checkpoints):
        shutil.rmtree(run.path)


@contextmanager
def streamed(dataset: Dataset, device: str | None = None) -> Iterator[ImageStream | None]:
    """Yield a stream of the images, or None if there are none, or if each part shall have an array of its own.

    Images in files come from a stream that decodes them. Images in memory do so on the `device` cpu, so that the parts
    are not copied; another device has its own copy anyway.
    """
    images = dataset.groups.image
    if isinstance(images, np.ndarray) and device == "cpu":
        yield ArrayStream(images)
        return
    if not isinstance(images, ImageFiles):
        yield None
        return
    with image_files.Stream(images) as stream:
        yield stream
