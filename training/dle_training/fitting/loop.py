"""The training loop: one function, in reading order, over batches of tensors that stay in memory (see `batches`).

There is no data loader for what fits: worker processes hand batches over several times slower than a CPU slices them.
Nothing waits for the device within an epoch: losses are summed where they are and read once at its end.
"""

import math
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from dle_bundle.errors import InputError, Interrupted, WorkError
from dle_training.config import devices
from dle_training.config.run_config import RunConfig
from dle_training.fitting import checkpoint, early_stopping
from dle_training.fitting.batches import PreparedRows
from dle_training.fitting.listeners import EpochRecord, Listener, Plan
from dle_training.fitting.replicas import ALONE, Replicas
from dle_training.fitting.state import Progress, TrainingState, digest, global_generators
from dle_training.models._base import Network
from dle_training.optimization import optimizers, schedules
from dle_training.optimization.objectives import Objective
from dle_training.preprocessing.shape import Inputs
from dle_training.scoring import metrics
from dle_training.settings.base import chosen

Augmentation = Callable[[Inputs], Inputs]
LAST, BEST = "last.safetensors", "best.safetensors"


@dataclass(frozen=True, slots=True)
class FitResult:
    """What came of training; the network holds the weights of `best_epoch`."""

    history: Sequence[EpochRecord]
    best_epoch: int
    best_score: float
    metric: metrics.Metric


@dataclass(frozen=True, slots=True)
class FitInputs:
    """What is fitted, and on what.

    `config` is resolved. The state goes to `checkpoints`. `augment` varies the inputs of training batches, on the
    device. With `until`, training stops after that epoch whatever validation says, and the weights are the last ones.
    `replicas` are the processes that share the batches; each has `checkpoints` of its own, which say the same.
    """

    network: Network
    objective: Objective
    train: PreparedRows
    validation: PreparedRows
    config: RunConfig
    checkpoints: Path
    listeners: Sequence[Listener] = ()
    augment: Augmentation | None = None
    until: int | None = None
    replicas: Replicas = ALONE


@dataclass(frozen=True, slots=True)
class Training:
    """A training that has begun: see `begin`.

    Network, objective and both parts of `inputs` are on the device. `batches` are the slices of an epoch.
    """

    inputs: FitInputs
    metric: metrics.Metric
    batches: Sequence[slice]
    state: TrainingState

    @property
    def epochs(self) -> int:
        """The most epochs that there will be."""
        return chosen(self.inputs.config.training.epochs)

    @property
    def progress(self) -> Progress:
        return self.state.progress

    def start(self, ending: ExitStack) -> None:
        """Tell the listeners what is about to be trained, and when `ending` closes that it has ended."""
        for listener in self.inputs.listeners:
            ending.callback(listener.on_end)
            plan = Plan(self.epochs, len(self.batches), len(self.inputs.train), self.metric, self.progress.history)
            listener.on_start(plan)

    def draw_order(self) -> Tensor:
        """The order (N,) of the training rows in the current epoch."""
        size = chosen(self.inputs.config.training.batch_size)
        return self.state.draw_order(lambda generator: self.inputs.train.draw_order(generator, size))

    def learning_rate(self, step: int) -> float:
        """The learning rate of a step, counted from 0, of the current epoch."""
        return learning_rate(self.inputs.config, self.progress.epoch + step / len(self.batches))

    def save(self) -> Path:
        """Write the state and tell the listeners; returns its path."""
        last = self.inputs.checkpoints / LAST
        self.state.save(last)
        for listener in self.inputs.listeners:
            listener.on_checkpoint(last)
        return last

    def end_epoch(self) -> None:
        """Validate the weights and close the epoch, on whose steps `progress.seconds` were spent.

        Raises WorkError when a loss is no longer finite, and what the listeners raise.
        """
        inputs, state, progress, begun = self.inputs, self.state, self.progress, time.perf_counter()
        train_loss = state.loss_sum.item() / len(inputs.train)
        inputs.replicas.merge_statistics(inputs.network)
        found = _validate(inputs.network, inputs.objective, inputs.validation, self.metric)
        validation_loss, score = inputs.replicas.agree(*found)
        _check_finite(progress.epoch + 1, train_loss, validation_loss, inputs.config)
        record = EpochRecord(
            epoch=progress.epoch + 1,
            train_loss=train_loss,
            validation_loss=validation_loss,
            metric=score,
            lr=self.learning_rate(len(self.batches) - 1),
            seconds=progress.seconds + time.perf_counter() - begun,
            rows_per_second=len(inputs.train) / progress.seconds,
        )
        improved = progress.best_score is None or self.metric.better(score, progress.best_score)
        state.next_epoch(record, improved or inputs.until is not None)
        if inputs.until is not None:
            progress.finished = progress.epoch >= inputs.until
        else:
            patience = chosen(inputs.config.training.patience)
            progress.finished = early_stopping.is_over(
                progress.epoch, progress.best_epoch, epochs=self.epochs, patience=patience
            )
        for listener in inputs.listeners:
            listener.on_epoch(progress.history, progress.best_epoch)

    def end(self) -> FitResult:
        """Give the network the best epoch's weights, and keep them in place of the last state."""
        inputs, progress = self.inputs, self.progress
        inputs.network.load_state_dict(self.state.best_weights)
        self.state.save_best(inputs.checkpoints / BEST)
        discard_last(inputs.checkpoints)
        best = progress.history[progress.best_epoch - 1]
        return FitResult(tuple(progress.history), progress.best_epoch, best.metric, self.metric)


