"""Trains one run: from prepared data to a folder with everything that evaluation, export and resumption need.

This module fits preprocessing and network, calibrates and scores the network on the validation part, and stores the
rows that later commands read. These rows may include the test part, but this module does not score it.
"""

import math
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from msgspec.structs import replace as change

from dle_bundle import documents
from dle_bundle import schema as schemas
from dle_bundle.errors import InputError
from dle_bundle.files import write_atomic
from dle_bundle.schema import Schema
from dle_training.augmentation import augment
from dle_training.config import run_config
from dle_training.config.run_config import RunConfig
from dle_training.data.dataset import Dataset
from dle_training.ensembles import distillation
from dle_training.ensembles import loop as ensemble_loop
from dle_training.fitting import batches, loop, tensors
from dle_training.fitting.listeners import EpochRecord, HistoryFile, Listener, Listeners, no_listeners, read_history
from dle_training.fitting.loop import FitInputs
from dle_training.fitting.replicas import ALONE, Replicas
from dle_training.fitting.tensorboard import TensorBoard
from dle_training.fitting.tensors import TrainingData
from dle_training.models import registry
from dle_training.models._base import Network
from dle_training.models.pack import Ensemble
from dle_training.optimization import objectives
from dle_training.optimization.objectives import ObjectiveState
from dle_training.preprocessing import pipeline
from dle_training.preprocessing.shape import WINDOW
from dle_training.runs import contents, model_choices, validation
from dle_training.runs.folder import RunFolder, read_metrics, write_metrics
from dle_training.runs.model_choices import Measure
from dle_training.runs.prepare import Prepared, streamed
from dle_training.runs.trained_model import TrainedModel
from dle_training.runs.validation import Answered
from dle_training.scoring.metrics import Predictions, Scores
from dle_training.settings import proposals


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a finished training came to. `validation` has every metric of the task on the validation part, by name."""

    history: Sequence[EpochRecord]
    best_epoch: int
    validation: Scores
    parameters: int


@dataclass(frozen=True, slots=True)
class RunResult(Outcome):
    """The outcome of a training, with the answers for the validation rows.

    `predicted` holds probabilities (N, K), values (N,) or values (N, horizon).
    """

    predicted: Predictions


def train(
    run: RunFolder, prepared: Prepared, listeners: Listeners = no_listeners, measure: Measure | None = None
) -> RunResult:
    """Train a run, or continue from its checkpoint. Raises Interrupted after Ctrl-C, with the state saved.

    `measure` measures the latency of models if the configuration limits it.
    """
    dataset = prepared.dataset
    shutil.rmtree(run.workers, ignore_errors=True)  # left by a command with several workers that was killed
    with streamed(dataset, prepared.config.device) as stream:
        data = tensors.make(dataset, prepared.config, stream)
        data.write_fitted(run.path)
        everyone = [TensorBoard(run.tensorboard), *listeners("")]
        deadline = math.inf if prepared.plan is None else prepared.plan.deadline
        return fit(run, prepared.config, dataset.schema, data, everyone, dataset, measure, listeners, deadline=deadline)


def fit(
    run: RunFolder,
    config: RunConfig,
    schema: Schema,
    data: TrainingData,
    listeners: Sequence[Listener] = (),
    dataset: Dataset | None = None,
    measure: Measure | None = None,
    further: Listeners = no_listeners,
    *,
    deadline: float = math.inf,
) -> RunResult:
    """Fit a network on `data`, or continue from its checkpoint, then calibrate and score it on the validation part.

    A run passes its `dataset`, and keeps rows of it (see `contents`). A trial or a fold passes None and keeps none.
    `measure` is that of `train`; the model may become smaller, see `model_choices`. `further` are the listeners of a
    refit and of a distillation. If the `deadline` ends training, the last epoch is written into the run's config.yaml.
    """
    network = data.network(config)
    everyone = [HistoryFile(run.history), *listeners]
    fitted = fit_network(network, config, data, run.checkpoints, everyone, deadline=deadline)
    if fitted.out_of_time:
        config = change(config, training=change(config.training, stop_after=len(fitted.history)))
        write_atomic(run.config, run_config.dump(config))
    if config.training.refit:
        _refit(run, config, data, fitted.best_epoch, further("refit"))
    kept, answered = model_choices.choose(run, config, schema, data, network, dataset, measure, further)
    return finish(run, config, schema, data, kept, fitted, dataset, answered)


def fit_network(
    network: Network,
    config: RunConfig,
    data: TrainingData,
    checkpoints: Path,
    listeners: Sequence[Listener] = (),
    replicas: Replicas = ALONE,
    deadline: float = math.inf,
) -> loop.FitResult:
    """Fit `network` on `data`, or continue from the state in `checkpoints`; see `loop.fit`."""
    inputs = FitInputs(
        network,
        objectives.restore(data.objective),
        data.train,
        data.validation,
        config,
        checkpoints,
        listeners,
        augment=augment.build(config.augmentation, data.preprocessing.shape(frequencies=False)),
        replicas=replicas,
        deadline=deadline,
    )
    return ensemble_loop.fit(inputs) if isinstance(network, Ensemble) else loop.fit(inputs)


def finish(
    run: RunFolder,
    config: RunConfig,
    schema: Schema,
    data: TrainingData,
    network: Network,
    fitted: loop.FitResult,
    dataset: Dataset | None = None,
    answered: Answered | None = None,
) -> RunResult:
    """Move a fitted network to the CPU, and calibrate and score it on the validation part of `data`.

    A network with folds is calibrated and scored on all rows of both parts, each by the weights that it did not train.
    `answered` has the answers to these rows if they are known. `dataset` is that of `fit`. metrics.json is written
    last, so a run that has this file is finished and complete.
    """
    network.cpu()
    found = answered or Answered(*ensemble_loop.validated(network, data, config.seed))
    validated = validation.of(found, data.objective)
    write_atomic(run.objective, documents.encode(validated.objective.state()))
    model = TrainedModel(schema, data.preprocessing, network, validated.objective, fitted.best_epoch)
    predicted = validated.predicted[-len(data.validation) :]
    if dataset is not None:
        contents.write(run, model, dataset, data, predicted, validated.scores)
    write_metrics(run, validation=validated.scores)
    return RunResult(fitted.history, fitted.best_epoch, validated.scores, model.parameters, predicted)


def complete(run: RunFolder, config: RunConfig, dataset: Dataset, data: TrainingData) -> None:
    """Complete a copy of a finished trial: write all files that a run has and a trial has not."""
    model = open_fitted(run, config, dataset.schema)
    validated, logits = ensemble_loop.validated(model.network, data, config.seed)
    predicted = model.objective.link(logits, validated.inputs.get(WINDOW)).numpy()
    contents.write(run, model, dataset, data, predicted[-len(data.validation) :], read_metrics(run)["validation"])


def _refit(run: RunFolder, config: RunConfig, data: TrainingData, until: int, listeners: Sequence[Listener]) -> None:
    """Train again on training and validation rows together, with the same learning rates, until the best epoch."""
    loop.fit(
        FitInputs(
            data.network(config),
            objectives.restore(data.objective),
            batches.together(data.train, data.validation),
            data.validation,
            config,
            run.refitted,
            listeners,
            augment=augment.build(config.augmentation, data.preprocessing.shape(frequencies=False)),
            until=until,
        )
    )


def open_model(run: RunFolder) -> TrainedModel:
    """Open the model of a finished run. Raises InputError if there is no run, or if it is not finished."""
    refuse_unfinished(run)
    return open_fitted(run, run.read_config(), schemas.load(run.schema))


def outcome(run: RunFolder) -> Outcome:
    """Return the outcome of a finished run from its files. Raises InputError as `open_model` does."""
    model = open_model(run)
    return Outcome(read_history(run.history), model.best_epoch, read_metrics(run)["validation"], model.parameters)


def refuse_unfinished(run: RunFolder) -> None:
    """Raise InputError if there is no run, or its training has not finished."""
    run.read_config()
    if not run.metrics.is_file():
        raise InputError(f"{run.path}: training has not finished: {proposals.resuming(run.path)}")


def open_fitted(run: RunFolder, config: RunConfig, schema: Schema) -> TrainedModel:
    """Open the model that `fit` wrote into `run`. `config` and `schema` are the ones that `fit` was called with."""
    preprocessing = pipeline.load(run.preprocessing, schema, run.tokenizer)
    objective = objectives.restore(documents.read(run.objective, ObjectiveState))
    network = registry.build(
        config.model,
        preprocessing.shape(frequencies=False),
        objective.outputs,
        regression=objective.task == "regression",
        fresh=False,
    )
    best = loop.load_best(network, run.refitted if config.training.refit else run.checkpoints)
    if config.training.distill:
        assert isinstance(network, Ensemble)
        network = distillation.open_last(network, run.distilled)
    return TrainedModel(schema, preprocessing, network.eval(), objective, best.epoch)
