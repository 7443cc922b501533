"""Comparison of runs by score, size and latency, ranked within groups of comparable runs.

A study is represented by the run that it selected. The comparison does not read the test part: it shows the test scores
that `dle-evaluate` has recorded. Latencies are measured once and kept in the run.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from dle_bundle import documents
from dle_bundle import schema as schemas
from dle_bundle.errors import DleError, InputError
from dle_bundle.files import write_atomic
from dle_bundle.schema import Schema
from dle_training.data import sources
from dle_training.data.splits import split as splits
from dle_training.export import latency
from dle_training.fitting.listeners import read_history
from dle_training.runs import contents, cross_validation, train
from dle_training.runs import folder as run_folder
from dle_training.runs.folder import DataFacts, RunFolder
from dle_training.runs.trained_model import TrainedModel
from dle_training.scoring import metrics
from dle_training.scoring.cross_validation import CrossValidation
from dle_training.scoring.metrics import Scores
from dle_training.scoring.pareto import front
from dle_training.search import study
from dle_training.search.study import StudyFolder
from dle_training.settings import proposals


class Entry(msgspec.Struct, frozen=True, kw_only=True):
    """One run of the comparison. Missing values are None, and `note` says why.

    `path` is the path that the user gave, and `study` says whether it is a study. `rows` is the number of rows in each
    part, `seconds` the training time and `latency` the time in milliseconds for a single row. `on_front` says that the
    run is on its group's Pareto front of score and latency.
    """

    path: str
    study: bool
    finished: bool
    model: str | None
    rows: dict[str, int]
    validation: Scores | None = None
    test: Scores | None = None
    cross_validation: CrossValidation | None = None
    parameters: int | None = None
    seconds: float | None = None
    latency: float | None = None
    on_front: bool = False
    note: str | None = None


class Group(msgspec.Struct, frozen=True, kw_only=True):
    """Comparable runs, which share data, target and task. The best validation score of `metric` comes first.

    `same_rows` says whether all runs were validated and tested on the same rows.
    """

    source: str
    target: str
    task: str
    metric: str
    same_rows: bool
    runs: tuple[Entry, ...]


class Timing(msgspec.Struct, frozen=True, kw_only=True):
    """Content of `latency.json`: the single-row latency of the exported model on the machine that measured it first."""

    milliseconds: float


@dataclass(frozen=True, slots=True)
class _Found:
    """Facts read from a folder without opening the model. They come from the study if it has no selected run yet."""

    path: Path
    run: RunFolder
    is_study: bool
    source: str
    model: str | None
    metric: str
    facts: DataFacts
    schema: Schema

    @property
    def kind(self) -> tuple[Any, ...]:
        """The key of the run's group. Comparable runs have equal keys."""
        outputs = self.schema.outputs
        return self.facts.digest, outputs.target, outputs.task, outputs.horizon

    @property
    def is_finished(self) -> bool:
        return self.run.metrics.is_file()


def compare(paths: Sequence[Path], progress: Callable[[int, int], None]) -> list[Group]:
    """Compare the runs and studies at `paths`, and return their groups.

    `progress(done, total)` is called for each model whose latency is measured. Raises InputError, which lists every
    path that is neither a run nor a study.
    """
    found = _found(paths)
    untimed = [each for each in found if each.is_finished and not each.run.latency.exists()]
    entries: list[tuple[_Found, Entry]] = []
    done = 0
    for each in found:
        if each in untimed:
            progress(done, len(untimed))
            done += 1
        entries.append((each, _entry(each)))
    if untimed:
        progress(done, len(untimed))
    kinds = dict.fromkeys(each.kind for each in found)
    return [_group([pair for pair in entries if pair[0].kind == kind]) for kind in kinds]


def _found(paths: Sequence[Path]) -> list[_Found]:
    found: dict[Path, _Found] = {}
    faults = []
    for path in paths:
        try:
            each = _read(path)
        except InputError as fault:
            faults.append(str(fault))
        else:
            found.setdefault(each.run.path.resolve(), each)
    if faults:
        raise InputError(f"{len(faults)} of {len(paths)} paths cannot be compared: expected runs or studies", faults)
    return list(found.values())


