import asyncio
import os
import subprocess
import time
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


def test_who_has_not_beaten_for_long_does_not_answer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    roster = Roster(tmp_path, 2)
    roster.reset()
    roster.beat()  # it has not signed yet
    assert roster.answering() == 0
    assert roster.last_beat(os.getpid()) is None
    roster.sign()
    other = Roster(tmp_path, 2)
    with monkeypatch.context() as patched:
        patched.setattr(os, "getpid", os.getppid)
        other.sign()
    assert roster.answering() == 2
    signed = roster.last_beat(os.getppid())
    assert signed is not None
    now = signed + 60
    monkeypatch.setattr(time, "monotonic", lambda: now)
    assert roster.answering() == 1  # the worker that answers this
    other.beat()
    assert roster.last_beat(os.getppid()) == now
    assert roster.answering() == 2
    roster.forget(os.getppid())
    roster.forget(os.getppid())
    assert roster.last_beat(os.getppid()) is None
    assert roster.answering() == 1


def test_a_worker_beats_as_long_as_its_event_loop_runs(tmp_path: Path) -> None:
    roster = Roster(tmp_path, 1)
    roster.reset()
    roster.sign()

    async def beats() -> None:
        signed = roster.last_beat(os.getpid())
        beating = asyncio.create_task(roster.keep_beating())
        while roster.last_beat(os.getpid()) == signed:
            await asyncio.sleep(0)
        beating.cancel()

    asyncio.run(beats())


def test_a_server_that_is_to_end_says_so_until_the_next_start(tmp_path: Path) -> None:
    roster = Roster(tmp_path, 1)
    roster.reset()
    assert not roster.stopping()
    Roster(tmp_path, 1).stop()
    assert roster.stopping()
    roster.reset()
    assert not roster.stopping()


def test_a_mark_that_cannot_be_made_is_logged_and_nothing_fails(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "run").touch()  # no folder
    Roster(tmp_path, 1).stop()
    assert "run/stopping cannot be created: Not a directory" in caplog.text
    assert Roster(tmp_path, 1).answering() == 0
