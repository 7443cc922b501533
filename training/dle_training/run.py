"""One run: from a configuration to a folder that holds all that evaluation, export and resumption need.

The story is `prepare` (read, infer, split), then `train` (fit preprocessing, fit the network, calibrate, measure on
validation). Neither looks at the test part's targets, which only `evaluation` does.
"""

import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import msgspec
from torch import Tensor

from dle_bundle import documents
from dle_bundle import schema as schemas
from dle_bundle.errors import InputError
from dle_bundle.files import atomic_folder, refuse_impossible, write_atomic
from dle_bundle.images import ImageFiles
from dle_bundle.schema import Schema
from dle_training import (
    augmentation,
    calibration,
    devices,
    loop,
    metrics,
    objectives,
    parts,
    recipes,
    schedules,
    training_data,
)
from dle_training import config as configuration
from dle_training.config import RunConfig
from dle_training.data import dataset as datasets
from dle_training.data import image_files
from dle_training.data import split as splits
from dle_training.data.dataset import Dataset
from dle_training.data_parallel import ALONE, Replicas
from dle_training.evaluation import defined
from dle_training.listeners import HISTORY, EpochRecord, HistoryFile, Listener
from dle_training.metrics import Predictions
from dle_training.models import registry
from dle_training.models._base import Network
from dle_training.objectives import Objective, ObjectiveState
from dle_training.parts import ImageStream
from dle_training.preprocessing import piecewise, pipeline
from dle_training.tensorboard import TensorBoard
from dle_training.trained import TrainedModel
from dle_training.training_data import TrainingData

Scores = dict[str, float | None]
"""Metrics by name; None where a metric has no meaning."""


class DataFacts(msgspec.Struct, frozen=True, kw_only=True):
    """`data.json`: what the data was when the run began.

    `digest`: SHA-256 of the source's content. `rows`: used, by part. `dropped`: columns and why they are not inputs.
    """

    digest: str
    rows: dict[str, int]
    dropped: dict[str, str]
    notes: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class RunFolder:
    """The files of a run, by what they are."""

    path: Path

    @property
    def config(self) -> Path:
        return self.path / "config.yaml"

    @property
    def workers(self) -> Path:
        """What the workers of a Ray cluster need, while they train."""
        return self.path / "workers"

    @property
    def data(self) -> Path:
        return self.path / "data.json"

    @property
    def schema(self) -> Path:
        return self.path / "schema.json"

    @property
    def split(self) -> Path:
        return self.path / "split.npz"

    @property
    def preprocessing(self) -> Path:
        return self.path / "preprocessing.json"

    @property
    def tokenizer(self) -> Path:
        return self.path / "tokenizer.json"

    @property
    def objective(self) -> Path:
        return self.path / "objective.json"

    @property
    def history(self) -> Path:
        return self.path / HISTORY

    @property
    def checkpoints(self) -> Path:
        return self.path / "checkpoints"

    @property
    def refitted(self) -> Path:
        return self.path / "checkpoints" / "refit"

    @property
    def tensorboard(self) -> Path:
        return self.path / "tensorboard"

    @property
    def metrics(self) -> Path:
        return self.path / "metrics.json"

    @property
    def latency(self) -> Path:
        return self.path / "latency.json"

    @property
    def report(self) -> Path:
        return self.path / "report.html"

    def read_config(self) -> RunConfig:
        """The configuration of the run; InputError where there is no run."""
        if is_study(self.path):
            raise InputError(f"{self.path}: a study is there, no run: dle-tune --resume --out {self.path}")
        if not self.config.is_file():
            raise InputError(f"{self.path}: no run is there (expected a folder with a config.yaml)")
        return configuration.load(self.config)


def found(path: Path) -> RunFolder:
    """The run at `path`; of a study, which is a folder with a study.yaml, the selected one.

    Raises InputError where the study has selected none.
    """
    if not is_study(path):
        run = RunFolder(path)
        study = next((folder for folder in path.absolute().parents if is_study(folder)), None)
        if study is not None and run.config.is_file() and not (run.data.is_file() and run.metrics.is_file()):
            raise InputError(f"{path}: a trial of a study, which is no run of its own: name the study, {study}")
        return run
    selected = RunFolder(path / "selected")
    if not selected.metrics.is_file():
        raise InputError(f"{path}: the study has not finished: dle-tune --resume --out {path}")
    return selected


def is_study(path: Path) -> bool:
    """Whether a study is at `path`, and no run."""
    return (path / "study.yaml").is_file()


@dataclass(frozen=True, slots=True)
class Prepared:
    """Data ready to be trained on, and the configuration with every choice that the data decided written out."""

    config: RunConfig
    dataset: Dataset


