"""Where the trials of a study are kept, by Optuna: a journal file in the study, or any storage that it can open.

A trial that a killed process left unfinished stays `RUNNING` in there. Whoever works on a trial holds a lock on its
folder, which the system releases with the process, so that a running trial whose lock is free is known to be abandoned.
"""

import re
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

_CONNECT_SECONDS = 10
ENDED = (TrialState.COMPLETE, TrialState.PRUNED, TrialState.FAIL)

optuna.logging.set_verbosity(optuna.logging.ERROR)  # dle_cli speaks


class StorageError(WorkError):
    """The storage is at fault, and no trial."""


@dataclass(frozen=True, slots=True)
class Trials:
    """The trials of one study, for all processes that work on it."""

    storage: BaseStorage
    study: OptunaStudy

    def all(self) -> list[FrozenTrial]:
        """Every trial, by number."""
        return self.study.get_trials(deepcopy=False)

    def reopen(self, number: int) -> Trial:
        """The trial of this number as one that can report and be pruned."""
        return Trial(self.study, self._id(number))

    def runs(self, number: int) -> bool:
        """Whether the trial of this number has begun and not ended, as of now."""
        return self.storage.get_trial(self._id(number)).state == TrialState.RUNNING

    def _id(self, number: int) -> int:
        study_id = self.storage.get_study_id_from_name(self.study.study_name)
        return self.storage.get_trial_id_from_study_id_trial_number(study_id, number)


@contextmanager
def errors_translated(what: str) -> Iterator[None]:
    """Errors of the storage as StorageError."""
    try:
        yield
    except (SQLAlchemyError, optuna.exceptions.StorageInternalError) as error:
        reason = without_password((str(error).strip().splitlines() or [type(error).__name__])[0])
        raise StorageError(f"The storage of the study cannot be {what}: {reason:.300}") from error


def without_password(text: str) -> str:
    """The same without the passwords of URLs, for it is handed on or printed."""
    return re.sub(r"(://[^:/@\s]*):\S*@", r"\1:***@", text)


def check(url: str | None) -> None:
    """Raise InputError where no storage can be opened at this URL, StorageError where it cannot be reached."""
    if url is not None and not url.startswith("sqlite"):  # a file, which would be made
        _open(url, Path())


def create(url: str | None, journal: Path, name: str, *, higher_is_better: bool) -> Trials:
    """A new study, of a name that is new there. Raises as `check`."""
    storage = _open(url, journal)
    with errors_translated("written"):
        study = optuna.create_study(
            storage=storage, study_name=name, direction="maximize" if higher_is_better else "minimize"
        )
    return Trials(storage, study)


def open_study(url: str | None, journal: Path, name: str, pruner: BasePruner) -> Trials:
    """The study of this name. Raises InputError where there is none, WorkError where it cannot be reached."""
    storage = _open(url, journal)
    with errors_translated("read"):
        try:
            return Trials(storage, optuna.load_study(storage=storage, study_name=name, pruner=pruner))
        except KeyError:
            raise InputError(f"{without_password(url or str(journal))}: no study {name!r} is there") from None


def _open(url: str | None, journal: Path) -> BaseStorage:
    if url is None:
        _mend(journal)
        return JournalStorage(_Journal(str(journal)))
    engine: dict[str, Any] = {"pool_pre_ping": True}
    if url.startswith("postgresql"):
        engine["connect_args"] = {"connect_timeout": _CONNECT_SECONDS}
    with errors_translated("reached"):
        try:
            return RDBStorage(_with_driver(url), engine_kwargs=engine)
        except (ImportError, ValueError, ArgumentError) as error:
            reason = without_password((str(error).strip().splitlines() or [type(error).__name__])[0])
            raise InputError(f"study.storage: no storage can be opened at this URL: {reason:.300}") from error


def _with_driver(url: str) -> str:
    """PostgreSQL by psycopg, the driver that the service's feedback uses too, unless the URL names another."""
    return url.replace("postgresql://", "postgresql+psycopg://", 1)


class _Journal(JournalFileBackend):
    """Takes back a line for which the disk had no room, before others write behind it."""

    def append_logs(self, logs: list[dict[str, Any]]) -> None:
        try:
            super().append_logs(logs)
        except OSError:
            _mend(Path(self._file_path))
            raise


def _mend(journal: Path) -> None:
    """Cut off a last line that a full disk or a power failure left unfinished; what it said is done over."""
    if not journal.exists():
        return
    # the lock of those who write, for theirs is a last line that is only not finished yet
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
    """Who chooses the point of the trial `number`: by the seed, whichever process asks and after whatever resumption.

    The points of a grid are given, and nothing is left to choose.
    """
    mixed = (seed * 1_000_003 + number) % 2**32
    if config.search == "tpe":
        return TPESampler(seed=mixed, constant_liar=True)
    return RandomSampler(seed=mixed)


def pruner(config: StudyConfig, resource: int) -> BasePruner:
    """Who stops trials early; `resource` is how many epochs (of all folds together) a whole trial has."""
    least = min(config.least_epochs or max(3, resource // config.reduction**2), resource)
    if config.pruner == "halving":
        return SuccessiveHalvingPruner(min_resource=least, reduction_factor=config.reduction)
    if config.pruner == "hyperband":
        return HyperbandPruner(min_resource=least, max_resource=resource, reduction_factor=config.reduction)
    return NopPruner()


def error_of(trial: FrozenTrial) -> str | None:
    """Why a trial failed."""
    reason: Any = trial.user_attrs.get("error")
    return None if reason is None else str(reason)
