"""One HTTP connection: uvicorn's protocol with the lane in front, bounded headers and deadlines.

uvicorn makes one `Connection` for each client. At the boundary between two messages, bytes that begin with a plain
prediction request go to the lane; all others go to uvicorn's parser and the application. One request of a connection is
in the lane at a time, so responses keep the order of the requests.
"""

import time
from functools import partial
from typing import Any, cast

import httptools
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol, RequestResponseCycle

from dle_serving.connection.connections import IS_WANTED, Connections
from dle_serving.connection.lane import Destination, PlainRequest
from dle_serving.errors import BadRequest, HeadersTooLarge, HttpError, NotReady, TooSlow
from dle_serving.monitoring.metrics import CLIENT_LEFT
from dle_serving.settings import ServerSettings

_MOST_HELD_BYTES = 64 << 10
"""Reading pauses when a client has sent so much ahead."""


class Connection(HttpToolsProtocol):
    """The protocol of one connection, in the event loop's thread.

    A plain request that is not complete waits in `_held` until it has `_expected` bytes. A complete one is in the lane
    as `_asked` until it is answered. What arrives meanwhile, or while the client does not read its answers, waits in
    `_held`. Of a request that was refused at its head, `_unwanted` bytes are still to come, and are dropped. All else
    goes to the parser at once. `_own` is the cycle of the message that is being parsed, from the end of its headers to
    the end of its body.
    """

    def __init__(self, config: Any, server_state: Any, app_state: Any, _loop: Any = None) -> None:
        super().__init__(config, server_state, app_state, _loop)
        self._shared: Connections = config.app.connections
        self._settings: ServerSettings = self._shared.settings
        self._destination: Destination | None = None
        self._expected = self._unwanted = 0
        self._asked = b""
        self._held = bytearray()
        self._is_declined = False
        self._own: RequestResponseCycle | None = None
        self._is_parsing = self._has_headers = self._has_moved = False
        self._head_bytes = self._unmoved_bytes = 0
        self._refusal: HttpError | None = None
        self._last_words = b""
        self._is_broken = self._is_last = self._has_ended = False
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
        self._held.clear()
        super().connection_lost(exc)

    def eof_received(self) -> bool | None:  # type: ignore[override]
        """Answer the requests that are complete, and then close the connection."""
        self._has_ended = True
        return self._is_busy() and not self._is_incomplete()

    def data_received(self, data: bytes) -> None:
        """Pass bytes to the lane or to the parser, or hold them."""
        if self._is_broken or self.transport.is_closing():
            return
        if not (self._asked or self._held):
            self._take(data)
            return
        self._held += data
        if self._expected:
            if len(self._held) >= self._expected:
                self._shared.metrics.inflight.inc(-1)  # the lane counts it from now on
                data, self._held = bytes(self._held), bytearray()
                self._ask(data)
        elif len(self._held) > _MOST_HELD_BYTES:
            self.flow.pause_reading()

    def pause_writing(self) -> None:
        """The client does not read."""
        super().pause_writing()
        self._stuck_since = self.loop.time()

    def resume_writing(self) -> None:
        """The client reads again."""
        super().resume_writing()
        self._stuck_since = None
        self._go_on()

    # What the lane calls

    def respond(self, body: bytes) -> None:
        """Send the response of status 200 with this body."""
        shared = self._shared
        head = shared.head_of_answers(self.server_state.default_headers)
        if self._is_last or shared.is_closing:
            self._answer(b"%b%d\r\nconnection: close\r\n\r\n%b" % (head, len(body), body), is_last=True)
        else:
            self._answer(b"%b%d\r\n\r\n%b" % (head, len(body), body), is_last=False)

    def fail(self, error: HttpError) -> None:
        """Send the error."""
        is_last = self._is_last or self._shared.is_closing
        self._answer(_response(error, self.server_state.default_headers, is_last=is_last), is_last=is_last)

    def decline(self) -> None:
        """Hand the request to the HTTP parser, with what has arrived since."""
        self._held[:0] = self._asked
        self._asked, self._is_declined = b"", True
        self.loop.call_soon(self._go_on)

    def leave(self) -> None:
        """Close the connection: the client does not wait."""
        self._asked = b""
        self.transport.close()

    def is_open(self) -> bool:
        """Whether a response can be sent."""
        return not self.transport.is_closing()

    def is_wanted(self) -> bool:
        """Whether the client still waits: it has not closed the connection, nor its own side of it."""
        return not (self._has_ended or self.transport.is_closing())

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
        elif self.flow.read_paused:
            self._since = now  # it is not the client that is slow
        elif self._unwanted and now - self._since > settings.body_timeout:
            self.transport.close()
        elif self._expected or (self._is_parsing and not self._is_broken):
            has_headers = self._has_headers or bool(self._expected)
            limit = settings.body_timeout if has_headers else settings.header_timeout
            if now - self._since > limit:
                what, name = ("body", "DLE_BODY_TIMEOUT") if has_headers else ("headers", "DLE_HEADER_TIMEOUT")
                error = TooSlow(f"expected the whole {what} within {limit} s ({name})")
                self._refuse(error, f"slow_{what}")
        elif not self._is_busy() and now - self._since > self._patience():
            if not self._answers:
                self._shared.metrics.shed("silent")
            self.transport.close()

    def shutdown(self) -> None:
        """Close the connection when its present request is answered: the server is stopping."""
        if not (self._is_parsing or self._expected or self._is_busy()):
            self.transport.close()
            return
        self._is_last = True
        if self.cycle is not None:
            self.cycle.keep_alive = False

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
        super().on_headers_complete()  # raises for a target that is no URL
        self._own = cycle = self.cycle
        self._has_headers = self._has_moved = True
        self._head_bytes = 0
        self._since = self.loop.time()
        cast(dict[str, Any], self.scope)[IS_WANTED] = partial(self._has_client, cycle)
        if self._is_last or self._shared.is_closing or self.parser.should_upgrade():
            cycle.keep_alive = False

    def on_body(self, body: bytes) -> None:
        """A part of the body."""
        self._has_moved = True
        super().on_body(body)

    def on_message_complete(self) -> None:
        """The request is complete."""
        self._is_parsing, self._has_moved, self._own = False, True, None
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
            cycle, app = self.pipeline.pop()
            if self._has_ended and cycle is self._own:  # its body will never be complete
                self.transport.close()
            else:
                self._start_asgi_task(cycle, app)
            return
        if self._last_words:
            self.transport.write(self._last_words)
        if self._last_words or (self._has_ended and not self._held):
            self.transport.close()
        elif not self._is_parsing:
            self._since = self.loop.time()

    def _should_upgrade(self) -> bool:
        """Never: a request to change to another protocol is answered in this one."""
        return False

    # What the application calls

    def _has_client(self, cycle: RequestResponseCycle) -> bool:
        """Whether the client still waits for a response that has to wait; in any thread. If not, there will be none."""
        if self._has_ended:
            self.loop.call_soon_threadsafe(self._give_up, cycle)
        return not (self._has_ended or cycle.disconnected)

    # How these do it

    def _give_up(self, cycle: RequestResponseCycle) -> None:
        cycle.disconnected = True
        self.transport.close()

    def _is_answering(self) -> bool:
        return self.cycle is not None and not self.cycle.response_complete

    def _is_busy(self) -> bool:
        """Whether something that the client has sent is still to be answered."""
        return bool(self._asked or self._held) or self._is_answering()

    def _is_incomplete(self) -> bool:
        """Whether the rest of a request is missing, and no earlier one is still to be answered."""
        return bool(self._expected or self._unwanted) or (self._own is not None and not self.pipeline)

    def _patience(self) -> int:
        """The seconds for which the connection may be idle."""
        return self._settings.keep_alive if self._answers else self._settings.first_byte_timeout

    def _take(self, data: bytes) -> None:
        """Pass on bytes behind which nothing is held."""
        if self._unwanted:
            data = self._drop(data)
            if not data:
                return
        lane = self._shared.lane
        is_between_messages = not (self._is_parsing or self._is_last or self._is_answering())
        destination = lane.destination(data) if is_between_messages else None
        if destination is not None and (error := lane.refusal(destination)) is not None:
            self._unwanted = destination.size
            self._held += self._drop(data)
            self.fail(error)
            return
        if destination is None or not destination.in_lane:
            self._parse(data)
            return
        self._destination, self._expected = destination, destination.size
        if len(data) < self._expected:
            self._held += data
            self._since = self.loop.time()
            self._shared.metrics.inflight.inc()
        else:
            self._ask(data)

    def _drop(self, data: bytes) -> bytes:
        """What follows the request that was refused."""
        dropped = min(self._unwanted, len(data))
        self._unwanted -= dropped
        return data[dropped:]

    def _ask(self, data: bytes) -> None:
        """Give the plain request at the start of `data` to the lane, and hold the rest."""
        size, destination = self._expected, cast(Destination, self._destination)
        self._expected = self._unmoved_bytes = 0
        self._asked = data[:size] if len(data) > size else data
        self._held += data[size:]
        body = self._asked[destination.head_size :]
        self._shared.lane.submit(PlainRequest(self, destination, body, time.perf_counter()))

    def _answer(self, response: bytes, *, is_last: bool) -> None:
        """Send the response to a request in the lane, or at its door."""
        self._asked = b""
        self._answers += 1
        self.server_state.total_requests += 1
        self.transport.write(response)
        if is_last or (self._has_ended and not self._held):
            self.transport.close()
            return
        self._since = self.loop.time()
        if self._held:
            self.loop.call_soon(self._go_on)

    def _go_on(self) -> None:
        """Pass on what is held, if nothing else has to come first."""
        if self._asked or self._expected or not self._held or self.flow.write_paused or self.transport.is_closing():
            return
        data, self._held = bytes(self._held), bytearray()
        self.flow.resume_reading()
        pass_on, self._is_declined = self._parse if self._is_declined else self._take, False
        pass_on(data)
        if self._has_ended and (self._is_incomplete() or not self._is_busy()):
            self.transport.close()

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
        self._is_broken = True
        response = _response(error, self.server_state.default_headers, is_last=True)
        if self._own is not None and self.pipeline:  # the message at fault waits for earlier responses
            self.pipeline.popleft()
            self._last_words = response
        elif self._own is None and self._is_answering():
            self._last_words = response
        else:
            if self._own is None or not self._own.response_started:
                self.transport.write(response)
            self.transport.close()


def _response(error: HttpError, default_headers: list[tuple[bytes, bytes]], *, is_last: bool) -> bytes:
    body = error.body()
    headers = [
        *default_headers,
        (b"content-type", b"application/json"),
        (b"content-length", b"%d" % len(body)),
        *error.headers,
        *([(b"connection", b"close")] if is_last else []),
    ]
    return b"".join([STATUS_LINE[error.status], *(b"%b: %b\r\n" % pair for pair in headers), b"\r\n", body])
