"""The choice of the model that a pack keeps: its ensemble, fewer members of it, or one distilled network.

With `training.max_latency` the choices are measured, and the one with the best validation score among those within the
limit is taken. The configuration of the run then has the choice in place of the limit, in `model.pack.keep` and
`training.distill`. A run with this configuration measures nothing. On the same kind of CPU with the same number of
threads, it trains the same weights.
"""

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from msgspec.structs import replace

from dle_bundle import documents
from dle_bundle.files import write_atomic
from dle_bundle.groups import Groups, concatenate
from dle_bundle.schema import Schema
from dle_training.config import run_config
from dle_training.config.run_config import RunConfig
from dle_training.data.dataset import Dataset
from dle_training.data.rows import shuffled_rows
from dle_training.ensembles import answers, choice, distillation
from dle_training.ensembles import loop as ensemble_loop
from dle_training.fitting import checkpoint, loop
from dle_training.fitting.listeners import Listener, Listeners
from dle_training.fitting.state import LoopProgress
from dle_training.fitting.tensors import TrainingData
from dle_training.models import linear, mlp, pack, registry
from dle_training.models._base import Network
from dle_training.models.families import ModelConfig
from dle_training.models.pack import Ensemble
from dle_training.optimization import objectives
from dle_training.runs import training_sample, validation
from dle_training.runs.folder import RunFolder
from dle_training.runs.trained_model import TrainedModel
from dle_training.runs.validation import Answered
from dle_training.scoring import metrics
from dle_training.scoring.metrics import Predictions
from dle_training.scoring.model_choices import ModelChoice, ModelChoices, difference
from dle_training.settings.base import chosen
from dle_training.settings.proposals import setting

Measure = Callable[[TrainedModel, Groups], float]
"""The milliseconds that a model needs for a single row, given training rows (see `training_sample`)."""
_SHUFFLED, _LEAST_SHUFFLED = 2, 20_000
"""Distillation has so many rows with shuffled columns for each training row, and at least so many."""


@dataclass(frozen=True, slots=True)
class _Candidate:
    """A model that the run may keep, and its answers to validation rows."""

    network: Network
    answered: Answered
    members: int = 1
    distilled: bool = False


def choose(
    run: RunFolder,
    config: RunConfig,
    schema: Schema,
    data: TrainingData,
    network: Network,
    dataset: Dataset | None,
    measure: Measure | None,
    listeners: Listeners,
) -> tuple[Network, Answered]:
    """Return the model to keep, on the CPU, and its answers to validation rows.

    What is measured is written to `choices.json`, and then the choice to `config.yaml`. If the run was interrupted
    after the first, the choice in it is taken. A trial or a fold has no `dataset`; nothing is measured then, and
    nothing is distilled. Raises Interrupted as `loop.fit` does.
    """
    network.cpu()
    known = None if dataset is None else read(run)
    if known is not None:
        _write_choice(run, known)
        config = _with_choice(config, known)
    limit, distill = config.training.max_latency, config.training.distill
    found, start = _fewer_and_fewer(network, data, config)
    wanted = limit is not None or bool(distill)
    if dataset is None or not wanted:
        return _taken(run, found[0])

    def distilled() -> _Candidate:
        own = listeners("distillation")
        return _distilled(run, found[0].network, start, data, dataset, config, own)

    if measure is None or known is not None:
        return _taken(run, distilled() if distill else found[0])
    training, target = dataset.part("train")
    sample = training.take(training_sample.choose(training, target, schema.outputs))
    metric = metrics.choose(None, schema.outputs.task)

    def from_ensemble(predicted: Predictions) -> float:
        return difference(validation.of(found[0].answered, data.objective).predicted, predicted)

    def measured(candidate: _Candidate) -> ModelChoice:
        validated = validation.of(candidate.answered, data.objective)
        model = TrainedModel(schema, data.preprocessing, candidate.network.eval(), validated.objective, 0)
        return ModelChoice(
            members=candidate.members,
            distilled=candidate.distilled,
            score=chosen(validated.scores[metric.name]),
            milliseconds=measure(model, sample),
            difference=from_ensemble(validated.predicted) if candidate.distilled else None,
        )

    choices = [measured(each) for each in found]
    slow = limit is not None and choices[0].milliseconds > limit
    if distill or (distill is None and slow and isinstance(network, Ensemble)):
        found.append(distilled())
        choices.append(measured(found[-1]))
    place = len(choices) - 1 if distill else _best(choices, limit)
    choices[place] = replace(choices[place], taken=True)
    table = ModelChoices(
        metric=metric.name,
        max_latency=limit,
        folds=network.copies if isinstance(network, Ensemble) else 1,
        choices=tuple(choices),
    )
    write_atomic(run.choices, documents.encode(table))
    _write_choice(run, table)
    return _taken(run, found[place])


def read(run: RunFolder) -> ModelChoices | None:
    """Return the models that a run could have kept, or None if they were not measured."""
    return documents.read(run.choices, ModelChoices) if run.choices.is_file() else None


