"""Claims on trials: a process claims a trial by locking its folder, so no two processes train the same trial.

The operating system releases the lock when the process ends, however it ends. The trial is then unlocked and still
running, so the next process that looks for work claims it and resumes it from its last checkpoint.

A trial may itself kill its processes, for example because it needs too much memory. The study therefore counts the
processes that died on a trial before they saved its state. After `MOST_ATTEMPTS` deaths the trial fails.
"""

from contextlib import suppress
from dataclasses import dataclass, field, replace

from optuna.exceptions import UpdateFinishedTrialError
from optuna.samplers import BaseSampler
from optuna.trial import FrozenTrial, Trial, TrialState

from dle_bundle.errors import InputError
from dle_bundle.locks import Lock, alone_in
from dle_training.search import points, settings, storage
from dle_training.search import study as studies
from dle_training.search.points import Point
from dle_training.search.study import Study

MOST_ATTEMPTS = 3
"""A trial fails after this many processes in a row have died on it without saving its state."""
_ATTEMPTS, _ERROR = "attempts", "error"


@dataclass(slots=True)
class Claim:
    """A trial that this process alone works on, for as long as it holds the lock.

    `point` is the trial's point in the search space. `attempts` counts the earlier processes that died on the trial
    since its state was last saved.
    """

    trial: Trial
    lock: Lock
    point: Point
    attempts: int = 0
    _recorded: int = field(init=False)

    def __post_init__(self) -> None:
        self._recorded = self.attempts

    @property
    def number(self) -> int:
        return self.trial.number

    def fail(self, study: Study, reason: str) -> None:
        """Record in the study that the trial failed."""
        self.trial.set_user_attr(_ERROR, reason)
        study.trials.study.tell(self.trial, state=TrialState.FAIL)

    def begin(self) -> None:
        """Count an attempt: if this process dies from now on, it counts against the trial."""
        self._record(self.attempts + 1)

    def saved(self) -> None:
        """Reset the count: the state was saved, so a process that resumes the trial continues from there."""
        self.attempts = 0
        self._record(0)

    def leave(self) -> None:
        """Undo `begin`: this process stops work on the trial without dying."""
        self._record(self.attempts)

    def _record(self, attempts: int) -> None:
        if attempts == self._recorded:
            return
        with suppress(UpdateFinishedTrialError):  # the trial has ended
            self.trial.set_user_attr(_ATTEMPTS, attempts)
        self._recorded = attempts


def claim(study: Study, most: int) -> list[Claim]:
    """Claim up to `most` trials, abandoned trials first. Returns none if every trial is claimed or has ended."""
    with alone_in(study.folder.path), storage.errors_translated("reached"):
        trials = study.trials.all()
        found = _abandoned(study, trials, most)
        begun = sum(trial.state != TrialState.WAITING for trial in trials)
        waiting = len(trials) - begun  # points that were enqueued by a process that died before it used them
        for number in range(begun, min(begun + most - len(found), study.count)):
            study.trials.study.sampler = _sampler(study, number)
            if number >= begun + waiting and (given := study.given(number)):
                study.trials.study.enqueue_trial(points.to_storable(given))
            new = study.trials.study.ask()
            found.append(Claim(new, _taken(study, new.number), points.suggest(study.request.space, new)))
        return found


def regain(study: Study, known: Claim) -> Claim | None:
    """Lock a claimed trial again and return its claim. None if another process works on the trial or has ended it."""
    if known.lock.held:
        return known
    again = _taken_up(study, known.number, known.lock)
    if again is not None and again.attempts >= MOST_ATTEMPTS:  # the next process that claims the trial fails it
        known.lock.release()
        return None
    return again


def running(study: Study) -> list[bool]:
    """Return, for each trial that has begun and not ended, whether a process works on it."""
    with alone_in(study.folder.path), storage.errors_translated("read"):
        locks = [Lock(study.folder.trial(each.number).path) for each in study.trials.all() if _runs(each)]
        free = [lock.acquire() for lock in locks]
        for lock, is_free in zip(locks, free, strict=True):
            if is_free:
                lock.release()
        return [not is_free for is_free in free]


def grown(study: Study, trials: int) -> Study:
    """Extend the study to `trials` trials in total, and return the extended study.

    Raises InputError if it has more trials already, if its grid has fewer combinations, or while any process works on
    it, because that process would not notice the change.
    """
    folder = study.folder
    if _grown_count(study, trials) == study.count:
        return study
    if any(running(study)):
        raise InputError(
            f"{folder.path}: --trials: trials are being trained; stop them with Ctrl-C, or wait until they have ended"
        )
    with alone_in(folder.path):
        _grown_count(studies.open_study(folder), trials)  # another command may have extended the study meanwhile
        name, asked = studies.read(folder)
        studies.write(folder, name, replace(asked, settings=settings.changed(asked.settings, {"trials": trials})))
    return studies.open_study(folder)


def _grown_count(study: Study, trials: int) -> int:
    """Return the extended number of trials. Raises InputError if the study has more, or its grid has fewer."""
    asked = settings.changed(study.request.settings, {"trials": trials})
    count = settings.trials(asked, None if study.grid is None else len(study.grid))
    if count < study.count or count < trials:
        most = "more" if study.grid is None else f"up to {len(study.grid):,} (its whole grid)"
        raise InputError(
            f"{study.folder.path}: --trials: expected {study.count:,} (the present number) or {most}, found {trials:,}"
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
    """Claim a running trial. None if another process works on it or has ended it."""
    if not lock.acquire():
        return None
    if not study.trials.runs(number):
        lock.release()
        return None
    study.trials.study.sampler = _sampler(study, number)  # its process may have died before the trial had a point
    again = study.trials.reopen(number)
    attempts = int(again.user_attrs.get(_ATTEMPTS, 0))
    return Claim(again, lock, points.suggest(study.request.space, again), attempts)


def _sampler(study: Study, number: int) -> BaseSampler:
    return storage.sampler(study.request.settings, study.request.fixed["seed"], number)


def _runs(trial: FrozenTrial) -> bool:
    return trial.state == TrialState.RUNNING


def _taken(study: Study, number: int) -> Lock:
    lock = Lock(study.folder.trial(number).path)
    taken = lock.acquire()
    assert taken
    return lock
