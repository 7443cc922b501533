"""Sums that outlive those who add to them, by the minute."""

import multiprocessing
import os
import signal
from pathlib import Path

import numpy as np
import pytest

from dle_serving.monitoring.ledger import Ledger
from dle_serving.monitoring.shared_numbers import SharedMatrix

NOON = 1_800_000_000.0 // 3600 * 3600


def test_sums_of_all_workers_are_read_by_each(tmp_path: Path) -> None:
    first, second = Ledger(tmp_path, 3, 60), Ledger(tmp_path, 3, 60)
    first.add(np.array([1.0, 0, 2]), NOON)
    second.add(np.array([0.5, 4, 0]), NOON + 61)
    for ledger in (first, second):
        assert ledger.total().tolist() == [1.5, 4, 2]
        assert ledger.window(NOON + 61).tolist() == [1.5, 4, 2]
    assert len(list(tmp_path.iterdir())) == 2


def test_the_window_ends_with_the_minute_that_runs(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path, 1, 3)
    for minute in range(6):
        ledger.add(np.array([10.0**minute]), NOON + 60 * minute + 59.9)
    assert ledger.window(NOON + 60 * 5).tolist() == [111_100]  # the one that runs, and the three before it
    assert ledger.window(NOON + 60 * 8).tolist() == [100_000]
    assert ledger.window(NOON + 60 * 9).tolist() == [0]
    assert ledger.total().tolist() == [111_111]


def test_a_minute_that_comes_back_after_a_day_starts_at_zero(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path, 1, 60)
    ledger.add(np.array([5.0]), NOON)
    ledger.add(np.array([1.0]), NOON + 62 * 60)  # the same row of the file
    assert ledger.window(NOON + 62 * 60).tolist() == [1]


def test_a_clock_that_is_set_back_wipes_nothing(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path, 1, 60)
    ledger.add(np.array([5.0]), NOON + 62 * 60)
    ledger.add(np.array([1.0]), NOON)  # the same row of the file
    assert ledger.window(NOON + 62 * 60).tolist() == [6]
    assert ledger.total().tolist() == [6]


def test_a_write_that_ends_early_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write = os.pwrite
    monkeypatch.setattr(os, "pwrite", lambda file, content, start: write(file, content[:100], start))
    Ledger(tmp_path, 3, 60).add(np.array([1.0, 0, 2]), NOON)
    (file,) = tmp_path.iterdir()
    assert file.stat().st_size == 8 * (1 + 62) * (1 + 3)


def test_who_left_writes_into_no_file(tmp_path: Path) -> None:
    """A late count must not reach the worker that has taken over the file, nor one that reads it."""
    first = SharedMatrix(tmp_path, "sums", 1, 2)
    cells = first.cells
    cells[0] = 5.0
    first.close()
    first.own[0, 1] = 7.0
    second = SharedMatrix(tmp_path, "sums", 1, 2)
    cells[1] = 7.0  # these cells hold the lock, so the file has no successor yet
    assert second.own.tolist() == [[0, 0]]
    del cells
    third = SharedMatrix(tmp_path, "sums", 1, 2)
    assert third.own.tolist() == [[5, 7]]
    assert len(list(tmp_path.iterdir())) == 2


def test_who_comes_after_goes_on_with_the_file_of_who_left(tmp_path: Path) -> None:
    first = Ledger(tmp_path, 2, 60)
    first.add(np.array([1.0, 2]), NOON)
    first.close()
    second = Ledger(tmp_path, 2, 60)
    second.add(np.array([1.0, 1]), NOON)
    assert second.total().tolist() == [2, 3]
    assert second.window(NOON).tolist() == [2, 3]
    assert len(list(tmp_path.iterdir())) == 1


@pytest.mark.parametrize("other", [(2, 30), (3, 60)])
def test_other_bins_or_another_window_have_files_of_their_own(tmp_path: Path, other: tuple[int, int]) -> None:
    Ledger(tmp_path, 2, 60).add(np.array([1.0, 2]), NOON)
    assert Ledger(tmp_path, *other).total().sum() == 0


def test_a_file_that_was_cut_off_at_its_making_is_made_anew(tmp_path: Path) -> None:
    Ledger(tmp_path, 2, 60).close()
    (file,) = tmp_path.iterdir()
    file.write_bytes(file.read_bytes()[:100])
    ledger = Ledger(tmp_path, 2, 60)
    ledger.add(np.array([1.0, 2]), NOON)
    assert ledger.total().tolist() == [1, 2]


def _add_and_die(folder: Path) -> None:
    Ledger(folder, 2, 60).add(np.array([3.0, 4]), NOON)
    os.kill(os.getpid(), signal.SIGKILL)


def test_what_a_killed_worker_added_stays(tmp_path: Path) -> None:
    for _ in range(3):
        worker = multiprocessing.get_context("spawn").Process(target=_add_and_die, args=(tmp_path,))
        worker.start()
        worker.join()
        assert worker.exitcode == -signal.SIGKILL
    assert Ledger(tmp_path, 2, 60).total().tolist() == [9, 12]
    assert len(list(tmp_path.iterdir())) == 1
