"""The lane: answers plain prediction requests a batch at a time, without an ASGI scope, a task or a coroutine each.

What arrives in one iteration of the event loop is decoded, checked, predicted, encoded and counted together. The lane
gives responses of status 200, and refuses work that would wait too long. It declines every other request, and the
connection then hands it to the HTTP parser and the application, which respond as if there were no lane.
"""

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, Protocol

from dle_bundle.rows.decoder import UNREADABLE, DecodedRows
from dle_serving.auth import Keyring, Scope
from dle_serving.connection.admission import Admission, Overloaded, Patience, Ticket
from dle_serving.connection.heads import Head, end_of_head, plain_head
from dle_serving.connection.limits import ClientDisconnected
from dle_serving.errors import HttpError, TooLate
from dle_serving.models.batching import Outcome, Share
from dle_serving.models.served import ServedModel
from dle_serving.monitoring.metrics import CLIENT_LEFT, Metrics
from dle_serving.settings import ServerSettings

_REMEMBERED = 1024
"""Number of heads whose meaning is remembered: clients send the same head again and again."""


@dataclass(frozen=True, slots=True)
class Destination:
    """Where the requests with one head go, and how many bytes they have: `size` in all, `head_size` of the head.

    `scope` is the one that the API key in `authorization` must have, or None where no key is needed. Requests that take
    long to decode are not `in_lane`: the lane only refuses them when the server is overloaded.
    """

    served: ServedModel
    route: str
    with_ids: bool
    head_size: int
    size: int
    authorization: bytes | None
    scope: Scope | None
    in_lane: bool


class Asking(Protocol):
    """The connection of a request, as the lane uses it."""

    def respond(self, body: bytes) -> None:
        """Send the response of status 200 with this body."""

    def fail(self, error: HttpError) -> None:
        """Send the error."""

    def decline(self) -> None:
        """Hand the request to the HTTP parser."""

    def leave(self) -> None:
        """Close the connection: the client does not wait."""

    def is_open(self) -> bool:
        """Whether a response can be sent."""

    def is_wanted(self) -> bool:
        """Whether the client still waits."""


@dataclass(frozen=True, slots=True)
class PlainRequest:
    """One request in the lane: `body` is its JSON, `begun` when its last byte arrived (`time.perf_counter`)."""

    connection: Asking
    destination: Destination
    body: bytes
    begun: float


Resolve = Callable[[Head], Destination | None]


class Lane:
    """Batches the plain requests of all connections of one event loop.

    Threads
    -------
    Everything is called in the event loop's thread.

    Failures
    --------
    A request that the lane cannot answer is declined or refused, and no other request notices.
    """

    def __init__(
        self,
        settings: ServerSettings,
        resolve: Resolve,
        keyring: Keyring | None,
        admission: Admission,
        metrics: Metrics,
    ) -> None:
        """`resolve` finds the destination of a head, or None if the application has to respond."""
        self._resolve = resolve
        self._keyring = keyring
        self._admission = admission
        self._metrics = metrics
        self._batch_rows = settings.batch_rows
        self._most_head_bytes = settings.max_header_bytes
        self._timeout = settings.request_timeout
        self._known: dict[bytes, Destination] = {}
        self._arrived: list[PlainRequest] = []

    def destination(self, data: bytes) -> Destination | None:
        """Where the request at the start of `data` goes; None if it is not plain, or not allowed."""
        size = end_of_head(data)
        if not size or size > self._most_head_bytes:
            return None
        head = data[:size]
        found = self._known.get(head)
        if found is None:
            content = plain_head(head)
            found = None if content is None else self._resolve(content)
            if found is None:
                return None
            if len(self._known) >= _REMEMBERED:
                self._known.clear()
            self._known[head] = found
        if self._keyring is not None and found.scope is not None:
            try:
                self._keyring.check(found.authorization, found.scope)
            except HttpError:
                return None
        return found

    def refusal(self, destination: Destination) -> HttpError | None:
        """Why a request that has just begun is not even received: the server is overloaded. None if it is not.

        Under overload most requests end here, so that refusing them leaves time for the others.
        """
        try:
            self._admission.check_wait()
        except Overloaded as error:
            self._metrics.shed(error.reason)
            self._metrics.request(destination.route, error.status, 0.0)
            return error
        return None

    def submit(self, request: PlainRequest) -> None:
        """Answer the request, together with those that arrive in the same iteration of the event loop."""
        if not self._arrived:
            asyncio.get_running_loop().call_soon(self._flush)
        self._arrived.append(request)

    def _flush(self) -> None:
        arrived, self._arrived = self._arrived, []
        by_model: dict[ServedModel, list[PlainRequest]] = {}
        for request in arrived:
            by_model.setdefault(request.destination.served, []).append(request)
        for served, requests in by_model.items():
            self._read(served, requests)

    def _read(self, served: ServedModel, requests: list[PlainRequest]) -> None:
        """Decode the requests' bodies, and pass them on in groups that fit into one batch."""
        group = self._group()
        for request in requests:
            try:
                rows = served.decoder.read(request.body)
            except UNREADABLE:
                request.connection.decline()
                continue
            if len(rows) > self._batch_rows:
                request.connection.decline()
                continue
            if len(group.rows) + len(rows) > self._batch_rows:
                self._submit(served, group)
                group = self._group()
            group.add(request, rows)
        if group.requests:
            self._submit(served, group)

    def _submit(self, served: ServedModel, group: "_Group") -> None:
        """Check all rows of the group together and submit them; if that fails, each request by itself."""
        try:
            rows = served.decoder.checked(group.rows)
        except UNREADABLE:
            if len(group.requests) == 1:
                group.requests[0].connection.decline()
                return
            start = 0
            for request, size in zip(group.requests, group.sizes, strict=True):
                alone = self._group()
                alone.add(request, group.rows[start : start + size])
                self._submit(served, alone)
                start += size
        else:
            group.submit(served, rows)

    def _group(self) -> "_Group":
        return _Group(self._admission.ticket(), self._metrics, self._timeout)