@dataclass(frozen=True, slots=True)
class Finished:
    """What training came to.

    `validation` has every metric of the task on the validation part, by name; `predicted` are the answers for its rows:
    probabilities (N, K), or values (N,) or (N, horizon).
    """

    history: Sequence[EpochRecord]
    best_epoch: int
    validation: Scores
    predicted: Predictions
    parameters: int


def prepare(config: RunConfig, progress: image_files.Progress | None = None) -> Prepared:
    """Read the source, infer the schema, split; raises InputError for whatever is wrong with either.

    `progress` is told how many of the images are read.
    """
    with image_files.told(progress):
        dataset = datasets.load(config)
    change = msgspec.structs.replace
    outputs = dataset.schema.outputs
    task: Literal["classification", "regression"] = "regression" if outputs.classes is None else "classification"
    known = change(
        config,
        data=change(config.data, source=dataset.source, target=outputs.target),
        split=change(config.split, by=dataset.split_by),
        objective=change(config.objective, task=task),
        training=change(config.training, metric=_metric(config, dataset)),
    )
    return Prepared(resolve(known, dataset.schema, len(dataset.split.train)), dataset)


def resolve(config: RunConfig, schema: Schema, rows: int) -> RunConfig:
    """The configuration with every choice made that is left open, for `rows` to train on; InputError for wrong ones."""
    devices.choose(config.device)
    chosen = registry.choose(config.model.name, registry.inputs(schema))
    suited, change = recipes.resolve(config, chosen, rows), msgspec.structs.replace
    return change(
        suited,
        preprocessing=change(config.preprocessing, piecewise_bins=piecewise.bins(config.preprocessing, rows)),
        model=change(config.model, name=registry.joined(chosen)),
        schedule=schedules.resolve(config.schedule),
    )


def _metric(config: RunConfig, dataset: Dataset) -> str:
    """The metric that chooses the epoch; InputError when it, or a class weight, means nothing for these targets."""
    outputs = dataset.schema.outputs
    metric = metrics.choose(config.training.metric, outputs.task).name
    _, target = dataset.part("train")
    objective = objectives.fit(outputs.task, target, outputs.classes, config.objective.class_weights)
    _, held_out = dataset.part("validation")
    loop.check_meaning(metric, objective.actual(objective.encode(held_out)), len(outputs.classes or ()))
    return metric


def facts(dataset: Dataset) -> DataFacts:
    """What `data.json` says of a data set."""
    return DataFacts(digest=dataset.digest, rows=dataset.split.sizes(), dropped=dataset.dropped, notes=dataset.notes)


def refuse_existing(folder: Path) -> None:
    """Raise InputError when something is there already, or no folder can be made there."""
    if folder.exists():
        known = {"study.yaml": ("study", "dle-tune"), "config.yaml": ("run", "dle-train")}
        for file, (what, command) in known.items():
            if (folder / file).is_file():
                raise InputError(
                    f"{folder} exists already: continue that {what} with {command} --resume --out {folder}, or choose "
                    "another folder with --out"
                )
        raise InputError(f"{folder} exists already: choose another folder with --out")
    refuse_impossible(folder)


def create(folder: Path, prepared: Prepared) -> RunFolder:
    """Make the run directory, with what is known before training; refuses an existing one."""
    refuse_existing(folder)
    dataset = prepared.dataset
    with atomic_folder(folder) as temporary:
        run = RunFolder(temporary)
        write_atomic(run.config, configuration.dump(prepared.config))
        write_atomic(run.data, documents.encode(facts(dataset)))
        write_atomic(run.schema, documents.encode(dataset.schema))
        dataset.split.save(run.split)
    return RunFolder(folder)


def discard_untrained(run: RunFolder) -> None:
    """Remove a run that failed before it had anything to continue from, so that the mended command can make it anew."""
    if not loop.is_begun(run.checkpoints):
        shutil.rmtree(run.path)


def reopen(run: RunFolder, progress: image_files.Progress | None = None) -> Prepared:
    """What a run that was begun trains on; InputError where there is none, or its data is not what it was."""
    prepared = prepare(run.read_config(), progress)
    dataset, source = prepared.dataset, prepared.config.data.source
    if read_facts(run).digest != dataset.digest:
        raise InputError(f"{source} has changed since {run.path} was trained: restore it, or train a new run")
    if schemas.load(run.schema) != dataset.schema or not splits.load(run.split).equals(dataset.split):
        raise InputError(f"{run.path} was trained by a version of dle that reads {source} otherwise: train a new run")
    return prepared


def read_facts(run: RunFolder) -> DataFacts:
    """What data.json says."""
    return documents.read(run.data, DataFacts)


def train(run: RunFolder, prepared: Prepared, listeners: Sequence[Listener] = ()) -> Finished:
    """Train, or continue where a checkpoint is; raises Interrupted after Ctrl-C with the state saved."""
    dataset = prepared.dataset
    shutil.rmtree(run.workers, ignore_errors=True)  # of a command that was killed, where one process goes on
    with streamed(dataset) as stream:
        data = training_data.make(dataset, prepared.config, stream)
        data.write_fitted(run.path)
        return fit(run, prepared.config, dataset.schema, data, [TensorBoard(run.tensorboard), *listeners])