def warning(run: RunFolder) -> str | None:
    """Return what to do if the model that the run kept is slower than it should be; else None."""
    choices, config = read(run), run.read_config()
    if choices is None or not choices.too_slow:
        return None
    smaller = _smaller(config.model)
    further = "with a higher limit"
    if smaller is not None:
        further = f"with a smaller model, such as {smaller}, or {further}"
    which = "The model" if len(choices.choices) == 1 else "Of the choices, none is within the limit. The fastest"
    taken = choices.taken
    return (
        f"{which} ({choices.name(taken)}) takes {taken.milliseconds:.3g} ms for a single row, more than "
        f"{choices.max_latency:g} ms: train again {further}"
    )


def _smaller(model: ModelConfig) -> str | None:
    """The setting that makes a model smaller, or None if it is as small as it can be."""
    if model.name == pack.FAMILY.name:
        own = registry.pack_settings(model)
        width = chosen(own.width)
        return setting("model.pack.width", width // 2) if width > 1 and any(chosen(own.blocks)) else None
    if model.name == mlp.FAMILY.name:
        widths = chosen(model.hidden)
        return setting("model.hidden", [max(width // 2, 1) for width in widths]) if max(widths, default=1) > 1 else None
    return None if model.name == linear.FAMILY.name else setting("model.name", pack.FAMILY.name)


def _fewer_and_fewer(network: Network, data: TrainingData, config: RunConfig) -> tuple[list[_Candidate], Network]:
    """The model as `model.pack.keep` has it and, if more is wanted, half of its members, half of these, down to one.

    Also the best member with a hidden layer, if there is one, at which a distillation begins.
    """
    keep = registry.pack_settings(config.model).keep
    if not isinstance(network, Ensemble) or (
        keep is None and config.training.max_latency is None and not config.training.distill
    ):
        members = len(network) // network.copies if isinstance(network, Ensemble) else 1
        return [_Candidate(network, Answered(*ensemble_loop.validated(network, data, config.seed)), members)], network
    rows = ensemble_loop.validation_rows(network, data, config.seed)
    objective = objectives.restore(data.objective)
    outputs = torch.cat(ensemble_loop.outputs(network, rows))  # (M, N, K)
    found = answers.of_targets(outputs, rows.targets, objective)
    order, _ = choice.greedy(found, lambda each: answers.losses(each, rows.targets, objective), keep or len(found))

    deep = [group.layers > 1 for group in network.running for _ in range(len(group) // network.copies)]
    start = next((place for place in order if deep[place]), order[0])

    def only(places: Sequence[int]) -> _Candidate:
        fewer = copy.deepcopy(network)
        fewer.keep(places)
        return _Candidate(fewer, Answered(rows, fewer.mean(outputs[sorted(places)])), len(places))

    counts = [len(order)]
    while counts[-1] > 1:
        counts.append(counts[-1] // 2)
    return [only(order[:count]) for count in counts], only([start]).network


def _distilled(
    run: RunFolder,
    whole: Network,
    start: Network,
    data: TrainingData,
    dataset: Dataset,
    config: RunConfig,
    listeners: Sequence[Listener],
) -> _Candidate:
    assert isinstance(whole, Ensemble)
    assert isinstance(start, Ensemble)
    rows = dataset.part("train")[0]
    if whole.copies > 1:
        rows = concatenate([rows, dataset.part("validation")[0]])
    count = max(_SHUFFLED * len(rows), _LEAST_SHUFFLED)
    shuffled = data.preprocessing.prepare(shuffled_rows.make(rows, count, np.random.default_rng(config.seed)))
    students = distillation.fit(whole, start, data, shuffled, config, run.distilled, listeners)
    answered = Answered(*distillation.validated(students, data, config.seed))
    return _Candidate(students.last(), answered, 1, distilled=True)


def _best(choices: Sequence[ModelChoice], limit: float | None) -> int:
    """The place of the best score among the choices within the limit, or of the fastest choice if none is."""
    within = [place for place, each in enumerate(choices) if limit is None or each.milliseconds <= limit]
    if not within:
        return min(range(len(choices)), key=lambda place: choices[place].milliseconds)
    return min(within, key=lambda place: choices[place].score)  # log loss or root mean squared error


def _write_choice(run: RunFolder, choices: ModelChoices) -> None:
    write_atomic(run.config, run_config.dump(_with_choice(run.read_config(), choices)))


def _with_choice(config: RunConfig, choices: ModelChoices) -> RunConfig:
    """The configuration with the choice in place of the limit."""
    model, taken = config.model, choices.taken
    if not taken.distilled and taken.members < choices.choices[0].members:
        own = replace(registry.pack_settings(model), keep=taken.members)
        model = replace(model, pack=own)
    training = replace(config.training, max_latency=None, distill=taken.distilled)
    return replace(config, model=model, training=training)


def _taken(run: RunFolder, candidate: _Candidate) -> tuple[Network, Answered]:
    """Let the checkpoint hold the members that are kept; a distilled network is beside it."""
    network = candidate.network
    if isinstance(network, Ensemble) and not candidate.distilled:
        tensors, progress = checkpoint.read(run.checkpoints / loop.BEST, LoopProgress)
        kept = network.state_dict()
        if any(tensors[name].shape != tensor.shape for name, tensor in kept.items()):
            checkpoint.write(run.checkpoints / loop.BEST, kept, progress)
    return network, candidate.answered
