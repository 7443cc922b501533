"""Starts the worker processes of a server, replaces those that die or hang, and stops them.

The supervising process binds the socket, the workers inherit it, and each accepts connections from it. It runs no model
and imports neither BentoML nor ONNX Runtime, so that it takes little memory.
"""

import logging
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from socket import socket

from dle_bundle.errors import WorkError, counted
from dle_serving.server.roster import Roster
from dle_serving.server.signals import SignalQueue
from dle_serving.settings import ServerSettings

WORKER = "dle_serving.server.worker"
_SERVICE = "dle_serving.service:Service"
BACKLOG = 2048
"""How many connections wait until a worker accepts them."""
GRACE_SECONDS = 10
"""How long the requests that were accepted may take after the socket was closed."""
KILL_SECONDS = 5
"""How long a worker may take to end after that."""
_LOOK_SECONDS = 0.2
_START_LOOK_SECONDS = 0.05
_AT_ONCE = 5
"""Number of replacements without delay; one more is allowed every `_APART_SECONDS`."""
_APART_SECONDS = 10.0
_ENDING = (signal.SIGTERM, signal.SIGINT)

log = logging.getLogger(__name__)


class RestartLimiter:
    """Limits the rate of replacements; a token bucket."""

    def __init__(self) -> None:
        self._spare = float(_AT_ONCE)
        self._at = 0.0

    def wait(self, now: float) -> float:
        """Seconds until the next replacement is allowed; 0 allows and counts one. `now` is in seconds of any clock."""
        self._spare = min(self._spare + (now - self._at) / _APART_SECONDS, _AT_ONCE)
        self._at = now
        if self._spare < 1:
            return (1 - self._spare) * _APART_SECONDS
        self._spare -= 1
        return 0.0


@dataclass(slots=True)
class _Worker:
    process: "subprocess.Popen[bytes]"
    started: float
    killed: bool = False


