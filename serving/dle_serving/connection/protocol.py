"""One HTTP connection: uvicorn's protocol with the lane in front, bounded headers and deadlines.

uvicorn makes one `Connection` for each client. At the boundary between two messages, bytes that begin with a plain
prediction request go to the lane; all others go to uvicorn's parser and the application. One request of a connection is
in the lane at a time, so responses keep the order of the requests.
"""

import time
from typing import Any, cast

import httptools
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol

from dle_serving.connection.connections import IS_WANTED, Connections
from dle_serving.connection.lane import Destination, PlainRequest
from dle_serving.errors import BadRequest, HeadersTooLarge, HttpError, NotReady, TooSlow
from dle_serving.monitoring.metrics import CLIENT_LEFT
from dle_serving.settings import ServerSettings

_MOST_HELD_BYTES = 64 << 10
"""Reading pauses when a client has sent so much ahead."""


class Connection(HttpToolsProtocol):
    """The protocol of one connection, in the event loop's thread.

    A message is being parsed from `on_message_begin` to `on_message_complete`. A plain request is first received
    (`_expected` bytes in all, `_received` so far), then due (`_asked`) until its response is written; what arrives
    meanwhile waits in `_received`. Of a request that was refused at its head, `_unwanted` bytes are still to come.
    """

    def __init__(self, config: Any, server_state: Any, app_state: Any, _loop: Any = None) -> None:
        super().__init__(config, server_state, app_state, _loop)
        self._shared: Connections = config.app.connections
        self._settings: ServerSettings = self._shared.settings
        self._expected = self._unwanted = 0
        self._received = bytearray()
        self._destination: Destination | None = None
        self._asked = b""
        self._is_parsing = self._has_headers = self._has_moved = False
        self._is_last = self._is_broken = False
        self._head_bytes = self._unmoved_bytes = 0
        self._refusal: HttpError | None = None
        self._last_words = b""
        self._answers = 0
        self._since = self.loop.time()
        self._stuck_since: float | None = None

    # What asyncio calls

    def connection_made(self, transport: Any) -> None:
        """Admit the connection, or refuse it when there are too many."""
        super().connection_made(transport)
        self._since = self.loop.time()
        if not self._shared.admit(self):
            self._refuse(NotReady("too many connections", retry_after=1), "connections")

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget the connection."""
        self._shared.leave(self)
        if self._expected:
            self._shared.metrics.inflight.inc(-1)
            route = cast(Destination, self._destination).route
            self._shared.metrics.request(route, CLIENT_LEFT, self.loop.time() - self._since)
        self._received.clear()
        super().connection_lost(exc)

    def eof_received(self) -> bool | None:  # type: ignore[override]
        """Keep a half-closed connection open until its request is answered."""
        if not self._is_answering():
            return None
        self._end_after_answer()
        return True

    def data_received(self, data: bytes) -> None:
        """Pass bytes to the lane or to the parser."""
        if self._is_broken or self.transport.is_closing():
            return
        if self._asked or self._expected:
            self._received += data
            if self._asked:
                if len(self._received) > _MOST_HELD_BYTES:
                    self.flow.pause_reading()
                return
            if len(self._received) < self._expected:
                return
            data, self._received = bytes(self._received), bytearray()
            self._shared.metrics.inflight.inc(-1)  # the lane counts it from now on
            self._ask(data)
            return
        if self._unwanted:
            dropped = min(self._unwanted, len(data))
            self._unwanted -= dropped
            if dropped < len(data):
                self.data_received(data[dropped:])
            return
        destination = self._shared.lane.destination(data) if self._is_between_messages() else None
        if destination is not None and (error := self._shared.lane.refusal(destination)) is not None:
            self._turn_away(error, destination.size, data)
            return
        if destination is None or not destination.in_lane:
            self._parse(data)
            return
        self._destination, self._expected = destination, destination.size
        if len(data) < self._expected:
            self._received += data
            self._since = self.loop.time()
            self._shared.metrics.inflight.inc()
        else:
            self._ask(data)

    def pause_writing(self) -> None:
        """The client does not read."""
        super().pause_writing()
        self._stuck_since = self.loop.time()

    def resume_writing(self) -> None:
        """The client reads again."""
        super().resume_writing()
        self._stuck_since = None
        if not self._asked and not self._expected and self._received and self.parser is not None:
            self._go_on()

    # What the lane calls

    def respond(self, body: bytes) -> None:
        """Send the response of status 200 with this body."""
        self._asked = b""
        transport = self.transport
        if transport.is_closing():
            return
        self._answers += 1
        self.server_state.total_requests += 1
        head = self._shared.head_of_answers(self.server_state.default_headers)
        if self._is_last or self._shared.is_closing:
            transport.write(b"%b%d\r\nconnection: close\r\n\r\n%b" % (head, len(body), body))
            transport.close()
            return
        transport.write(b"%b%d\r\n\r\n%b" % (head, len(body), body))
        self._since = self.loop.time()
        if self._received and not self.flow.write_paused:
            self._go_on()

    def decline(self) -> None:
        """Hand the request to the HTTP parser, with what has arrived since."""
        data, self._asked = self._asked + bytes(self._received), b""
        self._received.clear()
        if not self.transport.is_closing():
            self.flow.resume_reading()
            self._parse(data)

    def is_open(self) -> bool:
        """Whether the client is still there."""
        return not self.transport.is_closing()

    # What the sweep and uvicorn call

    def sweep(self, now: float) -> None:
        """End what is overdue."""
        settings = self._settings
        if self.transport.is_closing() or self._stuck_since is not None:
            if self._stuck_since is None:  # what is still to be sent may never be read
                self._stuck_since = now
            elif now - self._stuck_since > settings.body_timeout:
                self._shared.metrics.shed("unread")
                self.transport.abort()
        elif (self._is_parsing or self._expected) and not self._is_broken:
            has_headers = self._has_headers or bool(self._expected)
            limit = settings.body_timeout if has_headers else settings.header_timeout
            if now - self._since > limit:
                what, name = ("body", "DLE_BODY_TIMEOUT") if has_headers else ("headers", "DLE_HEADER_TIMEOUT")
                error = TooSlow(f"expected the whole {what} within {limit} s ({name})")
                self._refuse(error, f"slow_{what}")
        elif not self._is_answering() and now - self._since > self._patience():
            if not self._answers:
                self._shared.metrics.shed("silent")
            self.transport.close()

    def shutdown(self) -> None:
        """Close the connection when its present request is answered: the server is stopping."""
        if self._is_parsing or self._expected or self._is_answering():
            self._end_after_answer()
        else:
            self.transport.close()

    # What the parser calls

    def on_message_begin(self) -> None:
        """A request begins."""
        self._is_parsing, self._has_headers, self._head_bytes = True, False, 0
        self._since = self.loop.time()
        super().on_message_begin()

    def on_header(self, name: bytes, value: bytes) -> None:
        """A header, or a trailer, which is dropped."""
        self._head_bytes += len(name) + len(value) + 4
        if self._head_bytes > self._settings.max_header_bytes:
            self._refusal = self._too_large()
            raise self._refusal
        if not self._has_headers:
            super().on_header(name, value)

    def on_headers_complete(self) -> None:
        """The headers are complete: the application begins."""
        self._has_headers = self._has_moved = True
        self._head_bytes = 0
        self._since = self.loop.time()
        super().on_headers_complete()
        cycle = self.cycle
        cast(dict[str, Any], self.scope)[IS_WANTED] = lambda: not cycle.disconnected
        if self._is_last or self._shared.is_closing or self.parser.should_upgrade():
            self.cycle.keep_alive = False

    def on_body(self, body: bytes) -> None:
        """A part of the body."""
        self._has_moved = True
        super().on_body(body)

    def on_message_complete(self) -> None:
        """The request is complete."""
        self._is_parsing, self._has_moved = False, True
        self._since = self.loop.time()
        super().on_message_complete()

    def on_response_complete(self) -> None:
        """The application has responded: begin the next request, or wait for it without a timer."""
        self._answers += 1
        self.server_state.total_requests += 1
        if self.transport.is_closing():
            return
        self.flow.resume_reading()
        if self.pipeline:
            self._start_asgi_task(*self.pipeline.pop())
        elif self._last_words:
            self.transport.write(self._last_words)
            self.transport.close()
        elif not self._is_parsing:
            self._since = self.loop.time()

    def send_400_response(self, msg: str) -> None:
        """Refuse what is not HTTP."""
        self._refuse(BadRequest(msg), "malformed")

    def _should_upgrade(self) -> bool:
        """Never: a request to change to another protocol is answered in this one."""
        return False

    # How these do it

    def _is_between_messages(self) -> bool:
        return not (self._is_parsing or self._is_last or self._is_answering())

    def _is_answering(self) -> bool:
        return bool(self._asked) or (self.cycle is not None and not self.cycle.response_complete)

    def _patience(self) -> int:
        """The seconds for which the connection may be idle."""
        return self._settings.keep_alive if self._answers else self._settings.first_byte_timeout

    def _end_after_answer(self) -> None:
        self._is_last = True
        if self.cycle is not None:
            self.cycle.keep_alive = False

    def _ask(self, data: bytes) -> None:
        """Give the plain request at the start of `data` to the lane, and keep the rest."""
        size, destination = self._expected, cast(Destination, self._destination)
        self._expected = 0
        self._asked = data[:size] if len(data) > size else data
        self._received += data[size:]
        body = self._asked[destination.head_size :]
        self._shared.lane.submit(PlainRequest(self, destination, body, time.perf_counter()))

    def _turn_away(self, error: HttpError, size: int, data: bytes) -> None:
        """Respond with the error, and drop the request of `size` bytes that begins with `data`."""
        self._answers += 1
        self._since = self.loop.time()
        is_last = self._is_last or self._shared.is_closing
        self.transport.write(_response(error, self.server_state.default_headers, is_last=is_last))
        if is_last:
            self.transport.close()
            return
        self._unwanted = size
        self.data_received(data)

    def _go_on(self) -> None:
        """Handle what arrived while the last request was answered."""
        data, self._received = bytes(self._received), bytearray()
        self.flow.resume_reading()
        self.data_received(data)

    def _parse(self, data: bytes) -> None:
        self._has_moved = False
        try:
            self.parser.feed_data(data)
        except httptools.HttpParserUpgrade:  # what follows is in another protocol
            self._is_broken = True
        except httptools.HttpParserError as error:
            if self._refusal is None:
                self._refuse(BadRequest(f"expected an HTTP/1.1 request: {error}"), "malformed")
            else:
                self._refuse(self._refusal, "headers")
        else:
            self._unmoved_bytes = 0 if self._has_moved else self._unmoved_bytes + len(data)
            if self._unmoved_bytes > self._settings.max_header_bytes:
                self._refuse(self._too_large(), "headers")

    def _too_large(self) -> HeadersTooLarge:
        most = self._settings.max_header_bytes
        return HeadersTooLarge(f"expected at most {most:,} bytes of headers (DLE_MAX_HEADER_BYTES)")

    def _refuse(self, error: HttpError, reason: str) -> None:
        """Respond with the error after the responses to earlier requests, and close the connection."""
        self._shared.metrics.shed(reason)
        is_own = self._is_parsing and self._has_headers  # the message at fault is with the application already
        self._is_broken = True
        response = _response(error, self.server_state.default_headers, is_last=True)
        if is_own and self.pipeline:  # it waits for the earlier responses, so the application has not begun
            self.pipeline.popleft()
            self._last_words = response
        elif self._is_answering() and not is_own:
            self._last_words = response
        else:
            if not is_own or not self.cycle.response_started:
                self.transport.write(response)
            self.transport.close()


def _response(error: HttpError, default_headers: list[tuple[bytes, bytes]], *, is_last: bool) -> bytes:
    body = error.body()
    headers = [
        *default_headers,
        (b"content-type", b"application/json"),
        (b"content-length", b"%d" % len(body)),
        *([(b"connection", b"close")] if is_last else []),
        *error.headers,
    ]
    return b"".join([STATUS_LINE[error.status], *(b"%b: %b\r\n" % pair for pair in headers), b"\r\n", body])
