"""The storage of a study: its connections end with it."""

import gc
from pathlib import Path

from optuna.storages import RDBStorage

from dle_training.search import storage


def test_the_connections_of_a_storage_are_closed_with_it(tmp_path: Path) -> None:
    trials = storage.create(f"sqlite:///{tmp_path / 'study.db'}", tmp_path / "unused", "study", higher_is_better=False)
    assert isinstance(trials.storage, RDBStorage)
    pool = trials.storage.engine.pool
    assert pool.checkedin() > 0  # type: ignore[attr-defined]
    del trials
    gc.collect()
    assert pool.checkedin() == 0  # type: ignore[attr-defined]
