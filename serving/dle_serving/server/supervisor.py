"""Runs the `bentoml` command and replaces dead workers at once: `python -m dle_serving.server.supervisor serve`.

BentoML checks its workers every ten seconds, so a dead worker's share of the requests fails for long. This supervisor
checks five times a second and replaces a dead worker at once. When workers keep dying, for instance because they fail
to start or a request crashes them, it falls back to one replacement every ten seconds, so that starting them does not
take all the CPU. A SIGTERM that arrives while a worker is being replaced is handled afterwards instead of lost.
Otherwise it behaves like `bentoml serve`.
"""

import logging
import os
import signal
import time
from collections.abc import Iterator
from typing import Any

from bentoml._internal.utils import circus
from bentoml_cli.cli import cli
from circus.process import DEAD_OR_ZOMBIE, UNEXISTING  # type: ignore[import-untyped]

from dle_serving.server.logs import log_plainly

_LOOK_SECONDS = 0.2
_AT_ONCE = 5
"""Number of replacements without delay; one more is allowed every `_APART_SECONDS`."""
_APART_SECONDS = 10.0


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


class Supervisor(circus.Arbiter):
    """BentoML's arbiter with more frequent checks and limited replacements."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **{**options, "check_delay": _LOOK_SECONDS})
        log_plainly("supervisor")
        # here, since BentoML disables the loggers that exist before
        self._log = logging.getLogger("dle_serving.server.supervisor")
        self._limiter = RestartLimiter()
        self._reported: set[int] = set()

    def manage_watchers(self) -> Any:
        """Log workers that have died, and let BentoML replace them when the limiter allows it; called at each check."""
        if self._stopping or self._restarting or self._exclusive_running_command is not None:
            return None  # the arbiter is busy with its workers and would refuse
        dead = [process for process in self._dead() if process.pid not in self._reported]
        for process in dead:
            self._log.error("worker %d died after %.1f s%s", process.pid, process.age(), _cause(process.pid))
            self._reported.add(process.pid)
        if self._reported:
            wait = self._limiter.wait(time.monotonic())
            if wait:
                if dead:
                    self._log.error("workers keep dying: the next one starts in %.0f s", wait)
                return None
        self._reported.clear()
        return super().manage_watchers()

    def stop(self) -> Any:
        """Stop the workers. While one is being replaced circus would lose the SIGTERM, so try again later."""
        if self._stopping:
            return None
        if self._exclusive_running_command is not None:
            self.loop.call_later(_LOOK_SECONDS, self.stop)
            return None
        self._log.info("stopping; requests in progress are answered first")
        return super().stop()

    def _dead(self) -> Iterator[Any]:
        for watcher in self.iter_watchers():
            yield from (one for one in watcher.processes.values() if one.status in (DEAD_OR_ZOMBIE, UNEXISTING))


def _cause(pid: int) -> str:
    """How a child process ended, if that is known, without reaping it."""
    try:
        ended = os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT)
    except ChildProcessError:  # it has been reaped already
        return ""
    if ended is None:
        return ""
    if ended.si_code == os.CLD_EXITED:
        return f", exit code {ended.si_status}"
    return f", by {signal.Signals(ended.si_status).name}"


def main() -> None:
    """Run `bentoml` with the arguments of this process."""
    circus.Arbiter = Supervisor  # type: ignore[misc]
    cli()


if __name__ == "__main__":
    main()
