import os
import subprocess
from pathlib import Path

import pytest

from dle_serving.server.roster import Roster


def test_one_worker_waits_for_itself_alone(tmp_path: Path) -> None:
    roster = Roster(tmp_path, 1)
    roster.reset()
    assert roster.missing() == 1
    assert not roster.replaces()
    roster.sign()
    assert roster.missing() == 0
    assert Roster(tmp_path, 1).replaces()


def test_a_server_is_ready_when_all_workers_are(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    roster = Roster(tmp_path, 2)
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "complete").touch()  # of an earlier run
    roster.reset()
    assert roster.missing() == 2
    roster.sign()
    assert roster.missing() == 1
    assert not roster.replaces()
    monkeypatch.setattr(os, "getpid", lambda: 1)
    Roster(tmp_path, 2).sign()
    assert roster.replaces()  # as soon as the last has signed, whether anybody asks or not
    assert roster.missing() == 0


def test_a_worker_that_is_replaced_does_not_take_the_others_out(tmp_path: Path) -> None:
    first = Roster(tmp_path, 2)
    first.reset()
    for pid in (os.getpid(), os.getppid()):
        (tmp_path / "run" / str(pid)).touch()
    assert first.missing() == 0
    (tmp_path / "run" / str(os.getpid())).unlink()
    assert first.missing() == 0
    assert Roster(tmp_path, 2).missing() == 0


def test_a_worker_that_died_while_the_others_load_does_not_count(tmp_path: Path) -> None:
    with subprocess.Popen(["true"]) as ended:
        pass
    roster = Roster(tmp_path, 2)
    roster.reset()
    roster.sign()
    (tmp_path / "run" / str(ended.pid)).touch()
    assert roster.missing() == 1