@contextmanager
def streamed(dataset: Dataset) -> Iterator[ImageStream | None]:
    """Decodes the images that are not in memory; None where all are."""
    if not isinstance(dataset.groups.image, ImageFiles):
        yield None
        return
    with image_files.Stream(dataset.groups.image) as stream:
        yield stream


def fit(
    run: RunFolder, config: RunConfig, schema: Schema, data: TrainingData, listeners: Sequence[Listener] = ()
) -> Finished:
    """Fit a network on `data`, calibrate it, measure it on validation; or continue where a checkpoint is."""
    network = data.network(config)
    fitted = fit_network(network, config, data, run.checkpoints, [HistoryFile(run.history), *listeners])
    if config.training.refit:
        _refit(run, config, data, fitted.best_epoch)
    return finish(run, schema, data, network, fitted)


def fit_network(
    network: Network,
    config: RunConfig,
    data: TrainingData,
    checkpoints: Path,
    listeners: Sequence[Listener] = (),
    replicas: Replicas = ALONE,
) -> loop.Fit:
    """Fit `network` on `data`, or go on from what is in `checkpoints`; see `loop.fit`."""
    return loop.fit(
        network,
        objectives.restore(data.objective),
        data.train,
        data.validation,
        config,
        checkpoints=checkpoints,
        listeners=listeners,
        augment=augmentation.build(config.augmentation, data.preprocessing.shape(frequencies=False)),
        replicas=replicas,
    )


def finish(run: RunFolder, schema: Schema, data: TrainingData, network: Network, fitted: loop.Fit) -> Finished:
    """Calibrate a network that was fitted on `data`, and measure it on validation; it moves to the CPU."""
    network.cpu()
    objective = objectives.restore(data.objective)
    logits = loop.predict(network, data.validation)
    actual = objective.actual(data.validation.targets)
    objective = _calibrated(objective, logits, data.validation.targets)
    write_atomic(run.objective, documents.encode(objective.state()))
    model = TrainedModel(schema, data.preprocessing, network, objective, fitted.best_epoch)
    predicted = objective.link(logits).numpy()
    scores = defined(metrics.all_scores(schema.outputs.task, predicted, actual))
    # written last, since a run with metrics is a finished one
    write_metrics(run, validation=scores)
    return Finished(fitted.history, fitted.best_epoch, scores, predicted, model.parameters)


def _refit(run: RunFolder, config: RunConfig, data: TrainingData, until: int) -> None:
    """Train anew on the rows of both parts, along the same learning rates as far as the best epoch."""
    loop.fit(
        data.network(config),
        objectives.restore(data.objective),
        parts.together(data.train, data.validation),
        data.validation,
        config,
        checkpoints=run.refitted,
        augment=augmentation.build(config.augmentation, data.preprocessing.shape(frequencies=False)),
        until=until,
    )


def _calibrated(objective: Objective, logits: Tensor, targets: Tensor) -> Objective:
    """The objective with the temperature that suits these validation rows; unchanged for regression."""
    if objective.task == "regression":
        return objective
    temperature = calibration.fit_temperature(logits, targets)
    return objectives.restore(msgspec.structs.replace(objective.state(), temperature=temperature))


def open_model(run: RunFolder) -> TrainedModel:
    """The trained model of a finished run; InputError where it is not finished."""
    config = run.read_config()
    if not run.metrics.is_file():
        raise InputError(f"{run.path}: training has not finished: dle-train --resume --out {run.path}")
    return open_fitted(run, config, schemas.load(run.schema))


def open_fitted(run: RunFolder, config: RunConfig, schema: Schema) -> TrainedModel:
    """What `fit` left in `run`, for the configuration and the schema that it was given."""
    preprocessing = pipeline.load(run.preprocessing, schema, run.tokenizer)
    objective = objectives.restore(documents.read(run.objective, ObjectiveState))
    network = registry.build(config.model, preprocessing.shape(frequencies=False), objective.outputs, fresh=False)
    best = loop.load_best(network, run.refitted if config.training.refit else run.checkpoints)
    return TrainedModel(schema, preprocessing, network.eval(), objective, best.epoch)


def read_metrics(run: RunFolder) -> dict[str, Any]:
    """The content of metrics.json: a part's scores by its name."""
    return documents.read(run.metrics, dict)


def write_metrics(run: RunFolder, **parts: object) -> None:
    """Add or replace parts in metrics.json."""
    known = read_metrics(run) if run.metrics.exists() else {}
    write_atomic(run.metrics, documents.encode({**known, **parts}))
