"""Plans a training that ends within some minutes, by the time of a few steps on this machine.

The plan decides the number of epochs and, for a pack, the number of members and the folds, if the user left them open.
It is part of the configuration, so that config.yaml trains the same model again, without a measurement.
"""

import math
import tempfile
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import median

import msgspec
import torch

from dle_bundle.errors import InputError
from dle_training.config.run_config import RunConfig
from dle_training.data.splits.blocks import RowNumbers
from dle_training.data.splits.split import Split
from dle_training.ensembles import loop as ensemble_loop
from dle_training.fitting import loop, step_times, tensors
from dle_training.fitting.batches import ImageStream
from dle_training.fitting.listeners import Stopped
from dle_training.fitting.step_times import STEPS, StepTimes
from dle_training.fitting.tensors import TrainingData
from dle_training.models import pack, registry
from dle_training.runs import prepare
from dle_training.runs.prepare import Plan, Prepared
from dle_training.runs.train import fit_network
from dle_training.scoring import table_baselines
from dle_training.settings.base import chosen
from dle_training.settings.proposals import flag

_MEMBERS, _MEASURED = (64, 32, 16, 8, 4, 2), (2, 6)
_LEAST_MEMBERS = 4
"""A pack has folds if there is time for so many members with folds."""
_USUAL_EPOCHS = 25
"""Epochs, each with all members, whose time a pack usually takes until it stops improving; the deadline ends others."""
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
    if not 0 <= minutes < math.inf:
        raise InputError(f"{flag('minutes')}: expected a number of at least 0, found {minutes:g}")
    _refuse_further(asked)
    epochs = chosen(prepared.config.training.epochs)
    end = begun + 60 * minutes * (1 - _ROOM) - reading  # rows are also written
    with prepare.streamed(prepared.dataset, prepared.config.device) as stream:
        for choice in _choices(asked, prepared, _sample(prepared, stream)):
            now = time.monotonic()
            if now + choice.seconds(epochs) + choice.beside <= end:
                break
    deadline, used = end - choice.beside, now - begun
    affordable = math.floor((deadline - now) / choice.seconds(1))
    if affordable < 1:
        least = (used + reading + choice.seconds(1) + choice.beside) / (1 - _ROOM) / 60
        raise InputError(
            f"{minutes:g} minutes are too short: reading and planning take {used:.1f} s, an epoch "
            f"{choice.seconds(1):.1f} s and baselines {choice.beside:.1f} s; expected {flag('minutes')} of at least "
            f"{math.ceil(least * 100) / 100:g}"
        )
    # what the plan counts is trained: other folds would make other baselines quick enough
    changed = _change(asked, training=_change(asked.training, baseline=prepared.config.training.baseline))
    if choice.members is not None:
        changed = _with_pack(changed, choice.members, choice.folds)
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


def _choices(asked: RunConfig, prepared: Prepared, sample: TrainingData) -> Iterator[_Choice]:
    """The trainings that the user's settings allow, the best first; at least one."""
    config, split = prepared.config, prepared.dataset.split
    if config.model.name != pack.FAMILY.name:
        yield _Choice(_epoch_seconds(config, sample, split), _baseline_seconds(prepared, 1))
        return
    folds, given = registry.folds(config.model), registry.pack_settings(asked.model)
    few, more = _MEASURED
    for each in (folds,) if folds == 1 or given.folds is not None else (folds, 1):
        resolved = (prepare.resolved(_with_pack(asked, members, each), prepared.dataset) for members in _MEASURED)
        low, high = (_epoch_seconds(made.config, sample, split) for made in resolved)
        slope = max(high - low, 0) / (more - few)
        allowed = _MEMBERS if given.members is None else (given.members,)
        least = _LEAST_MEMBERS if each > 1 and given.folds is None else min(allowed)
        for members in (members for members in allowed if members >= min(least, max(allowed))):
            yield _Choice(low + slope * (members - few), _baseline_seconds(prepared, each), members, each)


def _baseline_seconds(prepared: Prepared, folds: int) -> float:
    if not prepared.config.training.baseline:
        return 0.0
    dataset = prepared.dataset
    cells = table_baselines.cells(dataset.schema, len(dataset.split.train), folds)
    return cells * table_baselines.CELL_SECONDS


def _with_pack(config: RunConfig, members: int | None, folds: int | None) -> RunConfig:
    own = _change(registry.pack_settings(config.model), members=members, folds=folds)
    return _change(config, model=_change(config.model, pack=own))


def _refuse_further(config: RunConfig) -> None:
    faults = []
    if config.training.stop_after is not None:
        faults.append(f"training.stop_after={config.training.stop_after}: the plan chooses the number of epochs")
    if config.split.folds is not None:
        faults.append(f"split.folds={config.split.folds}: each fold is a training of its own")
    if config.training.refit:
        faults.append("training.refit=true: it is a second training")
    if config.training.max_latency is not None:
        faults.append("training.max_latency: it may distil, which is a second training")
    if config.training.distill:
        faults.append("training.distill=true: it is a second training")
    if faults:
        raise InputError(
            f"{flag('minutes')} plans a single training; leave it out, or set these settings to null or false", faults
        )


def _sample(prepared: Prepared, stream: ImageStream | None) -> TrainingData:
    """Rows for a few steps and a validation."""
    config, split = prepared.config, prepared.dataset.split
    some = replace(
        split,
        train=_some(split.train, STEPS * chosen(config.training.batch_size)),
        validation=_some(split.validation, _MOST_VALIDATED),
    )
    return tensors.make(prepared.dataset.with_split(some), config, stream)


def _epoch_seconds(config: RunConfig, sample: TrainingData, split: Split) -> float:
    """Seconds of an epoch and its validation on the rows of `split`, by a few steps on a sample. Nothing is kept."""
    times, brief = StepTimes(), step_times.brief(config)
    with torch.random.fork_rng(), tempfile.TemporaryDirectory() as empty:
        network = sample.network(brief)
        with suppress(Stopped):
            fit_network(network, brief, sample, Path(empty), [times])
        begun = time.perf_counter()
        answered, _ = ensemble_loop.validated(network, sample, config.seed)
        row_seconds = (time.perf_counter() - begun) / len(answered)
    trained, validated = len(split.train), len(split.validation)
    if registry.folds(config.model) > 1:
        trained = validated = trained + validated
    steps = len(loop.split_batches(trained, chosen(config.training.batch_size)))
    return median(times.seconds) * steps + row_seconds * validated


def _some(rows: RowNumbers, most: int) -> RowNumbers:
    """At most `most` of the rows, evenly over all of them."""
    return rows[:: -(-len(rows) // most)] if len(rows) > most else rows
