"""One trial: trained as a run (or one for each fold), watched by the pruner, told to the study."""

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from statistics import mean, stdev

import msgspec
import numpy as np
from optuna.trial import TrialState

from dle_bundle.errors import DleError, InputError, Interrupted, WorkError
from dle_bundle.files import write_atomic
from dle_training.config import run_config
from dle_training.config.run_config import RunConfig
from dle_training.data.split import load as load_split
from dle_training.fitting import loop
from dle_training.fitting.listeners import EpochRecord, HistoryFile, Listener, Plan, Stopped
from dle_training.fitting.tensors import TrainingData
from dle_training.packed import Member, MemberFailure, MemberResult
from dle_training.runs import cross_validation, train
from dle_training.runs import folder as run_folder
from dle_training.runs.folder import RunFolder
from dle_training.runs.train import RunResult
from dle_training.search import storage
from dle_training.search.points import Point
from dle_training.search.shared_data import PreparedData
from dle_training.search.storage import StorageError
from dle_training.search.study import Study
from dle_training.search.trial_locks import Claim

RESULT = "result"


class TrialResult(msgspec.Struct, frozen=True, kw_only=True):
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


class TrialTraining:
    """A claimed trial that is being trained, fold by fold (a single one for the hold-out).

    It is over when its result, the pruner's verdict or its error has been told to the study.
    """

    def __init__(self, study: Study, data: PreparedData, found: Claim, config: RunConfig, watcher: Watcher) -> None:
        self.claim = found
        self.over = False
        self._study = study
        self._data = data
        self._watcher = watcher
        self._folder = study.folder.trial(found.number)
        self._finished: list[RunResult] = []
        self.config = config
        watcher.on_begin(found.number, found.point, (self.config.training.epochs or 1) * study.folds)
        write_atomic(self._folder.config, run_config.dump(self.config))

    def member(self, fold: int) -> Member:
        """The training of a fold, to be done packed."""
        run = self._run(fold)
        return Member(self.config, self._made(fold), run.checkpoints, [HistoryFile(run.history), self._reports()])

    def alone(self, fold: int) -> None:
        """Train a fold by itself."""
        data = self._made(fold)
        with self._outcome_recorded():
            run, schema = self._run(fold), self._study.schema
            self._add(train.fit(run, self.config, schema, data, [self._reports()]))

    def take(self, fold: int, member: Member, outcome: MemberResult | MemberFailure) -> None:
        """What came of a fold that was trained in a pack."""
        with self._outcome_recorded():
            if isinstance(outcome, MemberFailure):
                raise outcome.error
            self._add(train.finish(self._run(fold), self._study.schema, member.data, outcome.network, outcome.fit))

    def complete(self) -> None:
        """Tell the study the result of all folds."""
        with self._outcome_recorded():
            result, mean_score = self._result()
            with storage.errors_translated("written"):
                self.claim.trial.set_user_attr(RESULT, msgspec.to_builtins(result))
                self._study.trials.study.tell(self.claim.trial, mean_score)
            self._end("complete", mean_score)

    @contextmanager
    def _outcome_recorded(self) -> Iterator[None]:
        """What a trial may fail by, and the pruner's verdict, end it and are told to the study."""
        try:
            yield
        except Stopped:
            with storage.errors_translated("written"):
                self._study.trials.study.tell(self.claim.trial, state=TrialState.PRUNED)
            self._end("pruned")
        except (Interrupted, StorageError):
            raise
        except (DleError, RuntimeError, MemoryError) as error:  # of torch too: no memory, no such kernel
            why = reason(error)
            with storage.errors_translated("written"):
                self.claim.fail(self._study, why)
            self._end("fail", error=why)

    def _made(self, fold: int) -> TrainingData:
        """The data of a fold, whose folder now has all but what training adds."""
        run, data = self._run(fold), self._data.of(self.config, fold)
        run.path.mkdir(mode=0o700, parents=True, exist_ok=True)
        if self._study.folds == 1:
            shared = self._study.folder
            for common, own in ((shared.data, run.data), (shared.schema, run.schema), (shared.split(0), run.split)):
                _link(common, own)
        data.write_fitted(run.path)
        return data

    def _add(self, finished: RunResult) -> None:
        """Keep the result of a fold."""
        self._finished.append(finished)
        if len(self._finished) < self._study.folds:
            with storage.errors_translated("written"):
                self.claim.saved()

    def _reports(self) -> "Reports":
        return Reports(self._study, self.claim, self._watcher, [score(each) for each in self._finished])

    def _run(self, fold: int) -> RunFolder:
        if self._study.folds == 1:
            return self._folder
        return RunFolder(self._folder.path / cross_validation.FOLDS / str(fold + 1))

    def _result(self) -> tuple[TrialResult, float]:
        """What the study keeps, and the score: that of the hold-out, or the mean over the folds."""
        study, finished = self._study, self._finished
        spread = None
        if study.folds > 1:
            splits = [load_split(study.folder.split(fold + 1)) for fold in range(study.folds)]
            actual = np.load(study.folder.actual, allow_pickle=False)
            cross_validation.write_out_of_fold(self._folder.path, study.schema, splits, finished, actual)
            summary = cross_validation.summarise(finished)
            run_folder.write_metrics(self._folder, cross_validation=summary)
            spread = stdev(score(each) for each in finished)
        result = TrialResult(
            parameters=finished[0].parameters,
            seconds=sum(record.seconds for each in finished for record in each.history),
            epochs=sum(len(each.history) for each in finished),
            best_epoch=round(mean(each.best_epoch for each in finished)),
            sd=spread,
        )
        return result, mean(score(each) for each in finished)

    def _end(self, state: str, mean_score: float | None = None, error: str | None = None) -> None:
        """Remove what only a resumption needs; of a trial that came to its end the best weights stay."""
        self.over = True
        for fold in range(self._study.folds):
            loop.discard_last(self._run(fold).checkpoints)
        self._watcher.on_end(self.claim.number, state, mean_score, error)


