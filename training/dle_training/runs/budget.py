"""Plans a training that ends within some minutes, by the time of a few steps on this machine.

The plan decides the number of epochs and, for a pack, the number of members and the folds, if the user left them open.
It is part of the configuration, so that config.yaml trains the same model again on any machine.
"""

import math
import tempfile
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from statistics import median

import msgspec
import torch

from dle_bundle.errors import InputError
from dle_training.config.run_config import RunConfig
from dle_training.data.splits.blocks import RowNumbers
from dle_training.ensembles import loop as ensemble_loop
from dle_training.fitting import loop, tensors
from dle_training.fitting.listeners import Listener, Stopped
from dle_training.models import pack, registry
from dle_training.models.pack import Ensemble, PackConfig
from dle_training.runs import prepare
from dle_training.runs.prepare import Plan, Prepared
from dle_training.runs.train import fit_network
from dle_training.scoring import table_baselines
from dle_training.settings.base import chosen
from dle_training.settings.proposals import flag

_STEPS, _WARM = 10, 3
"""Measured steps, and how many of the first ones are ignored because they are slower."""
_MEMBERS, _MEASURED = (64, 32, 16, 8, 4, 2), (2, 6)
_LEAST_MEMBERS = 4
"""A pack has folds if there is time for so many members with folds."""
_USUAL_EPOCHS = 40
"""Epochs, each with all members, whose time a pack usually takes at most until it stops improving."""
_ROOM = 0.1
"""Part of the minutes that is left for calibrating, scoring and writing the model, besides the time of reading."""
_MOST_VALIDATED = 4_096
_change = msgspec.structs.replace


def plan(asked: RunConfig, prepared: Prepared, minutes: float, begun: float, reading: float) -> Prepared:
    """Return `prepared` with a configuration that trains within `minutes` of `begun`, and with its plan.

    `asked` is the configuration before its open choices were made. `begun` is in seconds of `time.monotonic`, and the
    data took `reading` seconds to read. Raises InputError if the time is too short for one epoch, or if the
    configuration asks for further trainings.
    """
    _refuse_further(asked)
    choices = list(_pack_choices(asked, prepared) if prepared.config.model.name == "pack" else _choices(prepared))
    epochs = chosen(prepared.config.training.epochs)
    end, now = begun + 60 * minutes * (1 - _ROOM) - reading, time.monotonic()  # rows are also written
    choice = next((each for each in choices if now + each.seconds(epochs) + each.beside <= end), choices[-1])
    deadline, used = end - choice.beside, now - begun
    affordable = math.floor((deadline - now) / choice.seconds(1))
    if affordable < 1:
        least = (used + reading + choice.seconds(1) + choice.beside) / (1 - _ROOM) / 60
        raise InputError(
            f"{minutes:g} minutes are too short: reading and planning take {used:.1f} s, an epoch "
            f"{choice.seconds(1):.1f} s and baselines {choice.beside:.1f} s; expected {flag('minutes')} of at least "
            f"{math.ceil(least * 100) / 100:g}"
        )
    changed = asked
    if choice.members is not None:
        own = _change(_pack(asked), members=choice.members, folds=choice.folds)
        changed = _change(changed, model=_change(changed.model, pack=own))
    if now + choice.seconds(epochs) > deadline:
        epochs = affordable
        changed = _change(changed, training=_change(changed.training, epochs=epochs))
    made = Plan(minutes, deadline, choice.seconds(epochs), epochs, choice.members, choice.folds)
    return replace(prepare.resolved(changed, prepared.dataset), plan=made)


@dataclass(frozen=True, slots=True)
class _Choice:
    """What can be trained: an epoch takes so many seconds, and baselines take the seconds `beside`."""

    epoch_seconds: float
    beside: float
    members: int | None = None
    folds: int | None = None

    def seconds(self, epochs: int) -> float:
        """The predicted seconds until training ends, if it has so many epochs."""
        return self.epoch_seconds * (epochs if self.members is None else min(epochs, _USUAL_EPOCHS))


def _choices(prepared: Prepared) -> Iterator[_Choice]:
    yield _Choice(_epoch_seconds(prepared), _baseline_seconds(prepared, 1))


