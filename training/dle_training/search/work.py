"""The work of one process: claims trials until none is left, and trains them, many at once where that is faster."""

import time
from collections import defaultdict
from collections.abc import Hashable, Sequence

from dle_bundle.errors import InputError, Interrupted
from dle_training import packed
from dle_training.search import claims, storage
from dle_training.search.claims import Claim
from dle_training.search.prepared import PreparedData
from dle_training.search.study import Study
from dle_training.search.trial import Attempt, Watcher

MOST_PACKED = {"random": 32, "grid": 32, "tpe": 8}
"""Trials that are begun at once. Those of tpe learn nothing from each other then, so that they are few."""

Faster = dict[Hashable, bool]
"""Whether packing is faster, by the signature of what is packed: measured once in a process."""
_PATIENCE = 0.5
"""Seconds between two looks at whether the trials of others have ended."""


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


def work(study: Study, data: PreparedData, watcher: Watcher, deadline: Deadline, jobs: int) -> None:
    """Work on trials until none is left for this process, one of `jobs`.

    Raises Interrupted after Ctrl-C or SIGTERM, with the state of every trial saved.
    """
    faster: Faster = {}
    while not deadline.is_over and work_once(study, data, watcher, jobs, faster):
        pass


def work_once(study: Study, data: PreparedData, watcher: Watcher, jobs: int, faster: Faster) -> bool:
    """Work on a trial, or on those that can be packed; whether there was any. Raises as `work`.

    What is learnt about packing goes to `faster`, for the next time.
    """
    found = claims.claim(study, _most(study, jobs))
    try:
        _train(study, data, found, watcher, faster)
    except Interrupted:
        with storage.told("written"):
            for each in found:
                each.forgive()
        raise
    finally:
        for each in found:
            each.lock.release()
    return bool(found)


def wait_for_others(study: Study, deadline: Deadline) -> bool:
    """Wait until nobody works on a trial, or one was left behind that may still be gone on with: whether that is so."""
    while working := claims.running(study):
        if not all(working) and not deadline.is_over:
            return True
        if not any(working):
            return False
        time.sleep(_PATIENCE)
    return False


def _most(study: Study, jobs: int) -> int:
    """How many trials to claim: one, unless they can be packed; then so many that every process gets its share."""
    settings = study.request.settings
    if settings.packing == "never" or not study.can_pack:
        return 1
    return min(MOST_PACKED[settings.search], max(1, -(-study.count // jobs)))


def _train(study: Study, data: PreparedData, found: Sequence[Claim], watcher: Watcher, faster: Faster) -> None:
    """Train these trials, fold by fold, so that those that the pruner stops in one are not in the next."""
    attempts = [attempt for each in found if (attempt := _begun(study, data, each, watcher)) is not None]
    for fold in range(study.folds):
        groups: dict[Hashable, list[Attempt]] = defaultdict(list)
        for number, attempt in enumerate(attempts):
            if not attempt.over:
                signature = packed.signature(attempt.config, data.of(attempt.config, fold))
                groups[number if signature is None or len(found) == 1 else signature].append(attempt)
        for signature, group in groups.items():
            members = [attempt.member(fold) for attempt in group] if len(group) > 1 else []
            if members and signature not in faster:
                faster[signature] = packed.faster(members)
            if members and faster[signature]:
                for attempt, member, outcome in zip(group, members, packed.fit(members), strict=True):
                    attempt.take(fold, member, outcome)
            else:
                for attempt in group:
                    attempt.alone(fold)
    for attempt in attempts:
        if not attempt.over:
            attempt.complete()


def _begun(study: Study, data: PreparedData, found: Claim, watcher: Watcher) -> Attempt | None:
    """The attempt at a claimed trial; None where its settings exclude each other, which the study is told."""
    try:
        config = study.config(found.point)
    except InputError as error:
        with storage.told("written"):
            found.fail(study, "; ".join((error.message, *error.details)))
        watcher.on_end(found.number, "fail", None, str(error))
        return None
    return Attempt(study, data, found, config, watcher)
