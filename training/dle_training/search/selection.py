"""Selection of the final model: finalists with further seeds, the selection rule, the final training, the test score.

The selection uses validation scores only. The test part is read once, after the selection.
"""

import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from math import sqrt
from pathlib import Path
from statistics import mean, stdev
from typing import Any

import msgspec
from optuna.trial import FrozenTrial, TrialState

from dle_bundle import documents, locks
from dle_bundle.errors import WorkError, counted
from dle_bundle.files import atomic_folder, write_atomic
from dle_training.config.run_config import RunConfig
from dle_training.data.dataset import Dataset
from dle_training.fitting.listeners import Listeners
from dle_training.runs import cross_validation, evaluate, prepare, train
from dle_training.runs import folder as run_folder
from dle_training.runs.folder import RunFolder
from dle_training.runs.prepare import Prepared
from dle_training.scoring.evaluation import Evaluation
from dle_training.search import points, storage, trial
from dle_training.search.points import Point
from dle_training.search.shared_data import PreparedData
from dle_training.search.storage import StorageError
from dle_training.search.study import Study
from dle_training.search.trial import TrialResult
from dle_training.settings import proposals

SELECTION, FINALISTS = "selection.json", "finalists"
_ERRORS_SHOWN = 3


class Candidate(msgspec.Struct, frozen=True, kw_only=True):
    """A complete trial, which can be selected.

    `score` is the trial's own score, `sd` its standard deviation over the folds and `error` the standard error of the
    mean. A finalist that was trained with further seeds has their scores in `scores`. Its `score`, `sd` and `error` are
    the mean, standard deviation and standard error of `scores`. They leave out the trial's own score, because that
    score made it a finalist. `sd` and `error` are None for a single score.
    """

    number: int
    score: float
    parameters: int
    seconds: float
    scores: tuple[float, ...] = ()
    sd: float | None = None
    error: float | None = None


class Selection(msgspec.Struct, frozen=True, kw_only=True):
    """Content of `selection.json`: the selected trial, the rule, and the finalists, best first.

    `ended` is the number of trials that had ended at the selection. If more have ended since, the selection is
    repeated.
    """

    number: int
    rule: str
    finalists: tuple[Candidate, ...]
    ended: int


@dataclass(frozen=True, slots=True)
class Selected:
    """The result of a study: the selection, the selected point, and the scores of `selected/` on the test part."""

    selection: Selection
    point: Point
    test: Evaluation


@contextmanager
def concluding(study: Study) -> Iterator[None]:
    """Let one process at a time select a model and measure latencies. A second process then finds the work done."""
    trials = study.folder.trials
    trials.mkdir(mode=0o700, exist_ok=True)
    with locks.alone_in(trials):
        yield


def select(study: Study, dataset: Callable[[], Dataset], listeners: Listeners) -> Selected:
    """Select a trial, train the final model if needed, and evaluate it on the test part.

    Steps that were completed before are not repeated. `listeners(what)` returns the listeners of the training named
    `what`. Raises WorkError if no trial is complete, and Interrupted after Ctrl-C, with the state of every training
    saved.
    """
    with PreparedData(study, dataset) as data:
        selection = _decided(study, data, listeners)
        with storage.errors_translated("read"):
            chosen = study.trials.all()[selection.number]
        point = points.from_storable(study.request.space, chosen.params)
        run = study.folder.selected
        if not run.metrics.is_file():
            _train_selected(study, selection.number, study.config(selection.number), data, listeners)
        if study.folds > 1 and cross_validation.read(run) is None:
            found = cross_validation.read(study.folder.trial(selection.number))
            run_folder.write_metrics(run, cross_validation=found)
        if "test" in run_folder.read_metrics(run):
            return Selected(selection, point, evaluate.recorded(run))
        return Selected(selection, point, evaluate.evaluate_test_part(run, *data.dataset().part("test")))


def _decided(study: Study, data: PreparedData, listeners: Listeners) -> Selection:
    path = study.folder.path / SELECTION
    with storage.errors_translated("read"):
        ended = sum(each.state in storage.ENDED for each in study.trials.all())
    decided = documents.read(path, Selection) if path.exists() else None
    if decided is not None and decided.ended == ended:
        return decided
    settings, metric = study.request.settings, study.metric
    ranked = ranking(study)[: settings.finalists]
    if settings.seeds > 1:
        ranked = _repeated(study, ranked, data, listeners)
        ranked.sort(key=lambda candidate: candidate.score, reverse=metric.higher_is_better)
    chosen = ranked[0]
    if settings.rule == "one_standard_error":
        # with further seeds only finalists have a standard error, without them every trial has one over its folds
        pool = ranked if settings.seeds > 1 else ranking(study)
        chosen = simplest(pool, higher_is_better=metric.higher_is_better)
    selection = Selection(number=chosen.number, rule=settings.rule, finalists=tuple(ranked), ended=ended)
    if decided is not None and decided.number != chosen.number:  # it was selected from fewer trials
        shutil.rmtree(study.folder.selected.path, ignore_errors=True)
    write_atomic(path, documents.encode(selection))
    return selection


def _repeated(study: Study, ranked: Sequence[Candidate], data: PreparedData, listeners: Listeners) -> list[Candidate]:
    """Train the finalists with further seeds, and return them without those that fail.

    Raises WorkError if all fail.
    """
    kept, errors = [], []
    for candidate in ranked:
        try:
            kept.append(_with_seeds(study, candidate, data, listeners))
        except StorageError:
            raise
        except (RuntimeError, MemoryError) as error:  # WorkError is one
            errors.append(f"trial {candidate.number}: {trial.reason(error)}")
    if not kept:
        raise WorkError(f"none of {len(ranked)} finalists can be trained with other seeds", errors)
    return kept


