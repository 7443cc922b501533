"""The training loop: one function, in reading order, over batches of tensors that stay in memory (see `parts`).

There is no data loader for what fits: worker processes hand batches over several times slower than a CPU slices them.
Nothing waits for the device within an epoch: losses are summed where they are and read once at its end.
"""

import math
import time
from collections.abc import Callable, Sequence
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
from dle_training.parts import Part
from dle_training.state import TrainingState, digest

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
    augment: Augmentation | None = None,
    until: int | None = None,
) -> Fit:
    """Train `network` in place until the epochs are over or `patience` is, and give it the best epoch's weights.

    With `until`, training stops after that epoch, whatever validation says, and the weights are the last ones.

    `network` and `objective` move to the configured device. The state goes to `checkpoints`/last.safetensors every
    `checkpoint_seconds`, at the end, and on Ctrl-C or SIGTERM; with `resume` the loop starts from it and reaches, on
    the same CPU with as many threads, the weights that it would have reached uninterrupted, bit for bit. `augment`
    varies the inputs of training batches, on the device.

    Raises Interrupted after Ctrl-C or SIGTERM, WorkError when the loss is no longer finite, InputError for a metric
    that does not suit the task or the validation part, or a checkpoint of something else.
    """
    settings = config.training
    metric = metrics.choose(settings.metric, objective.task)
    check_meaning(metric.name, objective.actual(validation.targets), len(objective.classes))
    device = devices.choose(config.device)
    network, objective = network.to(device), objective.to(device)
    train, validation = train.to(device), validation.to(device)
    epochs, size = settings.epochs or TABLE_EPOCHS, batch_size(config, len(train))
    batches = split_batches(len(train), size)
    optimizer = optimizers.build(config.optimizer, [weight for weight in network.parameters() if weight.requires_grad])
    state = TrainingState(network, optimizer, config.seed, digest(train.targets, validation.targets))
    last = checkpoints / LAST
    if resume:
        state.restore(last)
    progress = state.progress
    saved = time.monotonic()
    with Interruption() as interruption, ExitStack() as ending:
        for listener in listeners:
            ending.callback(listener.on_end)
            listener.on_start(Plan(epochs, len(batches), len(train), metric, progress.history))
        while not progress.finished:
            begun = time.perf_counter() - progress.seconds
            order = state.draw_order(lambda generator: train.draw_order(generator, size))
            network.train()
            for batch in train.batches(batches[progress.step :], order):
                for group in optimizer.param_groups:
                    group["lr"] = learning_rate(config, progress.epoch + progress.step / len(batches))
                inputs = batch.inputs if augment is None else augment(batch.inputs)
                loss = objective.loss(network(inputs), batch.targets)
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
            improved = progress.best_score is None or metric.better(score, progress.best_score)
            state.next_epoch(record, improved or until is not None)
            patience_ends = progress.best_epoch + (patience(config, epochs) or epochs)
            progress.finished = progress.epoch >= (until or min(epochs, patience_ends))
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
