"""When the supervisor has dead workers replaced; that it does is in tests/e2e."""

import os
import subprocess
import sys
from itertools import pairwise
from types import SimpleNamespace
from typing import Any

import pytest
from bentoml._internal.utils import circus
from circus.process import DEAD_OR_ZOMBIE, RUNNING  # type: ignore[import-untyped]

from dle_serving.server import supervisor
from dle_serving.server.supervisor import RestartLimiter, Supervisor


def test_a_few_replacements_are_made_at_once_and_more_as_seldom_as_by_bentoml() -> None:
    pace = RestartLimiter()
    assert [pace.wait(100.0) for _ in range(5)] == [0.0] * 5
    assert pace.wait(100.0) == pytest.approx(10.0)
    assert pace.wait(104.0) == pytest.approx(6.0)
    made = [tenth / 10 for tenth in range(1_050, 1_650) if not pace.wait(tenth / 10)]
    assert len(made) == 6
    assert min(later - earlier for earlier, later in pairwise(made)) > 9.5
    assert [pace.wait(1_000.0) for _ in range(5)] == [0.0] * 5  # a quiet time later


class Worker:
    """A process as the arbiter knows it."""

    def __init__(self, pid: int, status: str = RUNNING) -> None:
        self.pid = pid
        self.status = status

    def age(self) -> float:
        return 1.5


@pytest.mark.parametrize(
    ("program", "cause"), [("import os; os.kill(os.getpid(), 9)", ", by SIGKILL"), ("exit(3)", ", exit code 3")]
)
def test_it_is_told_by_what_a_worker_ended(program: str, cause: str) -> None:
    worker = subprocess.Popen([sys.executable, "-c", program])
    os.waitid(os.P_PID, worker.pid, os.WEXITED | os.WNOWAIT)
    assert supervisor._cause(worker.pid) == cause
    worker.wait()  # which still can
    assert supervisor._cause(worker.pid) == ""


@pytest.fixture
def arbiter(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setattr("dle_serving.server.supervisor.log_plainly", lambda who: None)
    return Supervisor([], endpoint="tcp://127.0.0.1:0", pubsub_endpoint="tcp://127.0.0.1:0")


def test_workers_that_keep_dying_are_told_and_put_off(arbiter: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    clock, managed = [0.0], []
    said: list[str] = []
    arbiter._log = SimpleNamespace(error=lambda text, *values: said.append(text % values))
    watcher = SimpleNamespace(processes={1: Worker(1)})
    monkeypatch.setattr(supervisor, "time", SimpleNamespace(monotonic=lambda: clock[0]))
    monkeypatch.setattr(arbiter, "iter_watchers", lambda: [watcher])

    def manage(self: Any) -> None:
        managed.append(clock[0])
        if any(worker.status == DEAD_OR_ZOMBIE for worker in watcher.processes.values()):
            watcher.processes = {pid + 1: Worker(pid + 1, DEAD_OR_ZOMBIE) for pid in watcher.processes}

    monkeypatch.setattr(circus.Arbiter, "manage_watchers", manage)
    arbiter.manage_watchers()
    assert managed == [0.0]  # BentoML's own work goes on
    watcher.processes[1].status = DEAD_OR_ZOMBIE
    for tenth in range(1, 300):
        clock[0] = tenth / 10
        arbiter.manage_watchers()
    assert len(managed) == 1 + 5 + 2
    assert said[0] == "worker 1 died after 1.5 s"
    assert sum(line.startswith("worker") and "died" in line for line in said) == 8
    assert [line for line in said if "keep dying" in line] == ["workers keep dying: the next one starts in 10 s"] * 3


def test_a_sigterm_during_a_replacement_waits_for_it(arbiter: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    later: list[Any] = []
    stopped: list[str] = []

    def stop(self: Any) -> None:
        stopped.append(str(self._exclusive_running_command))
        self._stopping = True

    monkeypatch.setattr(circus.Arbiter, "stop", stop)
    monkeypatch.setattr(arbiter, "loop", SimpleNamespace(call_later=lambda seconds, call: later.append(call)))
    arbiter._exclusive_running_command = "manage_watchers"
    arbiter.stop()
    assert not stopped
    arbiter._exclusive_running_command = None
    later.pop()()
    arbiter.stop()
    assert stopped == ["None"]
    assert not later


@pytest.mark.parametrize("state", ["_stopping", "_restarting", "_exclusive_running_command"])
def test_nothing_is_looked_at_while_the_arbiter_is_busy(
    arbiter: Any, monkeypatch: pytest.MonkeyPatch, state: str
) -> None:
    def manage(self: Any) -> None:
        raise AssertionError

    monkeypatch.setattr(circus.Arbiter, "manage_watchers", manage)
    monkeypatch.setattr(arbiter, state, True)
    assert arbiter.manage_watchers() is None
