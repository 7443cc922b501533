"""Turns Ctrl-C and SIGTERM into a flag, so that work stops at a point where its state can be saved."""

import signal
import threading
from types import FrameType, TracebackType


class Interruption:
    """Inside the block, the first SIGINT or SIGTERM sets `requested`; the second one has its usual effect.

    Signals reach only the main thread. In any other thread no handler is installed, and `requested` stays False.
    """

    def __init__(self) -> None:
        self.requested = False
        self._previous: dict[int, signal._HANDLER] = {}

    def __enter__(self) -> "Interruption":
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM):
                self._previous[number] = signal.signal(number, self._request) or signal.SIG_DFL
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._restore()

    def _request(self, number: int, frame: FrameType | None) -> None:
        self.requested = True
        self._restore()

    def _restore(self) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)
