"""When the supervisor replaces workers; that it does is in tests/e2e."""

import logging
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from dle_bundle.errors import WorkError
from dle_serving.server import supervisor
from dle_serving.server.signals import SignalQueue
from dle_serving.server.supervisor import RestartLimiter, Supervisor
from dle_serving.settings import ServerSettings


def test_a_few_replacements_are_made_at_once_and_more_as_seldom_as_by_bentoml() -> None:
    pace = RestartLimiter()
    assert [pace.wait(100.0) for _ in range(5)] == [0.0] * 5
    assert pace.wait(100.0) == pytest.approx(10.0)
    assert pace.wait(104.0) == pytest.approx(6.0)
    made = [tenth / 10 for tenth in range(1_050, 1_650) if not pace.wait(tenth / 10)]
    assert len(made) == 6
    assert min(later - earlier for earlier, later in pairwise(made)) > 9.5
    assert [pace.wait(1_000.0) for _ in range(5)] == [0.0] * 5  # a quiet time later


class Process:
    """A worker's process as the supervisor knows it."""

    def __init__(self, pid: int, returncode: int | None = None) -> None:
        self.pid = pid
        self.returncode = returncode

    def poll(self) -> int | None:
        return self.returncode

    def kill(self) -> None:
        self.returncode = -9


class Watched:
    """A supervisor with one worker, a clock of the test, and beats of the test."""

    def __init__(self, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 0.0
        monkeypatch.setattr(supervisor, "time", SimpleNamespace(monotonic=lambda: self.now))
        settings = ServerSettings((home,), home, hang_seconds=30)
        self.supervisor: Any = Supervisor(socket.socket(), settings, {})
        self.beats: dict[int, float] = {}
        self.started: list[float] = []
        self.ends: int | None = None
        self.forgotten: list[int] = []
        monkeypatch.setattr(self.supervisor._roster, "last_beat", self.beats.get)
        monkeypatch.setattr(self.supervisor._roster, "forget", self.forgotten.append)
        monkeypatch.setattr(self.supervisor, "_start", self.start)
        self.start()

    def start(self) -> None:
        self.started.append(self.now)
        process: Any = Process(len(self.started), self.ends)
        self.supervisor._workers.append(supervisor._Worker(process, self.now))

    def look(self, until: float) -> None:
        while self.now < until:
            self.now += 0.2
            self.supervisor._look(self.now)

    def close(self) -> None:
        self.supervisor._listener.close()


@pytest.fixture
def watched(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Watched]:
    watched = Watched(tmp_path, monkeypatch)
    yield watched
    watched.close()


def test_workers_that_keep_dying_are_told_and_put_off(watched: Watched, caplog: pytest.LogCaptureFixture) -> None:
    watched.ends = -9
    watched.supervisor._workers[0].process.returncode = 3
    with caplog.at_level(logging.ERROR):
        watched.look(30.0)
    assert len(watched.started) == 1 + 5 + 2
    said = caplog.messages
    assert said[0] == "worker 1 died after 0.2 s, exit code 3"
    assert said[1] == "worker 2 died after 0.2 s, by SIGKILL"
    assert sum("died" in line for line in said) == 8
    assert [line for line in said if "keep dying" in line] == ["workers keep dying: the next one starts in 9 s"] + [
        "workers keep dying: the next one starts in 10 s"
    ] * 2


def test_a_worker_hangs_when_it_has_not_beaten_for_long_since_it_loaded(
    watched: Watched, caplog: pytest.LogCaptureFixture
) -> None:
    watched.look(1_000.0)  # it loads, for as long as that takes
    assert len(watched.started) == 1
    watched.beats[1] = 1_000.0
    watched.look(1_029.0)
    assert len(watched.started) == 1
    watched.look(1_031.0)
    assert len(watched.started) == 2
    assert watched.forgotten == [1]  # whose number another worker may have some day
    assert "worker 1 hangs: no beat for 30 s (DLE_HANG_SECONDS); killed" in caplog.messages


def test_a_supervisor_that_was_stopped_itself_gives_every_worker_the_whole_time_again(watched: Watched) -> None:
    watched.beats[1] = 0.0
    watched.look(1.0)
    watched.now = 500.0
    watched.look(529.0)
    assert len(watched.started) == 1
    watched.look(531.0)
    assert len(watched.started) == 2


def test_a_process_that_cannot_be_made_is_tried_again(
    watched: Watched, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def refuse() -> None:
        raise OSError(11, os.strerror(11))

    watched.supervisor._workers[0].process.kill()
    with monkeypatch.context() as patched:
        patched.setattr(watched.supervisor, "_start", refuse)
        watched.look(0.4)
    assert "a worker cannot be started: Resource temporarily unavailable" in caplog.messages
    watched.look(0.8)
    assert len(watched.started) == 2


@pytest.fixture
def made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Supervisor]:
    """A supervisor whose workers are not there."""
    monkeypatch.setattr(supervisor, "WORKER", "dle_serving.no_worker")
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield Supervisor(listener, ServerSettings((tmp_path,), tmp_path, workers=2), os.environ)


def test_a_worker_that_dies_before_the_server_is_ready_ends_the_start(made: Supervisor) -> None:
    with pytest.raises(WorkError, match=r"the server did not start: worker \d+ died after .* s, exit code 1; see"):
        made.run(lambda: False)
    assert made._workers == []
    assert made._listener.fileno() == -1


def test_a_worker_that_dies_when_all_were_ready_is_replaced(
    made: Supervisor, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(made._roster, "replaces", lambda: True)

    def ready() -> bool:
        if "died" in caplog.text:
            os.kill(os.getpid(), signal.SIGTERM)
        return "died" in caplog.text

    with caplog.at_level(logging.ERROR):
        assert made.run(ready) is signal.SIGTERM
    assert made._workers == []


def test_signals_wait_in_a_queue_and_do_what_they_did_before_afterwards() -> None:
    before = signal.getsignal(signal.SIGTERM)
    with SignalQueue() as signals:
        assert signals.wait(0.0) == []
        for number in (signal.SIGHUP, signal.SIGTERM, signal.SIGTERM):
            signal.raise_signal(number)
        assert signals.wait(60.0) == [signal.SIGHUP, signal.SIGTERM, signal.SIGTERM]
        child = subprocess.Popen([sys.executable, "-c", ""])
        assert signals.wait(60.0) == [signal.SIGCHLD]  # a dead worker is noticed at once
        child.wait()
    assert signal.getsignal(signal.SIGTERM) is before
