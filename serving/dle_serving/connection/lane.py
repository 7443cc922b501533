"""The lane: answers plain prediction requests a batch at a time, without an ASGI scope, a task or a coroutine each.

What arrives in one iteration of the event loop is decoded, checked, predicted, encoded and counted together. The lane
only gives responses of status 200. A request that it cannot answer so, for whatever reason, is declined: its connection
then hands it to the HTTP parser and the application, which respond as if there were no lane.
"""

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

from dle_bundle.rows.decoder import UNREADABLE, DecodedRows
from dle_serving.auth import Keyring, Scope
from dle_serving.connection.heads import MOST_HEAD_BYTES, Head, end_of_head, plain_head
from dle_serving.errors import HttpError
from dle_serving.models.batching import Outcome, Share
from dle_serving.models.served import ServedModel
from dle_serving.monitoring.metrics import Metrics

MOST_BODY_BYTES = 32 << 10
"""Requests with longer bodies are not plain: they are decoded in a thread."""
_REMEMBERED = 1024
"""Number of heads whose meaning is remembered: clients send the same head again and again."""


@dataclass(frozen=True, slots=True)
class Destination:
    """Where the requests with one head go, and how many bytes they have.

    `authorization` is None where no API key is needed, and b"" where it is missing.
    """

    served: ServedModel
    route: str
    with_ids: bool
    size: int
    authorization: bytes | None
    scope: Scope | None


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

    def __init__(self, resolve: Resolve, keyring: Keyring | None, metrics: Metrics, batch_rows: int) -> None:
        """`resolve` finds the destination of a head, or None if the application has to respond."""
        self._resolve = resolve
        self._keyring = keyring
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
            found = None if content is None or content.length > MOST_BODY_BYTES else self._resolve(content)
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

    def submit(self, request: PlainRequest) -> None:
        """Answer the request, together with those that arrive in the same iteration of the event loop."""
        if not self._arrived:
            asyncio.get_running_loop().call_soon(self._flush)
        self._arrived.append(request)

    def _flush(self) -> None:
        arrived, self._arrived = self._arrived, []
        self._metrics.inflight.inc(len(arrived))
        by_model: dict[ServedModel, list[PlainRequest]] = {}
        for request in arrived:
            by_model.setdefault(request.destination.served, []).append(request)
        for served, requests in by_model.items():
            self._read(served, requests)

    def _read(self, served: ServedModel, requests: list[PlainRequest]) -> None:
        """Decode the requests' bodies, and pass them on in groups that fit into one batch."""
        group, rows, sizes = list[PlainRequest](), list[Any](), list[int]()
        started = time.perf_counter()
        for request in requests:
            try:
                found = served.decoder.read(request.body)
            except UNREADABLE:
                self._decline(request)
                continue
            if len(found) > self._batch_rows:
                self._decline(request)
                continue
            if len(rows) + len(found) > self._batch_rows:
                self._check(served, group, rows, sizes, started)
                group, rows, sizes, started = [], [], [], time.perf_counter()
            group.append(request)
            rows += found
            sizes.append(len(found))
        if group:
            self._check(served, group, rows, sizes, started)

    def _check(
        self, served: ServedModel, group: list[PlainRequest], rows: list[Any], sizes: list[int], started: float
    ) -> None:
        """Check the rows of all requests together and submit them; if that fails, each request by itself."""
        try:
            checked = served.decoder.checked(rows)
        except UNREADABLE:
            if len(group) == 1:
                self._decline(group[0])
                return
            place = 0
            for request, size in zip(group, sizes, strict=True):
                self._check(served, [request], rows[place : place + size], [size], time.perf_counter())
                place += size
            return
        now = time.perf_counter()
        self._metrics.decode.observe((now - started) / len(group), len(group))
        _Group(self, served, group, checked, sizes).submit(now)

    def _decline(self, request: PlainRequest) -> None:
        self._metrics.inflight.inc(-1)
        request.connection.decline()
