"""The training of one trial: a run for the hold-out or for each fold, pruning, and the result in the study."""

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from statistics import mean, stdev

import msgspec
import numpy as np
from optuna.trial import TrialState

from dle_bundle.errors import DleError, InputError, Interrupted, WorkError
from dle_training.config.run_config import RunConfig
from dle_training.data.splits.split import load as load_split
from dle_training.fitting import loop
from dle_training.fitting.listeners import EpochRecord, HistoryFile, Listener, Stopped, TrainingPlan
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
from dle_training.settings.base import chosen

RESULT = "result"


class TrialResult(msgspec.Struct, frozen=True, kw_only=True):
    """The result of a trial that the study stores in addition to its score and its point.

    `seconds` is the training time and `epochs` the number of epochs, both summed over the folds. `best_epoch` is the
    mean over the folds. `sd` is the standard deviation of the score over the folds, None for the hold-out.
    """

    parameters: int
    seconds: float
    epochs: int
    best_epoch: int
    sd: float | None = None


class Watcher:
    """Receives the progress of trials. Override its methods, which do nothing here.

    All calls come from the process that runs the command.
    """

    def on_begin(self, number: int, point: Point, epochs: int) -> None:
        """Called before a trial starts or resumes. `epochs` is its largest possible number of epochs."""

    def on_epoch(self, number: int, epoch: int, score: float) -> None:
        """Called after an epoch, counted from 1 over all folds. `score` is the score that the pruner receives."""

    def on_end(self, number: int, state: str, score: float | None, error: str | None) -> None:
        """Called after a trial. `state` is `complete`, `pruned` or `fail`."""

    def close(self) -> None:
        """Called once at the end, also after an error."""


class TrialTraining:
    """The training of a claimed trial, fold by fold. The hold-out counts as a single fold.

    `over` is true once the study has recorded the trial as complete, pruned or failed.
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
        watcher.on_begin(found.number, found.point, chosen(config.training.epochs) * study.folds)

    def member(self, fold: int) -> Member:
        """Return the training of a fold as a member of a pack."""
        run = self._run(fold)
        return Member(self.config, self._made(fold), run.checkpoints, [HistoryFile(run.history), self._reports()])

    def alone(self, fold: int) -> None:
        """Train a fold outside of a pack."""
        data = self._made(fold)
        with self._outcome_recorded():
            run, schema = self._run(fold), self._study.schema
            self._add(train.fit(run, self.config, schema, data, [self._reports()]))

    def take(self, fold: int, member: Member, outcome: MemberResult | MemberFailure) -> None:
        """Record the outcome of a fold that was trained in a pack."""
        with self._outcome_recorded():
            if isinstance(outcome, MemberFailure):
                raise outcome.error
            self._add(
                train.finish(
                    self._run(fold), self.config, self._study.schema, member.data, outcome.network, outcome.fit
                )
            )

    def complete(self) -> None:
        """Record the result of all folds in the study."""
        with self._outcome_recorded():
            result, mean_score = self._result()
            with storage.errors_translated("written"):
                self.claim.trial.set_user_attr(RESULT, msgspec.to_builtins(result))
                self._study.trials.study.tell(self.claim.trial, mean_score)
            self._end("complete", mean_score)

    @contextmanager
    def _outcome_recorded(self) -> Iterator[None]:
        """End the trial if the block is pruned or fails, and record that in the study."""
        try:
            yield
        except Stopped:
            with storage.errors_translated("written"):
                self._study.trials.study.tell(self.claim.trial, state=TrialState.PRUNED)
            self._end("pruned")
        except (Interrupted, StorageError):
            raise
        except (
            DleError,
            RuntimeError,
            MemoryError,
        ) as error:  # torch raises RuntimeError, for example if memory runs out or a kernel is missing
            why = reason(error)
            with storage.errors_translated("written"):
                self.claim.fail(self._study, why)
            self._end("fail", error=why)

    def _made(self, fold: int) -> TrainingData:
        """Return the data of a fold, and write all files that its folder needs before training."""
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
        """Return the result to store and the score: the hold-out score, or the mean over the folds."""
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
        """End the trial: delete the checkpoints that only resuming needs, and report to the watcher.

        The best weights are kept.
        """
        self.over = True
        for fold in range(self._study.folds):
            loop.discard_last(self._run(fold).checkpoints)
        self._watcher.on_end(self.claim.number, state, mean_score, error)


def score(finished: RunResult) -> float:
    """Return the score of the best epoch, before calibration. The pruner receives the same scores."""
    return finished.history[finished.best_epoch - 1].metric


class Reports(Listener):
    """Reports each epoch's score to the pruner, and stops the trial if the pruner says so.

    The reported score is the mean of this epoch's score and the scores of the folds `before` it. The pruner's steps are
    epochs, counted over all folds. If a fold ends early, the steps of its missing epochs are skipped.
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
        self._reported: set[int] = set()

    def on_start(self, plan: TrainingPlan) -> None:
        self._planned = plan.epochs
        if self._prunes:  # scores that an interrupted process has reported are not reported again
            with storage.errors_translated("read"):
                self._reported = set(self._study.trials.all()[self._trial.number].intermediate_values)

    def on_epoch(self, history: Sequence[EpochRecord], best_epoch: int) -> None:
        record = history[-1]
        step = self._planned * len(self._before) + record.epoch
        score = mean([*self._before, record.metric])
        self._watcher.on_epoch(self._trial.number, step, score)
        if not self._prunes:
            return
        with storage.errors_translated("written"):
            if step not in self._reported:
                self._trial.report(score, step)
            # near its end most of a trial's cost is spent, and a complete trial is worth more than a pruned one
            stop = step <= self._planned * self._study.folds * self._prunable and self._trial.should_prune()
        if stop:
            raise Stopped

    def on_checkpoint(self, path: Path) -> None:
        with storage.errors_translated("written"):
            self._claim.saved()


def _link(shared: Path, own: Path) -> None:
    """Hard-link `shared` as `own`, unless `own` exists. The file is never changed in place."""
    if not own.exists():
        os.link(shared, own)


def reason(error: Exception) -> str:
    """Return why a training failed, as one line."""
    if isinstance(error, WorkError):
        return error.message  # its details advise on the settings of a run
    if isinstance(error, InputError):
        return "; ".join((error.message, *error.details))
    first = (str(error).strip().splitlines() or [""])[0]
    return f"{type(error).__name__}: {first:.300}" if first else type(error).__name__
