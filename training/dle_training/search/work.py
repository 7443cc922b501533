"""The work loop of one process: claim trials, and train them, several together if that is faster."""

import time
from collections import defaultdict
from collections.abc import Hashable, Iterator, Sequence
from contextlib import contextmanager, suppress
from itertools import chain
from pathlib import Path

from dle_bundle import locks
from dle_bundle.errors import InputError, Interrupted, counted
from dle_training import packed
from dle_training.config.run_config import RunConfig
from dle_training.packed import Member
from dle_training.search import storage, trial_locks
from dle_training.search.shared_data import PreparedData
from dle_training.search.storage import StorageError
from dle_training.search.study import Study
from dle_training.search.trial import TrialTraining, Watcher
from dle_training.search.trial_locks import Claim

MOST_PACKED = {"random": 32, "grid": 32, "tpe": 8}
"""Largest number of trials that start together. It is small for TPE, which cannot learn from unfinished trials."""

Ready = tuple[Claim, RunConfig]
"""A claimed trial, before this process trains it, and its configuration."""
Faster = dict[Hashable, bool]
"""Whether packed training is faster, by the signature of the pack. Each process measures it once."""
_PATIENCE = 0.5
"""Seconds between two checks whether the trials of other processes have ended."""


class Deadline:
    """The time after which no trial starts. Without `seconds` there is no limit."""

    def __init__(self, seconds: float | None) -> None:
        self._end = None if seconds is None else time.monotonic() + seconds

    def left(self) -> float | None:
        """Return the seconds until the deadline, or None if there is none."""
        return None if self._end is None else self._end - time.monotonic()

    @property
    def is_over(self) -> bool:
        return self._end is not None and time.monotonic() >= self._end


def work(study: Study, data: PreparedData, watcher: Watcher, deadline: Deadline, jobs: int) -> None:
    """Work on trials until this process, one of `jobs`, finds none to claim.

    Raises Interrupted after Ctrl-C or SIGTERM. The state of every trial is saved by then.
    """
    faster: Faster = {}
    while not deadline.is_over and work_once(study, data, watcher, deadline, jobs, faster):
        pass


def work_once(
    study: Study, data: PreparedData, watcher: Watcher, deadline: Deadline, jobs: int, faster: Faster
) -> bool:
    """Claim and train one trial, or several that might be packed. Returns whether any trial was claimed.

    Measurements of packed training are added to `faster` for later calls. Raises the errors of `work`.
    """
    found = trial_locks.claim(study, _most(study, jobs))
    try:
        _train(study, data, found, watcher, deadline, faster)
    finally:
        for each in found:
            each.lock.release()
    return bool(found)


def wait_for_others(study: Study, deadline: Deadline) -> bool:
    """Wait while other processes work on trials. Returns True as soon as an abandoned trial can be resumed.

    Returns False once no process works on a trial.
    """
    while working := trial_locks.running(study):
        if not all(working) and not deadline.is_over:
            return True
        if not any(working):
            return False
        time.sleep(_PATIENCE)
    return False


