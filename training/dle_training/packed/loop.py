"""The training loop for several trainings at once; `dle_training.fitting.loop` has the loop for one.

In a small network, overhead takes most of the time of a step. M networks with their weights in one matrix share that
overhead. Each member draws, learns, validates, stops and is saved as if it were alone, up to the rounding of sums.
"""

import time
from collections.abc import Hashable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path

import torch

from dle_bundle.errors import InputError, Interrupted, WorkError
from dle_training.config import devices
from dle_training.config.run_config import RunConfig
from dle_training.fitting import loop
from dle_training.fitting.batches import PreparedRows
from dle_training.fitting.interruption import Interruption
from dle_training.fitting.listeners import Listener, Stopped
from dle_training.fitting.loop import FitInputs, Training
from dle_training.fitting.state import own_generators
from dle_training.fitting.tensors import TrainingData
from dle_training.models import registry
from dle_training.models._base import Network
from dle_training.optimization import objectives
from dle_training.packed.network import release
from dle_training.packed.optimizer import PACKED
from dle_training.packed.pack import Pack, PackedTraining
from dle_training.settings.base import chosen


@dataclass(frozen=True, slots=True)
class Member:
    """A training to be packed, with the arguments of `loop.fit`. It continues from a state in `checkpoints`."""

    config: RunConfig
    data: TrainingData
    checkpoints: Path
    listeners: Sequence[Listener] = ()


@dataclass(frozen=True, slots=True)
class MemberResult:
    """The result of a member that finished; the network holds the weights of the best epoch."""

    network: Network
    fit: loop.FitResult


@dataclass(frozen=True, slots=True)
class MemberFailure:
    """A member that did not finish: a listener stopped it, or its loss was not finite."""

    error: Stopped | WorkError


def signature(config: RunConfig, data: TrainingData) -> Hashable | None:
    """What the members of a pack must have in common; None if this training cannot be packed.

    Only `mlp` over a table can be packed, with an optimizer of `PACKED` and constant regularisation. Learning rate,
    momentum, weight decay, dropout, seed, schedule, epochs and patience may differ between members. Their rows may
    differ too if an epoch has the same number of steps.
    """
    shape = data.preprocessing.shape(frequencies=False)
    if shape.image or shape.sequence or shape.tokens or registry.choose(config.model.name, ["table"])["table"] != "mlp":
        return None
    if config.optimizer.name not in PACKED or config.schedule.regularisation != "constant":
        return None
    size = chosen(config.training.batch_size)
    batches = loop.split_batches(len(data.train), size)
    model, objective, training = config.model, data.objective, config.training
    return (
        (shape.dense, shape.cardinalities, model.embedding_dim if shape.cardinalities else 0),
        (model.hidden, model.batch_norm),
        (objective.task, objective.classes, objective.horizon, objective.class_weights is None),
        (training.metric, config.optimizer.name, config.optimizer.beta2),
        (size, len(batches), training.checkpoint_seconds),
        devices.choose(config.device),
    )


def fit(members: Sequence[Member]) -> list[MemberResult | MemberFailure]:
    """Train members of one `signature` as `TrainingData.network` and `loop.fit` would; outcomes in the members' order.

    The end of one member does not affect the others. States are saved in the format of `loop.fit`, so either function
    continues a training that the other began. The seconds in a member's records are its share of the total time.

    Raises Interrupted after Ctrl-C or SIGTERM, with all states saved. Before the first step it raises InputError as
    `loop.fit` does.
    """
    packed, rows = _begin(members)
    outcomes: dict[PackedTraining, MemberResult | MemberFailure] = {}
    between, saved = members[0].config.training.checkpoint_seconds, time.monotonic()
    with Interruption() as interruption, ExitStack() as ending:
        endings = {each: ending.enter_context(ExitStack()) for each in packed}
        for each in packed:
            each.training.start(endings[each])
            if each.training.progress.finished:
                outcomes[each] = _end(each.training)
                endings[each].close()
        while running := [each for each in packed if each not in outcomes]:
            pack = Pack(running, rows)
            while outcomes.keys().isdisjoint(running):
                begun = time.perf_counter()
                for _ in pack.steps():
                    for each in running:
                        each.training.count_step()
                    if interruption.requested or time.monotonic() - saved >= between:
                        begun = _share(running, begun)
                        for each in running:
                            each.training.save()
                        saved = time.monotonic()
                    if interruption.requested:
                        raise Interrupted(f"Interrupted; the states of {len(running)} trainings are saved")
                running[0].training.state.loss_sum.item()  # waits for the device, so that its time counts
                _share(running, begun)
                for each in running:
                    if each.step == len(each.counts) and (outcome := _end_epoch(each.training)) is not None:
                        outcomes[each] = outcome
                        endings[each].close()
        if interruption.requested:
            raise Interrupted("Interrupted after the last epoch; the states are saved")
    return [outcomes[each] for each in packed]


def fit_if_possible(members: Sequence[Member]) -> list[MemberResult | MemberFailure] | None:
    """As `fit`, but None if the members cannot be trained at once, for example because memory is too small.

    Each of them may still be trained alone.
    """
    try:
        return fit(members)
    except WorkError:  # a study's storage or the disk failed, which would stop each training alone too
        raise
    except (InputError, RuntimeError, MemoryError):  # PyTorch raises RuntimeError for memory and for missing kernels
        return None


def _begin(members: Sequence[Member]) -> tuple[list[PackedTraining], PreparedRows]:
    """All trainings, and one table of their training rows on the device; members with the same data share its rows."""
    device = devices.choose(members[0].config.device)
    data = {id(member.data): member.data for member in members}
    firsts = dict(zip(data, accumulate((len(each.train) for each in data.values()), initial=0), strict=False))
    rows = _joined([each.train for each in data.values()]).to(device)
    validation = {key: each.validation.to(device) for key, each in data.items()}
    trainings = [
        loop.begin(
            FitInputs(
                member.data.network(member.config),
                objectives.restore(member.data.objective),
                rows.slice(slice(firsts[id(member.data)], firsts[id(member.data)] + len(member.data.train))),
                validation[id(member.data)],
                member.config,
                member.checkpoints,
                member.listeners,
            ),
            own_generators(device),
        )
        for member in members
    ]
    width = max(batch.stop - batch.start for training in trainings for batch in training.batches)
    packed = [
        PackedTraining(training, firsts[id(member.data)], width)
        for training, member in zip(trainings, members, strict=True)
    ]
    return packed, rows


def _joined(parts: Sequence[PreparedRows]) -> PreparedRows:
    """The rows of all parts, one after another."""
    if len(parts) == 1:
        return parts[0]
    inputs = {name: torch.cat([part.inputs[name] for part in parts]) for name in parts[0].inputs}
    return PreparedRows(inputs, torch.cat([part.targets for part in parts]))


def _share(running: Sequence[PackedTraining], begun: float) -> float:
    """Add an equal share of the seconds since `begun` to each training; return the current time."""
    now = time.perf_counter()
    for each in running:
        each.training.progress.seconds += (now - begun) / len(running)
    return now


def _end_epoch(training: Training) -> MemberResult | MemberFailure | None:
    """Close the epoch; return the outcome if it was the last one."""
    try:
        training.end_epoch()
    except (Stopped, WorkError) as error:
        return MemberFailure(error)
    return _end(training) if training.progress.finished else None


def _end(training: Training) -> MemberResult:
    fitted = training.end()
    release(training.inputs.network)
    return MemberResult(training.inputs.network, fitted)