def ranking(study: Study) -> list[Candidate]:
    """Return all complete trials, best first. Raises WorkError, which lists the first errors, if there are none."""
    with storage.errors_translated("read"):
        trials = study.trials.all()
    complete = [each for each in trials if each.state == TrialState.COMPLETE]
    if not complete:
        raise WorkError(f"none of {counted(len(trials), 'trial')} is complete", _first_errors(study, trials))
    candidates = [_candidate(study, each) for each in complete]
    return sorted(candidates, key=lambda candidate: candidate.score, reverse=study.metric.higher_is_better)


def simplest(candidates: Sequence[Candidate], *, higher_is_better: bool) -> Candidate:
    """Return the candidate with the fewest parameters within one standard error of the best (Breiman et al., 1984)."""
    best = max(candidates, key=lambda each: each.score if higher_is_better else -each.score)
    within = [each for each in candidates if abs(each.score - best.score) <= (best.error or 0.0)]
    return min(within, key=lambda each: (each.parameters, abs(each.score - best.score)))


def result_of(ended: FrozenTrial) -> TrialResult:
    """Return the stored result of a complete trial."""
    return msgspec.convert(ended.user_attrs[trial.RESULT], TrialResult)


def _candidate(study: Study, ended: FrozenTrial) -> Candidate:
    assert ended.value is not None
    result = result_of(ended)
    error = None if result.sd is None else result.sd / sqrt(study.folds)
    return Candidate(
        number=ended.number, score=ended.value, parameters=result.parameters, seconds=result.seconds, sd=result.sd,
        error=error,
    )  # fmt: skip


def _with_seeds(study: Study, candidate: Candidate, data: PreparedData, listeners: Listeners) -> Candidate:
    """Train the finalist with each further seed on the same rows, and return it with the statistics of those scores."""
    config = study.config(candidate.number)
    scores = []
    for further in range(1, study.request.settings.seeds):
        own = msgspec.structs.replace(config, seed=(config.seed + further) % 2**32)
        folder = study.folder.path / FINALISTS / f"{candidate.number:03}-seed{own.seed}"
        name = f"trial {candidate.number}, seed {own.seed}"
        scores.append(_score(study, folder, own, data, listeners, name))
    sd = stdev(scores) if len(scores) > 1 else None
    error = None if sd is None else sd / sqrt(len(scores))
    return msgspec.structs.replace(candidate, score=mean(scores), scores=tuple(scores), sd=sd, error=error)


def _score(
    study: Study,
    folder: Path,
    config: RunConfig,
    data: PreparedData,
    listeners: Listeners,
    name: str,
) -> float:
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    if study.folds > 1:
        finished = cross_validation.train(
            folder, config, study.schema, lambda fold: data.of(config, fold), study.folds,
            lambda what: listeners(f"{name}, {what}"),
        )  # fmt: skip
    else:
        finished = [train.fit(RunFolder(folder), config, study.schema, data.of(config, 0), listeners(name))]
    return mean(trial.score(each) for each in finished)


def _train_selected(
    study: Study,
    number: int,
    config: RunConfig,
    data: PreparedData,
    listeners: Listeners,
) -> None:
    """Make `selected/` a run of this configuration.

    It is a copy of the trial's run, or a new training if the trial was cross-validated or refitting is on.
    """
    run, refit = study.folder.selected, study.request.settings.refit
    if study.folds == 1 and not refit:
        with atomic_folder(run.path, mode=0o700) as temporary:
            _copy(study.folder.trial(number).path, temporary)
            train.complete(RunFolder(temporary), config, data.dataset(), data.of(config, 0))
        return
    config = msgspec.structs.replace(
        config,
        training=msgspec.structs.replace(config.training, refit=refit),
        split=msgspec.structs.replace(config.split, folds=None),
    )
    prepared = Prepared(config, data.dataset())
    if not run.config.is_file():
        prepare.create(run.path, prepared)
    train.train(run, prepared, lambda what: listeners(f"the selected model, {what}" if what else "the selected model"))


def _copy(source: Path, target: Path) -> None:
    """Hard-link all files of a trial except its lock. The files are never changed in place."""
    for path in sorted(source.rglob("*")):
        own = target / path.relative_to(source)
        if path.is_dir():
            own.mkdir(exist_ok=True)
        elif path.name != locks.LOCK:
            own.hardlink_to(path)


def _first_errors(study: Study, trials: Sequence[FrozenTrial]) -> list[str]:
    errors: list[Any] = [(each.number, storage.error_of(each)) for each in trials if storage.error_of(each)]
    lines = [f"trial {number}: {error}" for number, error in errors[:_ERRORS_SHOWN]]
    pruned = sum(each.state == TrialState.PRUNED for each in trials)
    if pruned:
        lines.append(f"the pruner stopped {pruned} early")
    if (left := study.count - sum(each.state in storage.ENDED for each in trials)) > 0:
        lines.append(f"{left:,} have not ended: {proposals.resuming_study(study.folder.path)}")
    if len(errors) > _ERRORS_SHOWN:
        lines.append(f"and {len(errors) - _ERRORS_SHOWN} more failed")
    return lines
