"""Runs the `bentoml` command and replaces dead workers at once: `python -m dle_serving.server.supervisor serve`.

BentoML looks after its workers every ten seconds, so that long after one has died its share of the answers is missing.
Here they are looked at five times a second, and one that died is replaced at once. Where workers keep dying, as when
their start fails or a request crashes them, that would keep a processor busy with starting them; so after a few they
are replaced as seldom as BentoML does. And a SIGTERM that comes meanwhile is kept until it can be followed. Nothing
else differs from `bentoml serve`, which keeps BentoML's way.
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
"""So many replacements are made without delay; each is allowed again after `_APART_SECONDS`."""
_APART_SECONDS = 10.0


class RestartLimiter:
    """How soon the next replacement may be made, by the clock that the caller reads."""

    def __init__(self) -> None:
        self._spare = float(_AT_ONCE)
        self._at = 0.0

    def wait(self, now: float) -> float:
        """Seconds until one may be made; 0: now, and it counts as made."""
        self._spare = min(self._spare + (now - self._at) / _APART_SECONDS, _AT_ONCE)
        self._at = now
        if self._spare < 1:
            return (1 - self._spare) * _APART_SECONDS
        self._spare -= 1
        return 0.0


class Supervisor(circus.Arbiter):
    """BentoML's arbiter, looking often; its own work does not change."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **{**options, "check_delay": _LOOK_SECONDS})
        log_plainly("supervisor")
        self._log = logging.getLogger(
            "dle_serving.server.supervisor"
        )  # not before: BentoML disables what loggers there are
        self._limiter = RestartLimiter()
        self._told: set[int] = set()

    def manage_watchers(self) -> Any:
        """Called at every look: tell of workers that died, and have BentoML replace them when it is time."""
        if self._stopping or self._restarting or self._exclusive_running_command is not None:
            return None  # it starts or ends them itself, and would refuse
        dead = [process for process in self._dead() if process.pid not in self._told]
        for process in dead:
            self._log.error("worker %d died after %.1f s%s", process.pid, process.age(), _cause(process.pid))
            self._told.add(process.pid)
        if self._told:
            wait = self._limiter.wait(time.monotonic())
            if wait:
                if dead:
                    self._log.error("workers keep dying: the next one starts in %.0f s", wait)
                return None
        self._told.clear()
        return super().manage_watchers()

    def stop(self) -> Any:
        """End the workers; while one is being replaced, circus would refuse to, and a SIGTERM would be lost."""
        if self._stopping:
            return None
        if self._exclusive_running_command is not None:
            self.loop.call_later(_LOOK_SECONDS, self.stop)
            return None
        return super().stop()

    def _dead(self) -> Iterator[Any]:
        for watcher in self.iter_watchers():
            yield from (one for one in watcher.processes.values() if one.status in (DEAD_OR_ZOMBIE, UNEXISTING))


def _cause(pid: int) -> str:
    """By what a child ended, as far as it is known; whoever waits for it still can."""
    try:
        ended = os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT)
    except ChildProcessError:  # somebody has waited for it
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