def _read(path: Path) -> _Found:
    if not path.is_dir():
        raise InputError(f"{path}: {'a file, not a run' if path.exists() else 'nothing is there'}")
    run_folder.refuse_trial(path)
    own, is_study = StudyFolder(path), run_folder.is_study(path)
    run = own.selected if is_study else RunFolder(path)
    if is_study and not run.config.is_file():
        fixed = study.read(own)[1].fixed
        return _Found(
            path=path, run=run, is_study=True, source=sources.said(study.source(fixed) or ""),
            model=fixed.get("model", {}).get("name"), metric=fixed["training"]["metric"],
            facts=documents.read(own.data, DataFacts), schema=schemas.load(own.schema),
        )  # fmt: skip
    config = run.read_config()
    return _Found(
        path=path, run=run, is_study=is_study, source=sources.said(config.data.source or ""), model=config.model.name,
        metric=str(config.training.metric), facts=run_folder.read_facts(run), schema=schemas.load(run.schema),
    )  # fmt: skip


def _entry(found: _Found) -> Entry:
    entry = Entry(
        path=str(found.path), study=found.is_study, finished=found.is_finished, model=found.model, rows=found.facts.rows
    )
    if not found.is_finished:
        further = f": {proposals.resuming_study(found.path)}" if found.is_study else ""
        return msgspec.structs.replace(entry, note=f"has not finished{further}")
    known = run_folder.read_metrics(found.run)
    entry = msgspec.structs.replace(
        entry,
        validation=known["validation"],
        test=known.get("test"),
        cross_validation=cross_validation.read(found.run),
        seconds=sum(record.seconds for record in read_history(found.run.history)),
    )
    try:
        model = train.open_model(found.run)
        entry = msgspec.structs.replace(entry, parameters=model.parameters)
        return msgspec.structs.replace(entry, latency=_latency(found.run, model))
    except DleError as error:
        return msgspec.structs.replace(entry, note=f"its latency is not known: {error.message}")


def _latency(run: RunFolder, model: TrainedModel) -> float:
    """Return the single-row latency in milliseconds. Measured once and kept in latency.json. Raises InputError."""
    if run.latency.exists():
        return documents.read(run.latency, Timing).milliseconds
    measured = latency.single_row(model, contents.read_training_sample(run)[0])
    write_atomic(run.latency, documents.encode(Timing(milliseconds=measured)))
    return measured


def _group(pairs: Sequence[tuple[_Found, Entry]]) -> Group:
    first, outputs = pairs[0][0], pairs[0][0].schema.outputs
    named = {found.metric for found, _ in pairs}
    metric = metrics.METRICS[named.pop()] if len(named) == 1 else metrics.choose(None, outputs.task)
    if metric.score is None:  # the loss depends on each run's class weights
        metric = metrics.choose(None, outputs.task)
    sign = -1 if metric.higher_is_better else 1
    costs = {
        entry.path: sign * score
        for _, entry in pairs
        if entry.validation is not None and (score := entry.validation[metric.name]) is not None
    }
    best = front(
        {entry.path: (costs[entry.path], entry.latency) for _, entry in pairs
         if entry.path in costs and entry.latency is not None}
    )  # fmt: skip
    ranked = sorted(
        (entry for _, entry in pairs),
        key=lambda entry: (not entry.finished, entry.path not in costs, costs.get(entry.path, 0.0)),
    )
    own = [splits.load(found.run.split) for found, _ in pairs if found.is_finished]
    return Group(
        source=first.source,
        target=outputs.target,
        task=outputs.task,
        metric=metric.name,
        same_rows=all(split.equals(own[0]) for split in own),
        runs=tuple(msgspec.structs.replace(entry, on_front=entry.path in best) for entry in ranked),
    )
