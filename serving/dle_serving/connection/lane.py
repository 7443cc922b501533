"""The lane: answers plain prediction requests a batch at a time, without an ASGI scope, a task or a coroutine each.

What arrives in one iteration of the event loop is decoded, checked, predicted, encoded and counted together. The lane
only gives responses of status 200, and of status 503 when the server is overloaded. A request that it cannot answer so,
for whatever reason, is declined: its connection then hands it to the HTTP parser and the application, which respond as
if there were no lane.
"""

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, Protocol

from dle_bundle.rows.decoder import UNREADABLE
from dle_serving.auth import Keyring, Scope
from dle_serving.connection.admission import Admission, Patience, Ticket, cost_of
from dle_serving.connection.heads import Head, end_of_head, plain_head
from dle_serving.errors import HttpError
from dle_serving.models.batching import Outcome, Share
from dle_serving.models.served import ServedModel
from dle_serving.monitoring.metrics import CLIENT_LEFT, Metrics

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

    def decline(self) -> None:
        """Hand the request to the HTTP parser."""

    def is_open(self) -> bool:
        """Whether the client is still there."""


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
    A request that the lane cannot answer with status 200 is declined, and no other request notices.
    """

    def __init__(
        self, resolve: Resolve, keyring: Keyring | None, admission: Admission, metrics: Metrics, batch_rows: int
    ) -> None:
        """`resolve` finds the destination of a head, or None if the application has to respond."""
        self._resolve = resolve
        self._keyring = keyring
        self._admission = admission
        self._metrics = metrics
        self._batch_rows = batch_rows
        self._known: dict[bytes, Destination] = {}
        self._arrived: list[PlainRequest] = []

    def destination(self, data: bytes) -> Destination | None:
        """Where the request at the start of `data` goes; None if it is not plain, or not allowed."""
        size = end_of_head(data)
        if not size:
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
            self._admission.check_wait(cost_of(destination.size - destination.head_size))
        except HttpError as error:
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
        group = _Group(self._admission.ticket(), self._metrics)
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
                group.submit(served)
                group = _Group(self._admission.ticket(), self._metrics)
            group.add(request, rows)
        if group.requests:
            group.submit(served)


class _Group:
    """Requests to one model whose rows are checked, predicted and counted together."""

    def __init__(self, ticket: Ticket, metrics: Metrics) -> None:
        self._ticket = ticket
        self._metrics = metrics
        self._begun = time.perf_counter()
        self._answered: dict[str, list[float]] = {}
        self._left = 0
        self._sizes: list[int] = []
        self.requests: list[PlainRequest] = []
        self.rows: list[Any] = []

    def add(self, request: PlainRequest, rows: list[Any]) -> None:
        """Include the request, whose body has these rows."""
        self.requests.append(request)
        self.rows += rows
        self._sizes.append(len(rows))

    def submit(self, served: ServedModel) -> None:
        """Check all rows together and submit them; if that fails, decline the requests at fault."""
        count = len(self.requests)
        try:
            rows = served.decoder.checked(self.rows)
            self._ticket.take_bytes(sum(len(request.body) for request in self.requests))
            self._ticket.take_rows(len(rows))
            self._ticket.wait(count)
        except UNREADABLE:
            self._submit_apart(served)
            return
        except HttpError:  # overloaded
            self._ticket.give_back()
            for request in self.requests:
                request.connection.decline()
            return
        now = time.perf_counter()
        self._metrics.decode.observe((now - self._begun) / count, count)
        self._metrics.inflight.inc(count)
        self._left = count
        shares = [self._share(request, size) for request, size in zip(self.requests, self._sizes, strict=True)]
        served.batcher.submit(rows, shares, now)

    def _submit_apart(self, served: ServedModel) -> None:
        if len(self.requests) == 1:
            self.requests[0].connection.decline()
            return
        start = 0
        for request, size in zip(self.requests, self._sizes, strict=True):
            alone = _Group(self._ticket.another(), self._metrics)
            alone.add(request, self.rows[start : start + size])
            alone.submit(served)
            start += size

    def _share(self, request: PlainRequest, size: int) -> Share:
        given_up = Patience(is_there=request.connection.is_open).given_up
        return Share(size, request.destination.with_ids, partial(self._answer, request), given_up)

    def _answer(self, request: PlainRequest, outcome: Outcome) -> None:
        if not request.connection.is_open():
            self._metrics.request(request.destination.route, CLIENT_LEFT, time.perf_counter() - request.begun)
        elif isinstance(outcome, bytes):
            request.connection.respond(outcome)
            self._answered.setdefault(request.destination.route, []).append(request.begun)
        else:
            request.connection.decline()
        self._left -= 1
        if not self._left:
            now = time.perf_counter()
            for route, begun in self._answered.items():
                self._metrics.predicted(route, [now - each for each in begun])
            self._metrics.inflight.inc(-len(self.requests))
            self._ticket.give_back()
