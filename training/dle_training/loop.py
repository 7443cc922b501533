"""The training loop: one function, in reading order, over index batches of tensors that stay in memory.

There is no data loader: the rows are shuffled once an epoch and sliced, which a CPU does several times faster than
worker processes hand batches over. Nothing waits for the device within an epoch: losses are summed where they are and
read once at its end.
"""

import math
import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from dle_bundle.errors import InputError, Interrupted, WorkError
from dle_training import checkpoint, devices, metrics, optimizers, schedules
from dle_training.config import RunConfig
from dle_training.interruption import Interruption
from dle_training.listeners import EpochRecord, Listener, Plan
from dle_training.models._base import Inputs, Network
from dle_training.objectives import Objective
from dle_training.state import TrainingState, digest

EVALUATION_ROWS = 8192
_BATCH_SIZES = ((2_800, 32), (4_500, 64), (6_400, 128), (32_000, 256), (108_000, 512))
_LARGEST_BATCH = 1024
LAST, BEST = "last.safetensors", "best.safetensors"


@dataclass(frozen=True, slots=True)
class Part:
    """Rows of the data, prepared: inputs {"dense": (N, P), "codes": (N, E)} and encoded targets (N,)."""

    inputs: Inputs
    targets: Tensor

    def __len__(self) -> int:
        return len(self.targets)

    def to(self, device: torch.device) -> "Part":
        """The same rows on `device`."""
        return Part({name: tensor.to(device) for name, tensor in self.inputs.items()}, self.targets.to(device))

    def take(self, order: Tensor) -> "Part":
        """The rows at the indices `order` (M,), gathered."""
        inputs = {name: tensor.index_select(0, order) for name, tensor in self.inputs.items()}
        return Part(inputs, self.targets.index_select(0, order))

    def slice(self, rows: slice) -> "Part":
        """Consecutive rows, as views."""
        return Part({name: tensor[rows] for name, tensor in self.inputs.items()}, self.targets[rows])


@dataclass(frozen=True, slots=True)
class Fit:
    """What came of training; the network holds the weights of `best_epoch`."""

    history: Sequence[EpochRecord]
    best_epoch: int
    best_score: float
    metric: metrics.Metric