def fit(inputs: FitInputs) -> FitResult:
    """Train the network in place until the epochs are over or `patience` is, and give it the best epoch's weights.

    Network and objective move to the configured device. The state goes to `checkpoints`/last.safetensors every
    `checkpoint_seconds`, and on Ctrl-C or SIGTERM. Where that file exists, the loop starts from it and reaches, on the
    same CPU with as many threads, the weights that it would have reached uninterrupted, bit for bit. At the end the
    best weights take its place, as best.safetensors; where that file exists, nothing is left to train.

    Raises Interrupted after Ctrl-C or SIGTERM, WorkError when the loss is no longer finite, InputError for a metric
    that means nothing on the validation part, or a checkpoint of something else.
    """
    config, checkpoints, replicas = inputs.config, inputs.checkpoints, inputs.replicas
    training = begin(inputs, global_generators(devices.choose(config.device)))
    network, augment = training.inputs.network, inputs.augment
    compute = replicas.begin(training.state)
    state, progress, batches = training.state, training.progress, training.batches
    saved = time.monotonic()
    with replicas.interruption() as interruption, ExitStack() as ending:
        training.start(ending)
        while not progress.finished:
            begun = time.perf_counter() - progress.seconds
            order = training.draw_order()
            network.train()
            shares = [replicas.share(rows) for rows in batches[progress.step :]]
            for batch in training.inputs.train.batches(shares, order):
                for group in state.optimizer.param_groups:
                    group["lr"] = training.learning_rate(progress.step)
                varied = batch.inputs if augment is None else augment(batch.inputs)
                loss = training.inputs.objective.loss(compute(varied), batch.targets)
                state.optimizer.zero_grad()
                rows = batches[progress.step]
                whole = replicas.backward(loss, rows)
                state.optimizer.step()
                state.loss_sum.add_(whole, alpha=rows.stop - rows.start)
                progress.step += 1
                for listener in inputs.listeners:
                    listener.on_step(progress.epoch + 1, progress.step)
                if interruption.requested or time.monotonic() - saved >= config.training.checkpoint_seconds:
                    progress.seconds = time.perf_counter() - begun
                    last = training.save()
                    saved = time.monotonic()
                if interruption.requested:
                    raise Interrupted(f"Interrupted in epoch {progress.epoch + 1}; the state is in {last}")
            state.loss_sum.item()  # waits for the device, whose time this is
            progress.seconds = time.perf_counter() - begun
            training.end_epoch()
        fitted = training.end()
        if interruption.requested:
            raise Interrupted(f"Interrupted after the last epoch; the weights are in {checkpoints / BEST}")
    return fitted


