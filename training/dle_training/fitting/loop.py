"""The training loop: one function, in reading order, over batches of tensors that stay in memory (see `parts`).

There is no data loader for what fits: worker processes hand batches over several times slower than a CPU slices them.
Nothing waits for the device within an epoch: losses are summed where they are and read once at its end.
"""

import math
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from dle_bundle.errors import InputError, Interrupted, WorkError
from dle_training.config.run_config import RunConfig
from dle_training.fitting import checkpoint, devices
from dle_training.fitting.batches import Part
from dle_training.fitting.listeners import EpochRecord, Listener, Plan
from dle_training.fitting.replicas import ALONE, Replicas
from dle_training.fitting.state import Progress, TrainingState, digest, global_generators
from dle_training.models._base import Network
from dle_training.optimization import optimizers, schedules
from dle_training.optimization.objectives import Objective
from dle_training.preprocessing.shape import Inputs
from dle_training.scoring import metrics

TABLE_EPOCHS, LEAST_PATIENCE = 30, 10
_BATCH_SIZES = ((2_800, 32), (4_500, 64), (6_400, 128), (32_000, 256), (108_000, 512))
_LARGEST_BATCH = 1024
Augmentation = Callable[[Inputs], Inputs]
LAST, BEST = "last.safetensors", "best.safetensors"


@dataclass(frozen=True, slots=True)
class Fit:
    """What came of training; the network holds the weights of `best_epoch`."""

    history: Sequence[EpochRecord]
    best_epoch: int
    best_score: float
    metric: metrics.Metric


@dataclass(frozen=True, slots=True)
class Training:
    """What a loop works on: see `begin`.

    `epochs` are the most there will be, `batches` the slices of an epoch; `until` is the epoch after which it ends
    whatever validation says. `replicas` are the processes that share its batches.
    """

    network: Network
    objective: Objective
    train: Part
    validation: Part
    config: RunConfig
    checkpoints: Path
    listeners: Sequence[Listener]
    metric: metrics.Metric
    epochs: int
    size: int
    batches: Sequence[slice]
    state: TrainingState
    until: int | None = None
    replicas: Replicas = ALONE

    @property
    def progress(self) -> Progress:
        return self.state.progress

    def start(self, ending: ExitStack) -> None:
        """Tell the listeners what is about to be trained, and when `ending` closes that it has ended."""
        for listener in self.listeners:
            ending.callback(listener.on_end)
            plan = Plan(self.epochs, len(self.batches), len(self.train), self.metric, self.progress.history)
            listener.on_start(plan)

    def draw_order(self) -> Tensor:
        """The order (N,) of the training rows in the current epoch."""
        return self.state.draw_order(lambda generator: self.train.draw_order(generator, self.size))

    def learning_rate(self, step: int) -> float:
        """That of a step, counted from 0, of the current epoch."""
        return learning_rate(self.config, self.progress.epoch + step / len(self.batches))

    def save(self) -> Path:
        """Write the state and say so; where it is."""
        last = self.checkpoints / LAST
        self.state.save(last)
        for listener in self.listeners:
            listener.on_checkpoint(last)
        return last

    def end_epoch(self) -> None:
        """Validate the weights and close the epoch, on whose steps `progress.seconds` were spent.

        Raises WorkError when a loss is no longer finite, and what the listeners raise.
        """
        state, progress, begun = self.state, self.progress, time.perf_counter()
        train_loss = state.loss_sum.item() / len(self.train)
        found = _validate(self.network, self.objective, self.validation, self.metric)
        validation_loss, score = self.replicas.agree(*found)
        _check_finite(progress.epoch + 1, train_loss, validation_loss, self.config)
        record = EpochRecord(
            epoch=progress.epoch + 1,
            train_loss=train_loss,
            validation_loss=validation_loss,
            metric=score,
            lr=self.learning_rate(len(self.batches) - 1),
            seconds=progress.seconds + time.perf_counter() - begun,
            rows_per_second=len(self.train) / progress.seconds,
        )
        improved = progress.best_score is None or self.metric.better(score, progress.best_score)
        state.next_epoch(record, improved or self.until is not None)
        patience_ends = progress.best_epoch + (patience(self.config, self.epochs) or self.epochs)
        progress.finished = progress.epoch >= (self.until or min(self.epochs, patience_ends))
        for listener in self.listeners:
            listener.on_epoch(progress.history, progress.best_epoch)

    def end(self) -> Fit:
        """Give the network the best epoch's weights, and keep them in place of the last state."""
        progress = self.progress
        self.network.load_state_dict(self.state.best_weights)
        self.state.save_best(self.checkpoints / BEST)
        discard_last(self.checkpoints)
        best = progress.history[progress.best_epoch - 1]
        return Fit(tuple(progress.history), progress.best_epoch, best.metric, self.metric)