def fit(
    network: Network,
    objective: Objective,
    train: Part,
    validation: Part,
    config: RunConfig,
    *,
    checkpoints: Path,
    resume: bool = False,
    listeners: Sequence[Listener] = (),
) -> Fit:
    """Train `network` in place until the epochs are over or `patience` is, and give it the best epoch's weights.

    `network` and `objective` move to the configured device. The state goes to `checkpoints`/last.safetensors every
    `checkpoint_seconds`, at the end, and on Ctrl-C or SIGTERM; with `resume` the loop starts from it and reaches, on
    the same CPU with as many threads, the weights that it would have reached uninterrupted, bit for bit.

    Raises Interrupted after Ctrl-C or SIGTERM, WorkError when the loss is no longer finite, InputError for a metric
    that does not suit the task or the validation part, or a checkpoint of something else.
    """
    settings = config.training
    metric = metrics.choose(settings.metric, objective.task)
    check_meaning(metric.name, objective.actual(validation.targets), len(objective.classes))
    device = devices.choose(config.device)
    network, objective = network.to(device), objective.to(device)
    train, validation = train.to(device), validation.to(device)
    batches = split_batches(len(train), batch_size(config, len(train)))
    optimizer = optimizers.build(config.optimizer, network.parameters())
    state = TrainingState(network, optimizer, config.seed, digest(train.targets, validation.targets))
    last = checkpoints / LAST
    if resume:
        state.restore(last)
    progress = state.progress
    saved = time.monotonic()
    with Interruption() as interruption, ExitStack() as ending:
        for listener in listeners:
            ending.callback(listener.on_end)
            listener.on_start(Plan(settings.epochs, len(batches), len(train), metric, progress.history))
        while not progress.finished:
            begun = time.perf_counter() - progress.seconds
            shuffled = train.take(state.draw_order(len(train)))
            network.train()
            for rows in batches[progress.step :]:
                for group in optimizer.param_groups:
                    group["lr"] = learning_rate(config, progress.epoch + progress.step / len(batches))
                batch = shuffled.slice(rows)
                loss = objective.loss(network(batch.inputs), batch.targets)
                optimizer.zero_grad()
                loss.backward()  # type: ignore[no-untyped-call]
                optimizer.step()
                state.loss_sum.add_(loss.detach(), alpha=len(batch))
                progress.step += 1
                for listener in listeners:
                    listener.on_step(progress.epoch + 1, progress.step)
                if interruption.requested or time.monotonic() - saved >= settings.checkpoint_seconds:
                    progress.seconds = time.perf_counter() - begun
                    state.save(last)
                    for listener in listeners:
                        listener.on_checkpoint(last)
                    saved = time.monotonic()
                if interruption.requested:
                    raise Interrupted(f"Interrupted in epoch {progress.epoch + 1}; the state is in {last}")
            train_loss = state.loss_sum.item() / len(train)
            trained = time.perf_counter() - begun

            validation_loss, score = _validate(network, objective, validation, metric)
            _check_finite(progress.epoch + 1, train_loss, validation_loss, config)
            record = EpochRecord(
                epoch=progress.epoch + 1,
                train_loss=train_loss,
                validation_loss=validation_loss,
                metric=score,
                lr=learning_rate(config, progress.epoch + 1 - 1 / len(batches)),
                seconds=time.perf_counter() - begun,
                rows_per_second=len(train) / trained,
            )
            state.next_epoch(record, progress.best_score is None or metric.better(score, progress.best_score))
            patience_ends = progress.best_epoch + (settings.patience or settings.epochs)
            progress.finished = progress.epoch >= min(settings.epochs, patience_ends)
            for listener in listeners:
                listener.on_epoch(progress.history, progress.best_epoch)

        network.load_state_dict(state.best_weights)
        state.save(last)
        best = progress.history[progress.best_epoch - 1]
        checkpoint.write(checkpoints / BEST, network.state_dict(), best)
        if interruption.requested:
            raise Interrupted(f"Interrupted after the last epoch; the state is in {last}")
    return Fit(tuple(progress.history), progress.best_epoch, best.metric, metric)


def load_best(network: Network, checkpoints: Path) -> EpochRecord:
    """Give `network` the weights that `fit` chose, and return their epoch's record. Raises InputError."""
    tensors, record = checkpoint.read(checkpoints / BEST, EpochRecord)
    try:
        network.load_state_dict(tensors)
    except RuntimeError as error:
        raise InputError(f"{checkpoints / BEST} holds another model: {str(error).splitlines()[-1].strip()}") from None
    return record


def learning_rate(config: RunConfig, epoch: float) -> float:
    """The learning rate after `epoch` passes over the training part, with a fraction within a pass."""
    peak = optimizers.learning_rate(config.optimizer)
    return peak * schedules.factor(config.schedule, epoch, config.training.epochs)


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
def predict(network: Network, inputs: Inputs) -> Tensor:
    """The network's output (N, K) in evaluation mode for any number of rows, on the network's device."""
    network.eval()
    device = next(network.parameters()).device
    rows = len(next(iter(inputs.values())))
    chunks = (slice(start, start + EVALUATION_ROWS) for start in range(0, max(rows, 1), EVALUATION_ROWS))
    return torch.cat([network({name: x[chunk].to(device) for name, x in inputs.items()}) for chunk in chunks])


def _validate(network: Network, objective: Objective, validation: Part, metric: metrics.Metric) -> tuple[float, float]:
    """The loss and the metric on the validation part."""
    network.before_evaluation()
    logits = predict(network, validation.inputs)
    loss = objective.loss(logits, validation.targets).item()
    answers = objective.link(logits).cpu().numpy()
    score = metrics.score(metric.name, answers, objective.actual(validation.targets))
    assert score is not None, "see check_meaning"
    return loss, score


def check_meaning(metric: str, actual: metrics.Actual, classes: int) -> None:
    """Raise InputError when `metric` says nothing on these validation targets, whatever is predicted."""
    shape = (len(actual), classes) if classes else (len(actual),)
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
