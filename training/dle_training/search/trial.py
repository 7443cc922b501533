"""One trial: claimed by a process, trained as a run (or one for each fold), watched by the pruner, told to the study.

Whatever stops a process, the trial it worked on stays claimed by nobody, and the next who looks for work goes on with
it where its last checkpoint is.
"""

import os
import time
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import mean
from typing import Any

import msgspec
import numpy as np
from optuna.trial import Trial, TrialState

from dle_bundle.errors import DleError, InputError, Interrupted, WorkError
from dle_bundle.files import alone_in, write_atomic
from dle_training import config as configuration
from dle_training import cross_validation, loop
from dle_training import run as runs
from dle_training.config import RunConfig
from dle_training.data.split import load as load_split
from dle_training.listeners import EpochRecord, Listener, Plan, Stopped
from dle_training.run import Finished, RunFolder
from dle_training.search import points, storage
from dle_training.search.points import Point
from dle_training.search.prepared import PreparedData
from dle_training.search.storage import Lock
from dle_training.search.study import Study

MOST_ATTEMPTS = 3
"""Processes that may die over a trial before it counts as failed."""
_ATTEMPTS, _ERROR, RESULT = "attempts", "error", "result"


class Result(msgspec.Struct, frozen=True, kw_only=True):
    """What the study keeps of a trial beside its score and its point.

    `seconds` of training in all folds. `sd` is the score's standard deviation over them, None for the hold-out.
    `best_epoch` is the mean of theirs, `epochs` the sum.
    """

    parameters: int
    seconds: float
    epochs: int
    best_epoch: int
    sd: float | None = None


class Watcher:
    """Who is told how the trials go on: does nothing. Calls come from the process that is asked to work."""

    def on_begin(self, number: int, point: Point, epochs: int) -> None:
        """Before a trial's first epoch, also of one that is gone on with; `epochs` are the most that it can have."""

    def on_epoch(self, number: int, epoch: int, score: float) -> None:
        """After an epoch (of all folds, from 1); `score` is what the pruner is told."""

    def on_end(self, number: int, state: str, score: float | None, error: str | None) -> None:
        """After a trial: `complete`, `pruned` or `fail`."""

    def close(self) -> None:
        """After all of it, also after an error."""


@dataclass(frozen=True, slots=True)
class Claim:
    """A trial that this process alone works on, until it is released."""

    trial: Trial
    lock: Lock

    @property
    def number(self) -> int:
        return self.trial.number


def claim(study: Study) -> Claim | None:
    """A trial to work on: one that was abandoned, else a new one; None where all have ended or have somebody."""
    with alone_in(study.folder.path), storage.told("reached"):
        trials = study.trials.all()
        for trial in trials:
            if trial.state == TrialState.RUNNING:
                lock = Lock(study.folder.trial(trial.number).path)
                if lock.taken():
                    found = Claim(study.trials.reopen(trial.number), lock)
                    if _is_hopeless(found):
                        _fail(study, found, f"the process that worked on it died {MOST_ATTEMPTS} times")
                        lock.release()
                        continue
                    return found
        begun = sum(trial.state != TrialState.WAITING for trial in trials)
        if begun >= study.count:
            return None
        asked = study.request
        new = study.trials.ask(storage.sampler(asked.settings, asked.fixed.get("seed", 0), begun))
        lock = Lock(study.folder.trial(new.number).path)
        taken = lock.taken()
        assert taken
        return Claim(new, lock)


def running(study: Study) -> list[bool]:
    """For each trial that has begun and not ended, whether a process works on it."""
    with alone_in(study.folder.path), storage.told("read"):
        found = []
        for each in study.trials.all():
            if each.state == TrialState.RUNNING:
                lock = Lock(study.folder.trial(each.number).path)
                free = lock.taken()
                if free:
                    lock.release()
                found.append(not free)
        return found


def _is_hopeless(found: Claim) -> bool:
    """Count an attempt; whether there were too many."""
    attempts = int(found.trial.user_attrs.get(_ATTEMPTS, 0)) + 1
    found.trial.set_user_attr(_ATTEMPTS, attempts)
    return attempts >= MOST_ATTEMPTS


def forgive(study: Study, found: Claim) -> None:
    """A trial that is left on purpose, by Ctrl-C, was not the death of its process."""
    attempts = int(found.trial.user_attrs.get(_ATTEMPTS, 0))
    found.trial.set_user_attr(_ATTEMPTS, attempts - 1)


class Deadline:
    """The moment after which no trial begins; never, without `seconds`."""

    def __init__(self, seconds: float | None) -> None:
        self._end = None if seconds is None else time.monotonic() + seconds

    def left(self) -> float | None:
        """Seconds until then."""
        return None if self._end is None else self._end - time.monotonic()

    @property
    def is_over(self) -> bool:
        return self._end is not None and time.monotonic() >= self._end


def work(study: Study, data: PreparedData, watcher: Watcher, deadline: Deadline) -> None:
    """Work on trials until none is left for this process. Raises Interrupted after Ctrl-C or SIGTERM."""
    while not deadline.is_over and (found := claim(study)) is not None:
        try:
            run(study, data, found, watcher)
        except Interrupted:
            with storage.told("written"):
                forgive(study, found)
            raise
        finally:
            found.lock.release()