def fit(
    network: Network,
    objective: Objective,
    train: Part,
    validation: Part,
    config: RunConfig,
    *,
    checkpoints: Path,
    listeners: Sequence[Listener] = (),
    augment: Augmentation | None = None,
    until: int | None = None,
    replicas: Replicas = ALONE,
) -> Fit:
    """Train `network` in place until the epochs are over or `patience` is, and give it the best epoch's weights.

    With `until`, training stops after that epoch, whatever validation says, and the weights are the last ones.

    `network` and `objective` move to the configured device. The state goes to `checkpoints`/last.safetensors every
    `checkpoint_seconds`, and on Ctrl-C or SIGTERM; where it is there, the loop starts from it and reaches, on the same
    CPU with as many threads, the weights that it would have reached uninterrupted, bit for bit. At the end the best
    weights take its place, as best.safetensors; where those are there, nothing is left to train. `augment` varies the
    inputs of training batches, on the device. `replicas` are the processes that share the batches; each keeps
    `checkpoints` of its own, which say the same.

    Raises Interrupted after Ctrl-C or SIGTERM, WorkError when the loss is no longer finite, InputError for a metric
    that does not suit the task or the validation part, or a checkpoint of something else.
    """
    generators = global_generators(devices.choose(config.device))
    training = begin(
        network,
        objective,
        train,
        validation,
        config,
        checkpoints=checkpoints,
        listeners=listeners,
        generators=generators,
        until=until,
        replicas=replicas,
    )
    replicas.begin(training.state)
    state, progress, batches = training.state, training.progress, training.batches
    saved = time.monotonic()
    with replicas.interruption() as interruption, ExitStack() as ending:
        training.start(ending)
        while not progress.finished:
            begun = time.perf_counter() - progress.seconds
            order = training.draw_order()
            network.train()
            shares = [replicas.share(rows) for rows in batches[progress.step :]]
            for batch in training.train.batches(shares, order):
                for group in state.optimizer.param_groups:
                    group["lr"] = training.learning_rate(progress.step)
                inputs = batch.inputs if augment is None else augment(batch.inputs)
                loss = training.objective.loss(network(inputs), batch.targets)
                state.optimizer.zero_grad()
                loss.backward()  # type: ignore[no-untyped-call]
                whole = replicas.combine(network, loss.detach(), len(batch))
                state.optimizer.step()
                rows = batches[progress.step]
                state.loss_sum.add_(whole, alpha=rows.stop - rows.start)
                progress.step += 1
                for listener in listeners:
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


