"""Who works on which trial: each is claimed by one process, which holds a lock on its folder until it ends.

Whatever stops a process, the trials it worked on are then claimed by nobody, and the next who looks for work goes on
with them where their last checkpoint is.
"""

from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any

from optuna.exceptions import UpdateFinishedTrialError
from optuna.samplers import BaseSampler
from optuna.trial import FrozenTrial, Trial, TrialState

from dle_bundle import documents
from dle_bundle.errors import InputError
from dle_bundle.locks import Lock, alone_in
from dle_training.fitting import loop
from dle_training.fitting.listeners import read_history
from dle_training.runs import cross_validation
from dle_training.runs.folder import RunFolder
from dle_training.search import points, settings, storage
from dle_training.search import study as studies
from dle_training.search.points import Point
from dle_training.search.study import Study

MOST_ATTEMPTS = 3
"""Processes that may die over a trial, none of which got further than those before, until it counts as failed."""
_ATTEMPTS, _REACHED, _ERROR = "attempts", "reached", "error"


@dataclass(frozen=True, slots=True)
class Claim:
    """A trial that this process alone works on, as long as it holds the lock, and its point of the space.

    `deaths` are those of processes over it since it got further than ever.
    """

    trial: Trial
    lock: Lock
    point: Point
    deaths: int = 0

    @property
    def number(self) -> int:
        return self.trial.number

    def fail(self, study: Study, reason: str) -> None:
        """Tell the study that the trial failed."""
        self.trial.set_user_attr(_ERROR, reason)
        study.trials.study.tell(self.trial, state=TrialState.FAIL)

    def begin(self) -> None:
        """From now on the end of this process is a death over the trial."""
        self.trial.set_user_attr(_ATTEMPTS, self.deaths + 1)

    def forgive(self) -> None:
        """A trial that is left on purpose, by Ctrl-C, was not the death of its process."""
        with suppress(UpdateFinishedTrialError):  # this one has ended
            self.trial.set_user_attr(_ATTEMPTS, self.deaths)


def claim(study: Study, most: int) -> list[Claim]:
    """Up to `most` trials to work on: those that were abandoned, then new ones; none where all are taken or ended."""
    with alone_in(study.folder.path), storage.errors_translated("reached"):
        trials = study.trials.all()
        found = _abandoned(study, trials, most)
        begun = sum(trial.state != TrialState.WAITING for trial in trials)
        waiting = len(trials) - begun  # given points, where their process died before it began with them
        for number in range(begun, min(begun + most - len(found), study.count)):
            study.trials.study.sampler = _sampler(study, number)
            if number >= begun + waiting and (given := study.given(number)):
                study.trials.study.enqueue_trial(points.to_storable(given))
            new = study.trials.study.ask()
            found.append(Claim(new, _taken(study, new.number), points.suggest(study.request.space, new)))
        return found


def regain(study: Study, known: Claim) -> Claim | None:
    """The claim as it is now, with its lock taken again; None where others work on the trial, or have done so."""
    if known.lock.held:
        return known
    again = _taken_up(study, known.number, known.lock)
    if again is not None and again.deaths >= MOST_ATTEMPTS:  # it fails, by the next who claims it
        known.lock.release()
        return None
    return again


def running(study: Study) -> list[bool]:
    """For each trial that has begun and not ended, whether a process works on it."""
    with alone_in(study.folder.path), storage.errors_translated("read"):
        locks = [Lock(study.folder.trial(each.number).path) for each in study.trials.all() if _runs(each)]
        free = [lock.acquire() for lock in locks]
        for lock, is_free in zip(locks, free, strict=True):
            if is_free:
                lock.release()
        return [not is_free for is_free in free]


def grown(study: Study, trials: int) -> Study:
    """The study, from now on of so many trials in all, which begin with those that it has.

    Raises InputError where it has more of them, or a grid fewer combinations, and while somebody works on it, who would
    not know.
    """
    folder = study.folder
    if _grown_count(study, trials) == study.count:
        return study
    if any(running(study)):
        raise InputError(
            f"{folder.path}: --trials: trials are being trained; stop that by Ctrl-C, or let it come to its end"
        )
    with alone_in(folder.path):
        _grown_count(studies.open_study(folder), trials)  # another command may have been faster
        name, asked = studies.read(folder)
        studies.write(folder, name, replace(asked, settings=settings.changed(asked.settings, {"trials": trials})))
    return studies.open_study(folder)


def _grown_count(study: Study, trials: int) -> int:
    """How many trials the study would have. Raises InputError where it has more of them, or its grid fewer."""
    asked = settings.changed(study.request.settings, {"trials": trials})
    count = settings.trials(asked, None if study.grid is None else len(study.grid))
    if count < study.count or count < trials:
        most = "more" if study.grid is None else f"up to {len(study.grid):,} (its whole grid)"
        raise InputError(
            f"{study.folder.path}: --trials: expected {study.count:,} (as it is) or {most}, found {trials:,}"
        )
    return count


def _abandoned(study: Study, trials: list[FrozenTrial], most: int) -> list[Claim]:
    found: list[Claim] = []
    for trial in trials:
        if len(found) == most or not _runs(trial):
            continue
        again = _taken_up(study, trial.number, Lock(study.folder.trial(trial.number).path))
        if again is not None:
            found.append(again)
    return found


def _taken_up(study: Study, number: int, lock: Lock) -> Claim | None:
    """A trial that was begun, as it is now; None where another process works on it or has ended it."""
    if not lock.acquire():
        return None
    if not study.trials.runs(number):
        lock.release()
        return None
    study.trials.study.sampler = _sampler(study, number)  # in case its process died before it had a point
    again = study.trials.reopen(number)
    return Claim(again, lock, points.suggest(study.request.space, again), _deaths(study, again))


def _deaths(study: Study, again: Trial) -> int:
    """Processes that died over the trial since it got further than ever.

    So a trial that kills its processes ends soon, and machines that come and go never end one.
    """
    known, reached = again.user_attrs, _progress(study, again.number)
    if reached > float(known.get(_REACHED, 0)):
        again.set_user_attr(_REACHED, reached)
        again.set_user_attr(_ATTEMPTS, 0)
        return 0
    return int(known.get(_ATTEMPTS, 0))


def _progress(study: Study, number: int) -> float:
    """Epochs that are behind a trial, of all its folds; the steps since then count as a part of one."""
    folder = study.folder.trial(number)
    folds = [RunFolder(path) for path in folder.path.glob(f"{cross_validation.FOLDS}/*")]
    return sum(_epochs(run) for run in [folder, *folds])


def _epochs(run: RunFolder) -> float:
    saved = (run.checkpoints / loop.LAST).with_suffix(".json")
    progress = documents.read(saved, dict[str, Any]) if saved.exists() else {"epoch": 0, "step": 0}
    whole = len(read_history(run.history)) if run.history.exists() else 0
    return max(whole, progress["epoch"] + progress["step"] / (progress["step"] + 1))


def _sampler(study: Study, number: int) -> BaseSampler:
    return storage.sampler(study.request.settings, study.request.fixed.get("seed", 0), number)


def _runs(trial: FrozenTrial) -> bool:
    return trial.state == TrialState.RUNNING


def _taken(study: Study, number: int) -> Lock:
    lock = Lock(study.folder.trial(number).path)
    taken = lock.acquire()
    assert taken
    return lock