def run(study: Study, data: PreparedData, found: Claim, watcher: Watcher) -> None:
    """Train the trial, or go on where it stopped, and tell the study what came of it."""
    trial, number = found.trial, found.number
    with storage.told("written"):
        point = points.suggest(study.request.space, trial)
    try:
        config = study.config(point)
        watcher.on_begin(number, point, (config.training.epochs or 1) * study.folds)
        result, score = _trained(study, data, found, config, watcher)
    except Stopped:
        with storage.told("written"):
            study.trials.study.tell(trial, state=TrialState.PRUNED)
        _discard(study.folder.trial(number), study.folds)
        watcher.on_end(number, "pruned", None, None)
    except Interrupted:
        raise
    except (DleError, RuntimeError, MemoryError) as error:  # of torch too: no memory, no such kernel
        reason = _reason(error)
        with storage.told("written"):
            _fail(study, found, reason)
        _discard(study.folder.trial(number), study.folds)
        watcher.on_end(number, "fail", None, reason)
    else:
        with storage.told("written"):
            trial.set_user_attr(RESULT, msgspec.to_builtins(result))
            study.trials.study.tell(trial, score)
        _discard(study.folder.trial(number), study.folds)
        watcher.on_end(number, "complete", score, None)


def _trained(
    study: Study, data: PreparedData, found: Claim, config: RunConfig, watcher: Watcher
) -> tuple[Result, float]:
    """What came of training, and the score: that of the hold-out, or the mean over the folds."""
    folder, metric = study.folder.trial(found.number), study.metric.name
    reports = Reports(study, found.trial, watcher)
    write_atomic(folder.config, configuration.dump(config))
    if study.folds > 1:
        finished = cross_validation.train(
            folder.path, config, study.schema, lambda fold: data.of(config, fold), study.folds, lambda fold: [reports]
        )
        splits = [load_split(study.folder.split(fold + 1)) for fold in range(study.folds)]
        actual = np.load(study.folder.actual, allow_pickle=False)
        cross_validation.write_out_of_fold(folder.path, study.schema, splits, finished, actual)
    else:
        for shared, own in ((study.folder.data, folder.data), (study.folder.schema, folder.schema)):
            link(shared, own)
        link(study.folder.split(0), folder.split)
        own_data = data.of(config, 0)
        own_data.write_fitted(folder.path)
        finished = [runs.fit(folder, config, study.schema, own_data, [reports])]
    scores = [score(each) for each in finished]
    spread = cross_validation.summarise(finished).sd[metric] if len(finished) > 1 else None
    result = Result(
        parameters=finished[0].parameters,
        seconds=sum(record.seconds for each in finished for record in each.history),
        epochs=sum(len(each.history) for each in finished),
        best_epoch=round(mean(each.best_epoch for each in finished)),
        sd=spread,
    )
    return result, mean(scores)


def score(finished: Finished) -> float:
    """The best epoch's score, as the loop saw it: before calibration, as the pruner was told."""
    return finished.history[finished.best_epoch - 1].metric


class Reports(Listener):
    """Tells the pruner each epoch's score, with that of the folds before it, and gives the trial up if it says so.

    The pruner's steps are epochs, counted through all folds; a fold that ends early goes on to the next one's first.
    """

    def __init__(self, study: Study, trial: Trial, watcher: Watcher) -> None:
        self._study = study
        self._trial = trial
        self._watcher = watcher
        self._before: list[float] = []
        self._best: float | None = None
        self._epochs = self._planned = 0
        self._prunes = study.request.settings.pruner != "none"
        # what an interrupted process told already is not told again
        self._told = set(study.trials.all()[trial.number].intermediate_values)

    def on_start(self, plan: Plan) -> None:
        if self._best is not None:
            self._before.append(self._best)
            self._epochs += self._planned
        self._planned, self._best = plan.epochs, None

    def on_epoch(self, history: Sequence[EpochRecord], best_epoch: int) -> None:
        record = history[-1]
        self._best = history[best_epoch - 1].metric
        step = self._epochs + record.epoch
        score = mean([*self._before, record.metric])
        self._watcher.on_epoch(self._trial.number, step, score)
        if not self._prunes:
            return
        with storage.told("written"):
            if step not in self._told:
                self._trial.report(score, step)
            stop = self._trial.should_prune()
        if stop:
            raise Stopped


def link(shared: Any, own: Any) -> None:
    """`own` becomes another name of the file `shared`, which nobody changes in place; kept where it is there."""
    if not own.exists():
        os.link(shared, own)


def _fail(study: Study, found: Claim, reason: str) -> None:
    found.trial.set_user_attr(_ERROR, reason)
    study.trials.study.tell(found.trial, state=TrialState.FAIL)


def _reason(error: Exception) -> str:
    if isinstance(error, (WorkError, InputError)):
        return "; ".join((error.message, *error.details))
    first = (str(error).strip().splitlines() or [""])[0]
    return f"{type(error).__name__}: {first:.300}" if first else type(error).__name__


def _discard(folder: RunFolder, folds: int) -> None:
    """Remove what only a resumption needs; the best weights stay."""
    places = [folder.path / cross_validation.FOLDS / str(fold + 1) for fold in range(folds)] if folds > 1 else []
    for run in [folder, *map(RunFolder, places)]:
        for suffix in (".safetensors", ".json"):
            (run.checkpoints / loop.LAST).with_suffix(suffix).unlink(missing_ok=True)
