"""Signals as a queue, for a process that waits for them and for nothing else."""

import select
import signal
import socket
from types import FrameType, TracebackType

QUEUED = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGCHLD)


class SignalQueue:
    """Queues the signals in `QUEUED` while the block runs, instead of what they did before. Main thread only."""

    def __enter__(self) -> "SignalQueue":
        """Begin to queue."""
        self._reader, self._writer = socket.socketpair()
        self._reader.setblocking(False)
        self._writer.setblocking(False)
        self._wakeup = signal.set_wakeup_fd(self._writer.fileno(), warn_on_full_buffer=False)
        self._before = {number: signal.signal(number, _queue) for number in QUEUED}
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Restore what the signals did before."""
        for number, handler in self._before.items():
            signal.signal(number, handler)
        signal.set_wakeup_fd(self._wakeup)
        self._reader.close()
        self._writer.close()

    def wait(self, seconds: float) -> list[signal.Signals]:
        """The signals that have arrived, in order; waits up to `seconds` for the first."""
        if not select.select([self._reader], [], [], max(seconds, 0.0))[0]:
            return []
        return [signal.Signals(number) for number in self._reader.recv(4096)]


def _queue(number: int, frame: FrameType | None) -> None:
    """Nothing: the interpreter has written the number of the signal into the socket."""
