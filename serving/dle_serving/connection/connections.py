"""All connections of one worker: their number is bounded, and one periodic sweep enforces every deadline.

uvicorn bounds neither the number of connections nor the time in which a request must arrive, and keeps a timer for each
idle connection.
"""

import asyncio
import logging
import resource
from collections.abc import Callable
from typing import Protocol

from dle_serving.connection.lane import Lane
from dle_serving.monitoring.metrics import Metrics
from dle_serving.settings import ServerSettings

log = logging.getLogger(__name__)

IS_WANTED = "dle.is_wanted"
"""The key of an ASGI scope under which a connection says whether the client of the request is still there."""
_SWEEP_SECONDS = 0.5
_OTHER_FILES = 96
"""Descriptors that a worker needs for all but its connections, at most half of what it may open."""


class Swept(Protocol):
    """A connection, as the sweep sees it."""

    def sweep(self, now: float) -> None:
        """End what is overdue; `now` is the time of the event loop."""


class Connections:
    """What the connections of one worker share. Everything is called in the event loop's thread.

    `is_closing` says that the server is shutting down: each connection then ends after its present request.
    """

    def __init__(
        self, settings: ServerSettings, lane: Lane, metrics: Metrics, is_stopping: Callable[[], bool] = lambda: False
    ) -> None:
        """`is_stopping` says whether the server is to end; each sweep asks it."""
        self.settings = settings
        self.lane = lane
        self.metrics = metrics
        self.is_closing = False
        self._is_stopping = is_stopping
        self._open: set[Swept] = set()
        self._most = _most_connections(settings.max_connections)
        self._is_full = False
        self._headers: object = None
        self._head = b""

    def admit(self, connection: Swept) -> bool:
        """Keep the connection until `leave`; False if there are too many."""
        if len(self._open) >= self._most:
            if not self._is_full:
                log.warning("%d connections are open, further ones are refused: see DLE_MAX_CONNECTIONS", self._most)
            self._is_full = True
            return False
        self._open.add(connection)
        self.metrics.connections.inc()
        return True

    def leave(self, connection: Swept) -> None:
        """Forget a connection that was admitted."""
        if connection in self._open:
            self._open.remove(connection)
            self.metrics.connections.inc(-1)
            if self._is_full and len(self._open) < self._most * 0.9:
                self._is_full = False
                log.info("connections are accepted again")

    async def sweep(self) -> None:
        """Enforce the deadlines of all connections, until it is cancelled."""
        loop = asyncio.get_running_loop()
        while True:
            await asyncio.sleep(_SWEEP_SECONDS)
            now = loop.time()
            self.is_closing = self.is_closing or self._is_stopping()
            for connection in list(self._open):
                try:
                    connection.sweep(now)
                except Exception:
                    log.exception("a connection cannot be swept")

    def head_of_answers(self, headers: list[tuple[bytes, bytes]]) -> bytes:
        """The head of a JSON response of status 200 up to its content-length, with the server's own headers."""
        if headers is not self._headers:  # uvicorn makes a new list every second, for the date
            self._headers = headers
            lines = [b"HTTP/1.1 200 OK\r\n", *(b"%b: %b\r\n" % pair for pair in headers)]
            self._head = b"".join([*lines, b"content-type: application/json\r\ncontent-length: "])
        return self._head


def _most_connections(wanted: int) -> int:
    """`wanted`, or fewer if the process may not open as many files; the log then says so."""
    files, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if files == resource.RLIM_INFINITY:
        return wanted
    possible = max(files - _OTHER_FILES, files // 2)
    if possible < wanted:
        log.warning("DLE_MAX_CONNECTIONS is %d, but %d open files (ulimit -n) allow only %d", wanted, files, possible)
    return min(wanted, possible)