def score(finished: RunResult) -> float:
    """The best epoch's score, as the loop saw it: before calibration, as the pruner was told."""
    return finished.history[finished.best_epoch - 1].metric


class Reports(Listener):
    """Tells the pruner each epoch's score, with those of the folds `before` it, and gives the trial up if it says so.

    The pruner's steps are epochs, counted through all folds; a fold that ends early goes on to the next one's first.
    """

    def __init__(self, study: Study, claim: Claim, watcher: Watcher, before: Sequence[float]) -> None:
        self._study = study
        self._claim = claim
        self._trial = claim.trial
        self._watcher = watcher
        self._before = before
        self._planned = 0
        self._prunes = study.request.settings.pruner != "none"
        self._prunable = 1 - 1 / study.request.settings.reduction
        self._told: set[int] = set()

    def on_start(self, plan: Plan) -> None:
        self._planned = plan.epochs
        if self._prunes:  # what an interrupted process told already is not told again
            with storage.errors_translated("read"):
                self._told = set(self._study.trials.all()[self._trial.number].intermediate_values)

    def on_epoch(self, history: Sequence[EpochRecord], best_epoch: int) -> None:
        record = history[-1]
        step = self._planned * len(self._before) + record.epoch
        score = mean([*self._before, record.metric])
        self._watcher.on_epoch(self._trial.number, step, score)
        if not self._prunes:
            return
        with storage.errors_translated("written"):
            if step not in self._told:
                self._trial.report(score, step)
            # later on a trial has cost what it costs, and is worth more as one that came to its end
            stop = step <= self._planned * self._study.folds * self._prunable and self._trial.should_prune()
        if stop:
            raise Stopped

    def on_checkpoint(self, path: Path) -> None:
        with storage.errors_translated("written"):
            self._claim.saved()


def _link(shared: Path, own: Path) -> None:
    """`own` becomes another name of the file `shared`, which nobody changes in place; kept where it is there."""
    if not own.exists():
        os.link(shared, own)


def reason(error: Exception) -> str:
    """Why a training failed, in a line."""
    if isinstance(error, WorkError):
        return error.message  # its details advise on the settings of a run
    if isinstance(error, InputError):
        return "; ".join((error.message, *error.details))
    first = (str(error).strip().splitlines() or [""])[0]
    return f"{type(error).__name__}: {first:.300}" if first else type(error).__name__
