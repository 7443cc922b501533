"""The training loop: `fit` trains a network on batches of tensors that stay in memory (see `batches`).

There is no data loader for data that fits into memory: worker processes pass batches several times slower than a CPU
slices them. Nothing waits for the device within an epoch: losses are summed on the device and read once at the end.
"""

import math
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from dle_bundle.errors import InputError, Interrupted, WorkError
from dle_training.augmentation.augment import Augmentation
from dle_training.config import devices
from dle_training.config.run_config import RunConfig
from dle_training.fitting import checkpoint, early_stopping
from dle_training.fitting.averaging import WeightAverage
from dle_training.fitting.batches import PreparedRows
from dle_training.fitting.listeners import EpochRecord, Listener, TrainingPlan
from dle_training.fitting.replicas import ALONE, Replicas
from dle_training.fitting.state import LoopProgress, TrainingState, digest, global_generators
from dle_training.models._base import Network
from dle_training.models.dropout import Dropout
from dle_training.optimization import optimizers, schedules
from dle_training.optimization.objectives import Objective
from dle_training.preprocessing.shape import WINDOW
from dle_training.scoring import metrics
from dle_training.settings.base import chosen
from dle_training.settings.proposals import setting

LAST, BEST = "last.safetensors", "best.safetensors"


@dataclass(frozen=True, slots=True)
class FitResult:
    """The result of a training; the network holds the weights of `best_epoch`.

    `out_of_time` says that training ended because its time was up.
    """

    history: Sequence[EpochRecord]
    best_epoch: int
    best_score: float
    metric: metrics.Metric
    out_of_time: bool = False


@dataclass(frozen=True, slots=True)
class FitInputs:
    """The network to fit, the rows to fit it on, and the settings.

    `config` is resolved. The state is saved in the folder `checkpoints`. `augment` varies the inputs of training
    batches on the device. With `until`, training stops after that epoch regardless of validation and keeps the last
    weights. `replicas` are the processes that share the batches; each has its own `checkpoints` with the same content.
    No epoch begins that would end after `deadline`, in seconds of `time.monotonic`, except the first one.
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
    deadline: float = math.inf


@dataclass(frozen=True, slots=True)
class Training:
    """A training in progress, made by `begin`.

    Network, objective and rows of `inputs` are on the device. `batches` are the slices of an epoch.
    """

    inputs: FitInputs
    metric: metrics.Metric
    batches: Sequence[slice]
    state: TrainingState

    @property
    def epochs(self) -> int:
        """The maximum number of epochs."""
        return chosen(self.inputs.config.training.epochs)

    @property
    def progress(self) -> LoopProgress:
        return self.state.progress

    def start(self, ending: ExitStack) -> None:
        """Call `on_start` of all listeners now, and `on_end` when `ending` closes."""
        for listener in self.inputs.listeners:
            ending.callback(listener.on_end)
            plan = TrainingPlan(
                self.epochs, len(self.batches), len(self.inputs.train), self.metric, self.progress.history
            )
            listener.on_start(plan)

    def draw_order(self) -> Tensor:
        """The order (N,) of the training rows in the current epoch."""
        size = chosen(self.inputs.config.training.batch_size)
        return self.state.draw_order(lambda generator: self.inputs.train.draw_order(generator, size))

    def learning_rate(self, step: int) -> float:
        """The learning rate of a step of the current epoch; steps count from 0."""
        return learning_rate(self.inputs.config, self.progress.epoch + step / len(self.batches))

    def prepare_step(self) -> None:
        """Set learning rate, weight decay and dropout of the next step."""
        config, progress = self.inputs.config, self.progress
        lr, decay = self.learning_rate(progress.step), chosen(config.optimizer.weight_decay)
        epoch = progress.epoch + progress.step / len(self.batches)
        strength = schedules.regularisation(config.schedule, epoch, self.epochs)
        for group in self.state.optimizer.param_groups:
            group["lr"] = lr * group["rate"]
            group["weight_decay"] = decay * strength if group["decays"] else 0.0
        if config.schedule.regularisation != "constant":
            for module in self.inputs.network.modules():
                if isinstance(module, Dropout):
                    module.weaken(strength)

    def count_step(self) -> None:
        """Count a step that has been made, average the weights, and call `on_step` of all listeners."""
        self.progress.step += 1
        if self.state.average is not None:
            self.state.average.follow(self.progress.epoch * len(self.batches) + self.progress.step)
        for listener in self.inputs.listeners:
            listener.on_step(self.progress.epoch + 1, self.progress.step)

    def save(self) -> Path:
        """Save the state, call `on_checkpoint` of all listeners, and return the path."""
        last = self.inputs.checkpoints / LAST
        self.state.save(last)
        for listener in self.inputs.listeners:
            listener.on_checkpoint(last)
        return last

    def end_epoch(self) -> None:
        """Validate the weights and close the epoch; `progress.seconds` is the time spent on its steps.

        Raises WorkError if a loss is not finite, and whatever the listeners raise.
        """
        inputs, state, progress, begun = self.inputs, self.state, self.progress, time.perf_counter()
        train_loss = state.loss_sum.item() / len(inputs.train)
        inputs.replicas.merge_statistics(inputs.network)
        if state.average is not None:
            inputs.replicas.merge_statistics(state.average.network.train())
        found = _validate(state.evaluated, inputs.objective, inputs.validation, self.metric)
        validation_loss, score = inputs.replicas.agree(*found)
        check_finite(progress.epoch + 1, train_loss, validation_loss, inputs.config)
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
            self.stop_if_over()
        for listener in inputs.listeners:
            listener.on_epoch(progress.history, progress.best_epoch)

    def stop_if_over(self) -> None:
        """Finish training if the epoch that was just closed is the last one."""
        progress, settings = self.progress, self.inputs.config.training
        last, patience = min(self.epochs, settings.stop_after or self.epochs), chosen(settings.patience)
        over = early_stopping.is_over(progress.epoch, progress.best_epoch, epochs=last, patience=patience)
        progress.out_of_time = not over and time.monotonic() + progress.history[-1].seconds > self.inputs.deadline
        progress.finished = over or progress.out_of_time

    def end(self) -> FitResult:
        """Load the best epoch's weights into the network, and replace the last state on disk by them."""
        inputs, progress = self.inputs, self.progress
        inputs.network.load_state_dict(self.state.best_weights)
        self.state.save_best(inputs.checkpoints / BEST)
        discard_last(inputs.checkpoints)
        best = progress.history[progress.best_epoch - 1]
        return FitResult(
            tuple(progress.history), progress.best_epoch, best.metric, self.metric, out_of_time=progress.out_of_time
        )


