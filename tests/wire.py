"""Connections of the service without sockets: tests feed them segments of bytes, and read what they write."""

import asyncio
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import uvicorn
from tests.inprocess import InProcess
from uvicorn.server import ServerState

from dle_serving.connection.protocol import Connection

DATE = (b"date", b"Thu, 01 Jan 2026 00:00:00 GMT")


class Transport(asyncio.Transport):
    """Keeps what is written; closes as asyncio's transports do, in the loop's next iteration."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__({"peername": ("127.0.0.1", 1), "sockname": ("127.0.0.1", 2)})
        self._loop = loop
        self.protocol: Any = None
        self.written = b""
        self.reading = True
        self.closed = self.aborted = False

    def write(self, data: Any) -> None:
        assert not self.closed, "written after the end"
        self.written += bytes(data)

    def is_closing(self) -> bool:
        return self.closed

    def close(self) -> None:
        if not self.closed:
            self.closed = True
            self._loop.call_soon(self.protocol.connection_lost, None)

    def abort(self) -> None:
        self.aborted = True
        self.close()

    def pause_reading(self) -> None:
        self.reading = False

    def resume_reading(self) -> None:
        self.reading = True


class Wire:
    """One connection to the application of `service`. Every method returns when nothing is left to do."""

    def __init__(self, service: InProcess) -> None:
        self._loop = service.loop
        self.config = uvicorn.Config(service.app, http=Connection, lifespan="off", log_config=None)
        self.config.load()
        self.state = ServerState()
        self.state.default_headers = [DATE]
        self.transport = Transport(self._loop)
        self.connection = Connection(self.config, self.state, {}, _loop=self._loop)
        self.transport.protocol = self.connection
        self._run(self.connection.connection_made, self.transport)

    @property
    def written(self) -> bytes:
        """All that the server has sent."""
        return self.transport.written

    def send(self, *segments: bytes) -> bytes:
        """Send segments, each when the server reads, and return what it has sent since."""
        before = len(self.written)
        for segment in segments:
            if not self.transport.closed and segment:
                assert self.transport.reading
                self._run(self.connection.data_received, segment)
        return self.written[before:]

    def sweep(self, later: float) -> bytes:
        """Let the sweep come at a time that is so many seconds later, and return what the server has sent then."""
        before = len(self.written)
        self._run(self.connection.sweep, self._loop.time() + later)
        return self.written[before:]

    def half_close(self) -> None:
        """The client has nothing more to send."""
        if not self.connection.eof_received():
            self.transport.close()
        self._run(lambda: None)

    def leave(self) -> None:
        """The client closes the connection."""
        self._run(self.transport.close)

    def _run(self, call: Any, *arguments: Any) -> None:
        async def main() -> None:
            call(*arguments)
            for _ in range(6):
                await asyncio.sleep(0)
            while self.connection._asked or self._is_holding() or self._responding():
                await asyncio.sleep(0)

        self._loop.run_until_complete(main())

    def _is_holding(self) -> bool:
        """Whether bytes are held that the connection passes on by itself."""
        connection = self.connection
        is_stuck = connection._expected or connection.flow.write_paused or self.transport.closed
        return bool(connection._held) and not is_stuck

    def _responding(self) -> bool:
        """Whether the application works on a request that it has received as a whole."""
        cycle = self.connection.cycle
        return bool(self.state.tasks) and not (cycle is not None and cycle.more_body and not cycle.response_complete)


@contextmanager
def wire(service: InProcess) -> Iterator[Wire]:
    """A connection, which the client closes in the end."""
    made = Wire(service)
    try:
        yield made
    finally:
        made.leave()


def request(
    body: bytes, path: str = "/predict", headers: Iterable[str] = (), *, method: str = "POST", length: bool = True
) -> bytes:
    """The bytes of a request as most clients send it."""
    given = ["host: localhost", "content-type: application/json", *headers]
    if length:
        given.append(f"content-length: {len(body)}")
    return "\r\n".join([f"{method} {path} HTTP/1.1", *given, "", ""]).encode() + body
