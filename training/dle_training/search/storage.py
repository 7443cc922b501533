"""The Optuna storage of a study's trials: a journal file in the study folder, or any storage that Optuna can open.

A trial stays `RUNNING` in the storage if its process is killed. Every process holds a lock on the folder of the trial
that it works on, and the operating system releases the lock when the process ends. A trial that is `RUNNING` and
unlocked is therefore abandoned.
"""

import re
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import optuna
from optuna.pruners import BasePruner, HyperbandPruner, NopPruner, SuccessiveHalvingPruner
from optuna.samplers import BaseSampler, RandomSampler, TPESampler
from optuna.storages import BaseStorage, JournalStorage, RDBStorage
from optuna.storages.journal import JournalFileBackend, JournalFileSymlinkLock
from optuna.study import Study as OptunaStudy
from optuna.trial import FrozenTrial, Trial, TrialState
from sqlalchemy.exc import ArgumentError, SQLAlchemyError

from dle_bundle.errors import InputError, WorkError
from dle_training.search.settings import StudyConfig
from dle_training.settings.base import chosen

_CONNECT_SECONDS = 10
ENDED = (TrialState.COMPLETE, TrialState.PRUNED, TrialState.FAIL)

optuna.logging.set_verbosity(optuna.logging.ERROR)  # dle_cli prints the progress instead


class StorageError(WorkError):
    """The storage cannot be read or written. No trial is the cause."""


@dataclass(frozen=True, slots=True)
class Trials:
    """The trials of one study, as stored for all processes that work on it."""

    storage: BaseStorage
    study: OptunaStudy

    def all(self) -> list[FrozenTrial]:
        """Return every trial, ordered by number."""
        return self.study.get_trials(deepcopy=False)

    def reopen(self, number: int) -> Trial:
        """Return the trial with this number in a form that can report scores and be pruned."""
        return Trial(self.study, self._id(number))

    def runs(self, number: int) -> bool:
        """Read from the storage whether the trial with this number has begun and not ended."""
        return self.storage.get_trial(self._id(number)).state == TrialState.RUNNING

    def _id(self, number: int) -> int:
        study_id = self.storage.get_study_id_from_name(self.study.study_name)
        return self.storage.get_trial_id_from_study_id_trial_number(study_id, number)


@contextmanager
def errors_translated(what: str) -> Iterator[None]:
    """Raise errors of the storage inside the block as StorageError. `what` is the failed action, such as "read"."""
    try:
        yield
    except (SQLAlchemyError, optuna.exceptions.StorageInternalError) as error:
        reason = without_password((str(error).strip().splitlines() or [type(error).__name__])[0])
        raise StorageError(f"The storage of the study cannot be {what}: {reason:.300}") from error


def without_password(text: str) -> str:
    """Return the text with the passwords in URLs masked, so it can be printed or shared."""
    return re.sub(r"(://[^:/@\s]*):\S*@", r"\1:***@", text)


def check(url: str | None) -> None:
    """Raise InputError if no storage can be opened at this URL, StorageError if it cannot be reached."""
    if url is not None and not url.startswith("sqlite"):  # opening an SQLite URL would create its file
        _open(url, Path())


def create(url: str | None, journal: Path, name: str, *, higher_is_better: bool) -> Trials:
    """Create a study with this name, which the storage must not contain yet. Raises the errors of `check`."""
    storage = _open(url, journal)
    with errors_translated("written"):
        study = optuna.create_study(
            storage=storage, study_name=name, direction="maximize" if higher_is_better else "minimize"
        )
    return Trials(storage, study)


def open_study(url: str | None, journal: Path, name: str, pruner: BasePruner) -> Trials:
    """Open the study with this name. Raises InputError if there is none, WorkError if the storage cannot be reached."""
    storage = _open(url, journal)
    with errors_translated("read"):
        try:
            return Trials(storage, optuna.load_study(storage=storage, study_name=name, pruner=pruner))
        except KeyError:
            raise InputError(
                f"{without_password(url or str(journal))}: expected the study {name!r}, but it is not there"
            ) from None


def _open(url: str | None, journal: Path) -> BaseStorage:
    if url is None:
        _mend(journal)
        return JournalStorage(_Journal(str(journal)))
    engine: dict[str, Any] = {"pool_pre_ping": True}
    if url.startswith("postgresql"):
        engine["connect_args"] = {"connect_timeout": _CONNECT_SECONDS}
    with errors_translated("reached"):
        try:
            storage = RDBStorage(_with_driver(url), engine_kwargs=engine)
        except (ImportError, ValueError, ArgumentError) as error:
            reason = without_password((str(error).strip().splitlines() or [type(error).__name__])[0])
            raise InputError(f"study.storage: no storage can be opened at this URL: {reason:.300}") from error
    weakref.finalize(storage, storage.engine.dispose)  # closes the connections of a storage that nobody uses
    return storage


def _with_driver(url: str) -> str:
    """Return the URL with psycopg as the PostgreSQL driver, unless the URL names one. The service uses psycopg too."""
    return url.replace("postgresql://", "postgresql+psycopg://", 1)


class _Journal(JournalFileBackend):
    """A journal file that removes a partly written line after an error, before other processes append to it."""

    def append_logs(self, logs: list[dict[str, Any]]) -> None:
        try:
            super().append_logs(logs)
        except OSError:
            _mend(Path(self._file_path))
            raise


def _mend(journal: Path) -> None:
    """Remove an incomplete last line, which a full disk or a power failure may leave. Its operation is repeated."""
    if not journal.exists():
        return
    # writers hold this lock, so an incomplete line is not one that is being written
    lock = JournalFileSymlinkLock(str(journal))
    lock.acquire()
    try:
        with journal.open("r+b") as file:
            content = file.read()
            whole = content.rfind(b"\n") + 1
            if whole < len(content):
                file.truncate(whole)
    finally:
        lock.release()


def sampler(config: StudyConfig, seed: int, number: int) -> BaseSampler:
    """Return the sampler for the trial `number`.

    Its seed comes from the study's seed and the trial number, so resuming in any process draws the same point. In a
    grid search every point is given, and the sampler has nothing to choose.
    """
    mixed = (seed * 1_000_003 + number) % 2**32
    if config.search == "tpe":
        return TPESampler(seed=mixed, constant_liar=True)
    return RandomSampler(seed=mixed)


def pruner(config: StudyConfig) -> BasePruner:
    """Return the pruner of a study with these settings, which `settings.resolve` made."""
    least, most = chosen(config.least_epochs), chosen(config.most_epochs)
    if config.pruner == "halving":
        return SuccessiveHalvingPruner(min_resource=least, reduction_factor=config.reduction)
    if config.pruner == "hyperband":
        return HyperbandPruner(min_resource=least, max_resource=most, reduction_factor=config.reduction)
    return NopPruner()


def error_of(trial: FrozenTrial) -> str | None:
    """Return why a trial failed, or None if it did not."""
    reason: Any = trial.user_attrs.get("error")
    return None if reason is None else str(reason)