def begin(inputs: FitInputs, generators: Mapping[str, torch.Generator]) -> Training:
    """A training at its first step, or where its checkpoint is, on the configured device; InputError as `fit`.

    `generators`, by type of device, draw everything random but the order of the rows; see `state`.
    """
    config, checkpoints = inputs.config, inputs.checkpoints
    metric = metrics.METRICS[chosen(config.training.metric)]
    check_meaning(metric, inputs.objective.actual(inputs.validation.targets), len(inputs.objective.classes))
    device = devices.choose(config.device)
    inputs = replace(
        inputs,
        network=inputs.network.to(device),
        objective=inputs.objective.to(device),
        train=inputs.train.to(device),
        validation=inputs.validation.to(device),
    )
    weights = [weight for weight in inputs.network.parameters() if weight.requires_grad]
    data = digest(inputs.train.targets, inputs.validation.targets)
    state = TrainingState(inputs.network, optimizers.build(config.optimizer, weights), generators, config.seed, data)
    if (checkpoints / BEST).exists():
        state.restore_best(checkpoints / BEST)
    elif (checkpoints / LAST).exists():
        state.restore(checkpoints / LAST)
    batches = split_batches(len(inputs.train), chosen(config.training.batch_size))
    return Training(inputs, metric, batches, state)


def load_best(network: Network, checkpoints: Path) -> EpochRecord:
    """Give `network` the weights that `fit` chose, and return their epoch's record. Raises InputError."""
    tensors, progress = checkpoint.read(checkpoints / BEST, Progress)
    checkpoint.load(network, tensors, checkpoints / BEST)
    return progress.history[progress.best_epoch - 1]


def read_ended(checkpoints: Path) -> Progress:
    """How a training went that has ended. Raises InputError where none has."""
    return checkpoint.read(checkpoints / BEST, Progress)[1]


def is_begun(checkpoints: Path) -> bool:
    """Whether `fit` would go on from what is there, or find that all is done."""
    return any((checkpoints / name).exists() for name in (LAST, BEST))


def discard_last(checkpoints: Path) -> None:
    """Remove the last state, which only a resumption needs."""
    for suffix in (".safetensors", ".json"):
        (checkpoints / LAST).with_suffix(suffix).unlink(missing_ok=True)


def learning_rate(config: RunConfig, epoch: float) -> float:
    """The learning rate after `epoch` passes over the training part, with a fraction within a pass."""
    factor = schedules.factor(config.schedule, epoch, chosen(config.training.epochs))
    return chosen(config.optimizer.lr) * factor


def split_batches(rows: int, size: int) -> list[slice]:
    """Slices of `size` rows that cover all rows; a single row left over joins the last batch.

    Batch normalisation has no variance of one row, and a step on one row is the noisiest there is.
    """
    starts = list(range(0, rows, size))
    if len(starts) > 1 and size > 1 and rows - starts[-1] == 1:
        starts.pop()
    return [slice(start, stop) for start, stop in zip(starts, [*starts[1:], rows], strict=True)]


@torch.inference_mode()
def predict(network: Network, part: PreparedRows) -> Tensor:
    """The network's output (N, K) in evaluation mode for any number of rows, on the network's device."""
    network.eval()
    device = next(network.parameters()).device
    return torch.cat([network(rows.to(device).inputs) for rows in part.in_turn()])


def _validate(
    network: Network, objective: Objective, validation: PreparedRows, metric: metrics.Metric
) -> tuple[float, float]:
    """The loss and the metric on the validation part."""
    network.before_evaluation()
    logits = predict(network, validation)
    loss = objective.loss(logits, validation.targets).item()
    answers = objective.link(logits).cpu().numpy()
    score = loss if metric.score is None else metric.score(answers, objective.actual(validation.targets))
    assert score is not None, "see check_meaning"
    return loss, score


def check_meaning(metric: metrics.Metric, actual: metrics.Actual, classes: int) -> None:
    """Raise InputError when `metric` says nothing on these validation targets, whatever is predicted."""
    shape = (len(actual), classes) if classes else actual.shape
    if metric.score is not None and metric.score(np.full(shape, 1 / max(classes, 1)), actual) is None:
        raise InputError(
            f"training.metric: {metric.name} has no meaning on this validation part, whose targets are all alike; "
            "choose another metric or a larger validation part"
        )


def _check_finite(epoch: int, train_loss: float, validation_loss: float, config: RunConfig) -> None:
    if not math.isfinite(train_loss + validation_loss):
        lr = chosen(config.optimizer.lr)
        raise WorkError(
            f"The loss is not finite in epoch {epoch} (training {train_loss:g}, validation {validation_loss:g})",
            [
                f"lower the learning rate, which is {lr:g}: --set optimizer.lr={lr / 10:g}",
                "look for extreme values in the numeric columns and in the target",
            ],
        )
