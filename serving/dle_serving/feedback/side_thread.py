"""A thread beside the event loop for work that waits for others, one piece after the other, and may never end.

The thread of an executor would keep the process from ending until its work has ended; this one does not.
"""

import threading
from collections.abc import Callable
from concurrent.futures import Future
from queue import SimpleQueue
from typing import Any, TypeVar

Result = TypeVar("Result")


class SideThread:
    """Does what is submitted, in its order."""

    def __init__(self, name: str) -> None:
        self._work: SimpleQueue[tuple[Future[Any], Callable[[], Any]] | None] = SimpleQueue()
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    def submit(self, work: Callable[[], Result]) -> Future[Result]:
        """What the work gives or raises, when it is done."""
        future: Future[Result] = Future()
        self._work.put((future, work))
        return future

    def close(self, seconds: float) -> None:
        """Wait for what was submitted, but not longer than this; nothing can be submitted any more."""
        self._work.put(None)
        self._thread.join(seconds)

    def _run(self) -> None:
        while (submitted := self._work.get()) is not None:
            future, work = submitted
            if not future.set_running_or_notify_cancel():
                continue
            try:
                future.set_result(work())
            except BaseException as error:  # noqa: BLE001 - whoever submitted it is told
                future.set_exception(error)
            del submitted, future, work  # not kept until the next one comes