class Supervisor:
    """The worker processes of one server.

    Ownership
    ---------
    The supervisor owns `listener`, which listens, and closes it. It starts and reaps the workers, which inherit only
    that socket and `environment`, and run in the folder `settings.home`. When `run` ends, however it ends, no worker is
    left.

    Threads
    -------
    Main thread only, since it receives signals.

    Failures
    --------
    Before all workers were ready, a dead one ends `run` with WorkError. Afterwards it is replaced, and so is one whose
    event loop has not beaten for `hang_seconds` since it loaded its models. If workers keep dying, replacements are
    limited.
    """

    def __init__(self, listener: socket, settings: ServerSettings, environment: Mapping[str, str]) -> None:
        self._listener = listener
        self._settings = settings
        self._environment = environment
        self._roster = Roster(settings.home, settings.workers)
        self._workers: list[_Worker] = []
        self._limiter = RestartLimiter()
        self._looked = self._resumed = time.monotonic()
        self._hung_up = False

    def run(self, ready: Callable[[], bool]) -> signal.Signals:
        """Run the workers until SIGTERM or SIGINT; returns which.

        `ready` is called until it returns True; what it raises ends the server. Raises WorkError when a worker cannot
        be started, or ends before all were ready.
        """
        with SignalQueue() as signals:
            try:
                ended = self._start_up(signals, ready) or self._watch(signals, None)
                assert ended is not None
                self._stop(signals)
                return ended
            finally:
                self._kill()
                self._listener.close()

    def _start_up(self, signals: SignalQueue, ready: Callable[[], bool]) -> signal.Signals | None:
        """Start the workers and wait until the server is ready; returns the signal to end, if one came first."""
        try:
            for _ in range(self._settings.workers):
                self._start()
        except OSError as error:
            raise WorkError(f"a worker cannot be started: {error.strerror}") from error
        while True:
            if ended := self._received(signals, _START_LOOK_SECONDS):
                return ended
            if self._roster.replaces():  # all were ready, though it has not been asked yet
                self._look(time.monotonic())
            elif dead := self._reap():
                raise WorkError(f"the server did not start: {_ended(dead[0])}; see the log above")
            if ready():
                return None

    def _watch(self, signals: SignalQueue, until: float | None) -> signal.Signals | None:
        """Look after the workers until a signal to end, which is returned, or until the time `until`: None."""
        while True:
            now = time.monotonic()
            if until is not None and now >= until:
                return None
            if ended := self._received(signals, _LOOK_SECONDS if until is None else min(_LOOK_SECONDS, until - now)):
                return ended
            self._look(time.monotonic())

    def _look(self, now: float) -> None:
        """Kill the workers that hang and replace those that are dead, when the limiter allows it."""
        hang = self._settings.hang_seconds
        if now - self._looked > hang / 2:  # this process was stopped, and probably the workers with it
            self._resumed = now
        self._looked = now
        for worker in self._workers:
            beat = self._roster.last_beat(worker.process.pid)
            if beat is not None and now - max(beat, self._resumed) > hang and not worker.killed:
                log.error("worker %d hangs: no beat for %d s (DLE_HANG_SECONDS); killed", worker.process.pid, hang)
                worker.process.kill()
                worker.killed = True
        dead = self._reap()
        for worker in dead:
            log.error("%s", _ended(worker))
        missing = self._settings.workers - len(self._workers)
        if not missing:
            return
        if wait := self._limiter.wait(now):
            if dead:
                log.error("workers keep dying: the next one starts in %.0f s", wait)
            return
        try:
            for _ in range(missing):
                self._start()
        except OSError as error:
            log.error("a worker cannot be started: %s", error.strerror)

    def _start(self) -> None:
        descriptor = self._listener.fileno()
        numbers = {"--fd": descriptor, "--parent": os.getpid(), "--grace": GRACE_SECONDS}
        arguments = [text for name, number in numbers.items() for text in (name, str(number))]
        process = subprocess.Popen(
            [sys.executable, "-m", WORKER, _SERVICE, *arguments],
            env=self._environment,
            cwd=self._settings.home,  # python -m imports from its working directory first: not from the caller's
            pass_fds=[descriptor],
            stdin=subprocess.DEVNULL,
            stdout=sys.stderr.fileno(),
            start_new_session=True,  # the signals of a terminal reach only this process
        )
        self._workers.append(_Worker(process, time.monotonic()))

    def _reap(self) -> list[_Worker]:
        """The workers that have ended since the last call."""
        dead = [worker for worker in self._workers if worker.process.poll() is not None]
        self._workers = [worker for worker in self._workers if worker not in dead]
        for worker in dead:
            self._roster.forget(worker.process.pid)
        return dead

    def _received(self, signals: SignalQueue, seconds: float) -> signal.Signals | None:
        """The signal to end, if it has arrived; waits up to `seconds` for any signal."""
        found = signals.wait(seconds)
        if signal.SIGHUP in found and not self._hung_up:
            self._hung_up = True
            log.info("SIGHUP is ignored: SIGTERM ends the server")
        return next((number for number in found if number in _ENDING), None)

    def _stop(self, signals: SignalQueue) -> None:
        """Stop the workers: not ready, then closed, then ended. A second signal to end leaves at once."""
        drain = self._settings.drain_seconds
        self._roster.stop()
        if drain:
            log.info("not ready any more; answering on for %d s (DLE_DRAIN_SECONDS)", drain)
            if self._watch(signals, time.monotonic() + drain):
                return
        log.info("stopping; requests in progress are answered first")
        self._listener.close()
        for worker in self._workers:
            worker.process.terminate()
        end = time.monotonic() + GRACE_SECONDS + KILL_SECONDS
        while self._workers and (now := time.monotonic()) < end:
            if self._received(signals, min(_LOOK_SECONDS, end - now)):
                return
            self._reap()
        if self._workers:
            log.error("%s did not end in time and is killed", counted(len(self._workers), "worker"))

    def _kill(self) -> None:
        for worker in self._workers:
            worker.process.kill()
        for worker in self._workers:
            worker.process.wait()
        self._workers = []


def _ended(worker: _Worker) -> str:
    """The line that says how a dead worker ended."""
    code = worker.process.returncode
    named = {number.value: number.name for number in signal.Signals}
    cause = f"exit code {code}" if code >= 0 else f"by {named.get(-code, f'signal {-code}')}"
    return f"worker {worker.process.pid} died after {time.monotonic() - worker.started:.1f} s, {cause}"
