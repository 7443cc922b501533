"""A side thread for work that may block for ever, such as a call to an unresponsive database.

A process waits at its end for the threads of an executor; it does not wait for this one.
"""

import threading
from collections.abc import Callable
from concurrent.futures import Future
from queue import SimpleQueue
from typing import Any, TypeVar

Result = TypeVar("Result")


class SideThread:
    """Runs submitted functions one after another, in a daemon thread."""

    def __init__(self, name: str) -> None:
        self._work: SimpleQueue[tuple[Future[Any], Callable[[], Any]] | None] = SimpleQueue()
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    def submit(self, work: Callable[[], Result]) -> Future[Result]:
        """Queue `work`; the future gets its result or exception."""
        future: Future[Result] = Future()
        self._work.put((future, work))
        return future

    def close(self, seconds: float) -> None:
        """Wait up to `seconds` for the submitted work. Nothing can be submitted afterwards."""
        self._work.put(None)
        self._thread.join(seconds)

    def _run(self) -> None:
        while (submitted := self._work.get()) is not None:
            future, work = submitted
            if not future.set_running_or_notify_cancel():
                continue
            try:
                future.set_result(work())
            except BaseException as error:  # noqa: BLE001 - passed on through the future
                future.set_exception(error)
            del submitted, future, work  # do not keep them alive while waiting