def _most(study: Study, jobs: int) -> int:
    """Return how many trials to claim: one, or an equal share for each process if trials can be packed."""
    settings = study.request.settings
    if settings.packing == "never" or not study.can_pack:
        return 1
    return min(MOST_PACKED[settings.search], max(1, -(-study.count // jobs)))


def _train(
    study: Study, data: PreparedData, found: Sequence[Claim], watcher: Watcher, deadline: Deadline, faster: Faster
) -> None:
    """Train these trials. Trials with equal signatures train together if that is faster, the others one by one.

    Unstarted trials are unlocked for other workers. Trials that the deadline keeps from starting stay unstarted, and
    are trained when the study is resumed.
    """
    groups = _groups(study, data, found, watcher)
    for claim, _ in chain.from_iterable([*groups.values()][1:]):
        claim.lock.release()
    begun = False  # the first trial starts even after the deadline, so that every process makes progress
    for signature, group in groups.items():
        if begun and deadline.is_over:
            return
        own = _regained(study, group)
        parts = [own] if len(own) > 1 and _is_faster(signature, own, data, faster) else [[one] for one in own]
        for claim, _ in chain.from_iterable(parts[1:]):
            claim.lock.release()
        for part in parts:
            if begun and deadline.is_over:
                return
            ready = _regained(study, part)
            begun = begun or bool(ready)
            _train_at_once(study, data, [TrialTraining(study, data, each, config, watcher) for each, config in ready])


def _regained(study: Study, group: Sequence[Ready]) -> list[Ready]:
    """Return the trials that this process still holds or can lock again."""
    with locks.alone_in(study.folder.path), storage.errors_translated("read"):
        found = [(trial_locks.regain(study, known), config) for known, config in group]
    return [(claim, config) for claim, config in found if claim is not None]


def _groups(study: Study, data: PreparedData, found: Sequence[Claim], watcher: Watcher) -> dict[Hashable, list[Ready]]:
    """Group the trials that might train together, by signature."""
    groups: dict[Hashable, list[Ready]] = defaultdict(list)
    for each in found:
        if (config := _config(study, each, watcher)) is not None:
            # a trial that a process has died on is trained alone, so it cannot stop other trials
            signature = None if each.attempts else packed.signature(config, data.of(config, 0))
            groups[each.number if signature is None else signature].append((each, config))
    return groups


def _is_faster(signature: Hashable, group: Sequence[Ready], data: PreparedData, faster: Faster) -> bool:
    if signature not in faster:
        members = [Member(config, data.of(config, 0), Path()) for _, config in group]
        with _counted([claim for claim, _ in group]):  # the measurement may kill the process too
            faster[signature] = packed.faster(members)
    return faster[signature]


@contextmanager
def _counted(claims: Sequence[Claim]) -> Iterator[None]:
    """If this process dies inside the block, it counts against these trials.

    Ctrl-C, a full disk and an unreachable storage do not count.
    """
    with storage.errors_translated("written"):
        for each in claims:
            each.begin()
    try:
        yield
    except (Interrupted, KeyboardInterrupt, OSError, StorageError):
        with suppress(OSError, StorageError):  # if this cannot be written either, it costs one attempt
            _leave(claims)
        raise
    _leave(claims)


def _leave(claims: Sequence[Claim]) -> None:
    with storage.errors_translated("written"):
        for each in claims:
            if each.lock.held:  # otherwise the trial has ended
                each.leave()


def _train_at_once(study: Study, data: PreparedData, trainings: Sequence[TrialTraining]) -> None:
    """Train these trials to their end, fold by fold. A trial that is pruned in one fold is left out of the next."""
    with _counted([training.claim for training in trainings]):
        for fold in range(study.folds):
            groups: dict[Hashable, list[TrialTraining]] = defaultdict(list)
            for training in trainings:
                if not training.over:
                    groups[packed.signature(training.config, data.of(training.config, fold))].append(training)
            for group in groups.values():
                if len(group) == 1 or not _trained_packed(group, fold):
                    for training in group:
                        training.alone(fold)
        for training in trainings:
            if not training.over:
                training.complete()
            training.claim.lock.release()


def _trained_packed(group: Sequence[TrialTraining], fold: int) -> bool:
    """Train a fold of these trials together. Returns False if that fails, for example for lack of memory.

    Each trial can then still be trained alone.
    """
    members = [training.member(fold) for training in group]
    outcomes = packed.fit_if_possible(members)
    if outcomes is None:
        return False
    for training, member, outcome in zip(group, members, outcomes, strict=True):
        training.take(fold, member, outcome)
    return True


def _config(study: Study, found: Claim, watcher: Watcher) -> RunConfig | None:
    """Return the configuration of a claimed trial, or None if the trial fails before it starts.

    A trial fails if its settings conflict or if too many processes have died on it. The failure is recorded in the
    study and reported to the watcher.
    """
    if found.attempts < trial_locks.MOST_ATTEMPTS:
        try:
            return study.begin(found.number, found.point)
        except InputError as error:
            reason = "; ".join((error.message, *error.details))
    else:
        reason = f"{counted(found.attempts, 'process', 'processes')} died on it before they could save its state"
    with storage.errors_translated("written"):
        found.fail(study, reason)
    watcher.on_end(found.number, "fail", None, reason)
    return None