def fit(inputs: FitInputs) -> FitResult:
    """Train the network in place until the epochs or the patience end, then load the best epoch's weights into it.

    Network and objective move to the configured device. The state is saved to `checkpoints`/last.safetensors every
    `checkpoint_seconds` and on Ctrl-C or SIGTERM. If that file exists, the loop continues from it. On the same CPU with
    the same number of threads it then reaches the same weights as an uninterrupted training, bit for bit. At the end
    best.safetensors with the best weights replaces it; if best.safetensors exists, nothing is trained.

    Raises Interrupted after Ctrl-C or SIGTERM, WorkError if the loss is not finite, and InputError for a metric that is
    undefined on the validation part or a checkpoint of another model or other data.
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
                training.prepare_step()
                varied = batch.inputs if augment is None else augment(batch.inputs)
                loss = training.inputs.objective.loss(compute(varied), batch.targets)
                state.optimizer.zero_grad()
                rows = batches[progress.step]
                whole = replicas.backward(loss, rows)
                state.optimizer.step()
                state.loss_sum.add_(whole, alpha=rows.stop - rows.start)
                training.count_step()
                if interruption.requested or time.monotonic() - saved >= config.training.checkpoint_seconds:
                    progress.seconds = time.perf_counter() - begun
                    last = training.save()
                    saved = time.monotonic()
                if interruption.requested:
                    raise Interrupted(f"Interrupted in epoch {progress.epoch + 1}; the state is in {last}")
            state.loss_sum.item()  # waits for the device, so that its time counts
            progress.seconds = time.perf_counter() - begun
            training.end_epoch()
        fitted = training.end()
        if interruption.requested:
            raise Interrupted(f"Interrupted after the last epoch; the weights are in {checkpoints / BEST}")
    return fitted


def begin(inputs: FitInputs, generators: Mapping[str, torch.Generator]) -> Training:
    """A training on the configured device, at its first step or at its checkpoint. Raises InputError as `fit` does.

    `generators`, by device type, draw all random numbers except the order of the rows; see `TrainingState`.
    """
    config, checkpoints = inputs.config, inputs.checkpoints
    metric = metrics.METRICS[chosen(config.training.metric)]
    check_meaning(
        metric,
        inputs.objective.actual(inputs.validation.targets, inputs.validation.inputs.get(WINDOW)),
        len(inputs.objective.classes),
    )
    inputs = on_device(inputs, devices.choose(config.device))
    data = digest(inputs.train.targets, inputs.validation.targets)
    average = WeightAverage(inputs.network, config.training.ema) if config.training.ema else None
    optimizer = optimizers.build(config.optimizer, inputs.network)
    state = TrainingState(inputs.network, optimizer, generators, config.seed, data, average)
    continue_from(checkpoints, state)
    batches = split_batches(len(inputs.train), chosen(config.training.batch_size))
    return Training(inputs, metric, batches, state)


def on_device(inputs: FitInputs, device: torch.device) -> FitInputs:
    """The inputs with network, objective and rows on `device`."""
    return replace(
        inputs,
        network=inputs.network.to(device),
        objective=inputs.objective.to(device),
        train=inputs.train.to(device),
        validation=inputs.validation.to(device),
    )


def continue_from(checkpoints: Path, state: TrainingState) -> None:
    """Restore what `checkpoints` holds: a finished training, or else the last state, or nothing."""
    if (checkpoints / BEST).exists():
        state.restore_best(checkpoints / BEST)
    elif (checkpoints / LAST).exists():
        state.restore(checkpoints / LAST)


def load_best(network: Network, checkpoints: Path) -> EpochRecord:
    """Load the weights that `fit` chose into `network`, and return the record of their epoch. Raises InputError."""
    tensors, progress = checkpoint.read(checkpoints / BEST, LoopProgress)
    checkpoint.load(network, tensors, checkpoints / BEST)
    return progress.history[progress.best_epoch - 1]


def read_ended(checkpoints: Path) -> LoopProgress:
    """The progress of a finished training. Raises InputError if none is in `checkpoints`."""
    return checkpoint.read(checkpoints / BEST, LoopProgress)[1]


def is_begun(checkpoints: Path) -> bool:
    """Whether `checkpoints` holds a training that `fit` would continue, or a finished one."""
    return any((checkpoints / name).exists() for name in (LAST, BEST))


def discard_last(checkpoints: Path) -> None:
    """Remove the last state, which is needed only to resume."""
    for suffix in (".safetensors", ".json"):
        (checkpoints / LAST).with_suffix(suffix).unlink(missing_ok=True)


def learning_rate(config: RunConfig, epoch: float) -> float:
    """The learning rate after `epoch` passes over the training part; a fraction is a position within a pass."""
    factor = schedules.factor(config.schedule, epoch, chosen(config.training.epochs))
    return chosen(config.optimizer.lr) * factor


def split_batches(rows: int, size: int) -> list[slice]:
    """Slices of `size` rows that cover all rows; a single row left over joins the last batch.

    One row has no variance for batch normalisation, and its gradient is the noisiest.
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
    window = validation.inputs.get(WINDOW)
    answers = objective.link(logits, window).cpu().numpy()
    score = loss if metric.score is None else metric.score(answers, objective.actual(validation.targets, window))
    assert score is not None, "see check_meaning"
    return loss, score


def check_meaning(metric: metrics.Metric, actual: metrics.Actual, classes: int) -> None:
    """Raise InputError if `metric` is undefined on these validation targets for any prediction."""
    shape = (len(actual), classes) if classes else actual.shape
    if metric.score is not None and metric.score(np.full(shape, 1 / max(classes, 1)), actual) is None:
        raise InputError(
            f"training.metric: {metric.name} is undefined on this validation part, because all its targets are equal; "
            "choose another metric or a larger validation part"
        )


def check_finite(epoch: int, train_loss: float, validation_loss: float, config: RunConfig) -> None:
    """Raise WorkError, with what to try, if a loss of this epoch is not finite."""
    if not math.isfinite(train_loss + validation_loss):
        lr = chosen(config.optimizer.lr)
        raise WorkError(
            f"The loss is not finite in epoch {epoch} (training {train_loss:g}, validation {validation_loss:g})",
            [
                f"lower the learning rate, which is {lr:g}: set {setting('optimizer.lr', float(f'{lr / 10:g}'))}",
                "look for extreme values in the numeric columns and in the target",
            ],
        )