def begin(
    network: Network,
    objective: Objective,
    train: Part,
    validation: Part,
    config: RunConfig,
    *,
    checkpoints: Path,
    listeners: Sequence[Listener],
    generators: Mapping[str, torch.Generator],
    until: int | None = None,
    replicas: Replicas = ALONE,
) -> Training:
    """A training at its first step, or where its checkpoint is, on the configured device; InputError as `fit`.

    `generators`, by type of device, draw what is drawn beside the order of the rows; see `state`. `until` and
    `replicas` as in `fit`.
    """
    settings = config.training
    metric = metrics.choose(settings.metric, objective.task)
    check_meaning(metric.name, objective.actual(validation.targets), len(objective.classes))
    device = devices.choose(config.device)
    network, objective = network.to(device), objective.to(device)
    train, validation = train.to(device), validation.to(device)
    size = batch_size(config, len(train))
    optimizer = optimizers.build(config.optimizer, [weight for weight in network.parameters() if weight.requires_grad])
    data = digest(train.targets, validation.targets)
    state = TrainingState(network, optimizer, generators, config.seed, data)
    if (checkpoints / BEST).exists():
        state.restore_best(checkpoints / BEST)
    elif (checkpoints / LAST).exists():
        state.restore(checkpoints / LAST)
    return Training(
        network,
        objective,
        train,
        validation,
        config,
        checkpoints,
        listeners,
        metric,
        epochs=settings.epochs or TABLE_EPOCHS,
        size=size,
        batches=split_batches(len(train), size),
        state=state,
        until=until,
        replicas=replicas,
    )


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
    peak = optimizers.learning_rate(config.optimizer)
    return peak * schedules.factor(config.schedule, epoch, config.training.epochs or TABLE_EPOCHS)


def patience(config: RunConfig, epochs: int) -> int:
    """Epochs without a better metric before training stops; 0: it never does.

    With many epochs of few steps each, the first of them say little.
    """
    given = config.training.patience
    return max(LEAST_PATIENCE, epochs // 3) if given is None else given


def batch_size(config: RunConfig, rows: int) -> int:
    """Rows in a step for a training part of `rows`: the configured number, or one that gives small data enough steps.

    The steps of Gorishniy et al., "TabM" (2024).
    """
    if config.training.batch_size is not None:
        return config.training.batch_size
    return next((size for below, size in _BATCH_SIZES if rows < below), _LARGEST_BATCH)


def split_batches(rows: int, size: int) -> list[slice]:
    """Slices of `size` rows that cover all rows; a single row left over joins the last batch.

    Batch normalisation has no variance of one row, and a step on one row is the noisiest there is.
    """
    starts = list(range(0, rows, size))
    if len(starts) > 1 and size > 1 and rows - starts[-1] == 1:
        starts.pop()
    return [slice(start, stop) for start, stop in zip(starts, [*starts[1:], rows], strict=True)]


@torch.inference_mode()
def predict(network: Network, part: Part) -> Tensor:
    """The network's output (N, K) in evaluation mode for any number of rows, on the network's device."""
    network.eval()
    device = next(network.parameters()).device
    return torch.cat([network(rows.to(device).inputs) for rows in part.in_turn()])


def _validate(network: Network, objective: Objective, validation: Part, metric: metrics.Metric) -> tuple[float, float]:
    """The loss and the metric on the validation part."""
    network.before_evaluation()
    logits = predict(network, validation)
    loss = objective.loss(logits, validation.targets).item()
    answers = objective.link(logits).cpu().numpy()
    score = metrics.score(metric.name, answers, objective.actual(validation.targets))
    assert score is not None, "see check_meaning"
    return loss, score


def check_meaning(metric: str, actual: metrics.Actual, classes: int) -> None:
    """Raise InputError when `metric` says nothing on these validation targets, whatever is predicted."""
    shape = (len(actual), classes) if classes else actual.shape
    if metrics.score(metric, np.full(shape, 1 / max(classes, 1)), actual) is None:
        raise InputError(
            f"training.metric: {metric} has no meaning on this validation part, whose targets are all alike; "
            "choose another metric or a larger validation part"
        )


def _check_finite(epoch: int, train_loss: float, validation_loss: float, config: RunConfig) -> None:
    if not math.isfinite(train_loss + validation_loss):
        lr = optimizers.learning_rate(config.optimizer)
        raise WorkError(
            f"The loss is not finite in epoch {epoch} (training {train_loss:g}, validation {validation_loss:g})",
            [
                f"lower the learning rate, which is {lr:g}: --set optimizer.lr={lr / 10:g}",
                "look for extreme values in the numeric columns and in the target",
            ],
        )