class _Group:
    """Requests to one model whose rows are checked, predicted and counted together."""

    def __init__(self, ticket: Ticket, metrics: Metrics, timeout: int) -> None:
        self._ticket = ticket
        self._metrics = metrics
        self._timeout = timeout
        self._begun = time.perf_counter()
        self._answered: dict[str, list[float]] = {}
        self._left = 0
        self.requests: list[PlainRequest] = []
        self.sizes: list[int] = []
        self.rows: list[Any] = []

    def add(self, request: PlainRequest, rows: list[Any]) -> None:
        """Include the request, whose body has these rows."""
        self.requests.append(request)
        self.rows += rows
        self.sizes.append(len(rows))

    def submit(self, served: ServedModel, rows: DecodedRows) -> None:
        """Submit the rows, which have been checked; if too much waits already, refuse all requests."""
        count = len(self.requests)
        try:
            self._ticket.take_bytes(sum(len(request.body) for request in self.requests))
            self._ticket.take_rows(len(rows))
            self._ticket.wait(count)
        except Overloaded as error:
            self._ticket.give_back()
            self._metrics.shed(error.reason, count)
            for request in self.requests:
                self._fail(request, error)
            return
        now = time.perf_counter()
        self._metrics.decode.observe((now - self._begun) / count, count)
        self._metrics.inflight.inc(count)
        self._left = count
        shares = [self._share(request, size) for request, size in zip(self.requests, self.sizes, strict=True)]
        served.batcher.submit(rows, shares, now)

    def _share(self, request: PlainRequest, size: int) -> Share:
        patience = Patience(request.begun + self._timeout, request.connection.is_wanted)
        return Share(size, request.destination.with_ids, partial(self._answer, request), patience.given_up)

    def _answer(self, request: PlainRequest, outcome: Outcome) -> None:
        try:
            self._send(request, outcome)
        finally:
            self._left -= 1
            if not self._left:
                now = time.perf_counter()
                for route, begun in self._answered.items():
                    self._metrics.predicted(route, [now - each for each in begun])
                self._metrics.inflight.inc(-len(self.requests))
                self._ticket.give_back()

    def _send(self, request: PlainRequest, outcome: Outcome) -> None:
        connection, route = request.connection, request.destination.route
        if isinstance(outcome, ClientDisconnected):
            self._metrics.shed("client_left")
        if isinstance(outcome, ClientDisconnected) or not connection.is_open():
            self._metrics.request(route, CLIENT_LEFT, time.perf_counter() - request.begun)
            connection.leave()
        elif isinstance(outcome, bytes):
            connection.respond(outcome)
            self._answered.setdefault(route, []).append(request.begun)
        elif isinstance(outcome, HttpError):
            if isinstance(outcome, TooLate):
                self._metrics.shed("timeout")
            self._fail(request, outcome)
        else:
            connection.decline()

    def _fail(self, request: PlainRequest, error: HttpError) -> None:
        self._metrics.request(request.destination.route, error.status, time.perf_counter() - request.begun)
        if request.connection.is_open():
            request.connection.fail(error)