def _baseline_seconds(prepared: Prepared, folds: int) -> float:
    if not prepared.config.training.baseline:
        return 0.0
    dataset = prepared.dataset
    cells = table_baselines.cells(dataset.schema, len(dataset.split.train), folds)
    return cells * table_baselines.CELL_SECONDS


def _pack_choices(asked: RunConfig, prepared: Prepared) -> Iterator[_Choice]:
    """The packs that the user's settings allow, the best first."""
    folds = chosen(_pack(prepared.config).folds)
    given = _pack(asked)
    for each in (folds,) if folds == 1 or given.folds is not None else (folds, 1):
        few, more = _MEASURED
        low, high = (_epoch_seconds(_with_pack(asked, prepared, members, each)) for members in _MEASURED)
        slope = max(high - low, 0) / (more - few)
        allowed = _MEMBERS if given.members is None else (given.members,)
        least = _LEAST_MEMBERS if each > 1 and given.folds is None else min(allowed)
        for members in (members for members in allowed if members >= min(least, max(allowed))):
            yield _Choice(low + slope * (members - few), _baseline_seconds(prepared, each), members, each)


def _pack(config: RunConfig) -> PackConfig:
    found: PackConfig = registry.section(config.model, pack.FAMILY)
    return found


def _with_pack(asked: RunConfig, prepared: Prepared, members: int, folds: int) -> Prepared:
    own = _change(_pack(asked), members=members, folds=folds)
    return prepare.resolved(_change(asked, model=_change(asked.model, pack=own)), prepared.dataset)


def _refuse_further(config: RunConfig) -> None:
    faults = []
    if config.split.folds is not None:
        faults.append(f"split.folds={config.split.folds}: each fold is a training of its own")
    if config.training.refit:
        faults.append("training.refit=true: it is a second training")
    if config.training.max_latency is not None:
        faults.append("training.max_latency: it may distil, which is a second training")
    if config.training.distill:
        faults.append("training.distill=true: it is a second training")
    if faults:
        raise InputError(f"{flag('minutes')} plans a single training; leave it out, or these settings", faults)


class _Watch(Listener):
    """Records the time after each step, and ends the training after `_STEPS` steps."""

    def __init__(self) -> None:
        self.times: list[float] = []

    def on_step(self, epoch: int, step: int) -> None:
        self.times.append(time.perf_counter())
        if len(self.times) == _STEPS:
            raise Stopped

    def seconds(self) -> float:
        """Seconds of the median step."""
        return median(later - earlier for earlier, later in pairwise(self.times[_WARM:]))


def _epoch_seconds(prepared: Prepared) -> float:
    """Seconds of an epoch and its validation, by a few steps on some of the rows. Nothing is kept."""
    config, dataset = prepared.config, prepared.dataset
    size = chosen(config.training.batch_size)
    split = dataset.split
    some = replace(split, train=_some(split.train, _STEPS * size), validation=_some(split.validation, _MOST_VALIDATED))
    watch = _Watch()
    brief = _change(
        config,
        training=_change(config.training, epochs=_STEPS, patience=0, checkpoint_seconds=math.inf),
        optimizer=_change(config.optimizer, lr=1e-6),
    )
    with (
        torch.random.fork_rng(),
        tempfile.TemporaryDirectory() as empty,
        prepare.streamed(dataset, config.device) as stream,
    ):
        data = tensors.make(dataset.with_split(some), brief, stream)
        network = data.network(brief)
        with suppress(Stopped):
            fit_network(network, brief, data, Path(empty), [watch])
        begun = time.perf_counter()
        answered, _ = ensemble_loop.validated(network, data, config.seed)
        row_seconds = (time.perf_counter() - begun) / len(answered)
    validated = len(split.validation)
    trained = len(split.train)
    if isinstance(network, Ensemble) and network.copies > 1:
        trained = validated = trained + validated
    return watch.seconds() * len(loop.split_batches(trained, size)) + row_seconds * validated


def _some(rows: RowNumbers, most: int) -> RowNumbers:
    """At most `most` of the rows, evenly over all of them."""
    return rows[:: -(-len(rows) // most)] if len(rows) > most else rows
