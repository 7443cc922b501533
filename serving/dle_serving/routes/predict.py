"""POST /predict: predictions for rows of JSON or, for a model whose only input is an image, for an image file."""

import asyncio
import time
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor

from dle_bundle.errors import RowFaults
from dle_bundle.rows.decoder import DecodedRows, TooManyPixels, TooManyRows, Turns
from dle_serving.connection.admission import Admission, Patience
from dle_serving.connection.heads import Head
from dle_serving.connection.lane import Destination
from dle_serving.connection.limits import ClientDisconnected, check_content, read_body
from dle_serving.errors import BadRequest, HttpError, TooLarge, TooLate
from dle_serving.models.repository import Repository
from dle_serving.models.served import ServedModel
from dle_serving.monitoring.metrics import Metrics
from dle_serving.routes.contract import Request, Response, Route
from dle_serving.settings import ServerSettings

_INLINE_BYTES = 32 << 10
"""Longer bodies are decoded and predicted in a thread, so that they do not block the event loop."""
_IMAGES_LARGER = 64
"""How many times larger a body of images may be and still be batched with other requests."""
_TIMEOUT_HEADER = b"x-request-timeout-ms"


class PredictHandler:
    """Handles POST /predict.

    Threads
    -------
    Requests are handled in the thread of the event loop. Long bodies, images and the search for faults are decoded in
    turns by a second thread: a request queues again after each turn, so that one with many images does not hold up the
    others. A third thread predicts large requests. On one core under overload, two threads of each kind held up the
    event loop, which waits for all of them whenever it wants Python's global lock.

    Ownership
    ---------
    The handler owns these threads; `close` ends them.
    """

    def __init__(
        self, settings: ServerSettings, repository: Repository, admission: Admission, metrics: Metrics
    ) -> None:
        self._repository = repository
        self._admission = admission
        self._metrics = metrics
        self._max_body_bytes = settings.max_body_bytes
        self._batch_rows = settings.batch_rows
        self._timeout = settings.request_timeout
        self._decoding = ThreadPoolExecutor(1, thread_name_prefix="decoding")
        self._large = ThreadPoolExecutor(1, thread_name_prefix="large-request")

    async def __call__(self, request: Request) -> Response:
        """Predict the rows of one request; raises an `HttpError` for anything wrong with it."""
        with_ids = request.flags(ids=True)["ids"]
        served = self._repository.find(request.parameters.get("model"), request.parameters.get("version"))
        media = check_content(request.headers, served.media_types)
        patience = Patience(request.begun + self._seconds(request), request.is_wanted)
        with self._admission.ticket() as ticket:
            body = await read_body(request.headers, request.receive, self._max_body_bytes, ticket.take_bytes)
            ticket.wait()
            try:
                rows = await self._decode(served, body, media, patience)
                ticket.take_rows(len(rows))
                return Response(await self._predict(served, rows, len(body), with_ids, patience))
            except TooLate:
                self._metrics.shed("timeout")
                raise
            except ClientDisconnected:
                self._metrics.shed("client_left")
                raise

    async def _predict(
        self, served: ServedModel, rows: DecodedRows, size: int, with_ids: bool, patience: Patience
    ) -> bytes:
        if size <= _INLINE_BYTES * (_IMAGES_LARGER if served.slow_to_decode else 1) and len(rows) <= self._batch_rows:
            return await served.batcher.predict(rows, with_ids=with_ids, given_up=patience.given_up)

        def answer() -> bytes:
            patience.check()
            return served.answer([rows], [len(rows)], [with_ids])[0]

        return await asyncio.get_running_loop().run_in_executor(self._large, answer)

    def _seconds(self, request: Request) -> float:
        """The timeout of the request; raises BadRequest."""
        given = request.headers.get(_TIMEOUT_HEADER)
        if given is None:
            return self._timeout
        if not given.isdigit() or len(given) > 9 or not int(given):
            expected = f"{_TIMEOUT_HEADER.decode()}: expected a positive number of milliseconds"
            raise BadRequest(f"{expected}, got {given[:20].decode('latin-1')!r}")
        return min(int(given) / 1000, self._timeout)

    def destination(
        self, head: Head, route: Route, parameters: Mapping[str, str], *, needs_key: bool
    ) -> Destination | None:
        """What the lane needs to know of a plain request; None if something is wrong with it.

        Raises nothing: `__call__` finds out what is wrong.
        """
        with_ids = {b"": True, b"ids=true": True, b"ids=false": False}.get(head.query)
        try:
            served = self._repository.find(parameters.get("model"), parameters.get("version"))
            check_content(head.headers, served.media_types)
        except HttpError:
            return None
        if with_ids is None or head.length > self._max_body_bytes:
            return None
        in_lane = not served.slow_to_decode and head.length <= _INLINE_BYTES
        authorization = head.headers.get(b"authorization")
        scope = route.scope if needs_key else None
        size = head.size + head.length
        return Destination(served, route.path, with_ids, head.size, size, authorization, scope, in_lane)

    def close(self) -> None:
        """Wait for the large requests in progress, and end the threads."""
        self._decoding.shutdown()
        self._large.shutdown()

    async def _decode(self, served: ServedModel, body: bytes, media: str, patience: Patience) -> DecodedRows:
        decoder = served.decoder
        turns = decoder.image_row_in_turns(body) if media in served.media_types else decoder.rows_in_turns(body)
        work = _Work(turns)

        def turn_after_waiting() -> DecodedRows | None:
            patience.check()
            return work.turn()

        try:
            rows = None if served.slow_to_decode or len(body) > _INLINE_BYTES else work.turn()
            while rows is None:
                rows = await asyncio.get_running_loop().run_in_executor(self._decoding, turn_after_waiting)
        except RowFaults as error:
            self._metrics.invalid_rows((fault.row, fault.code) for fault in error.faults)
            raise BadRequest(error.message, error.faults, more=error.more) from None
        except TooManyPixels as error:
            raise TooLarge(f"{error.message}; send fewer, or raise DLE_MAX_PIXELS") from None
        except TooManyRows as error:
            raise TooLarge(error.message) from None
        self._metrics.decode.observe(work.seconds)
        return rows


class _Work:
    """The decoding of one request in turns, one at a time in any thread, and the `seconds` that they took."""

    def __init__(self, turns: Turns[DecodedRows]) -> None:
        self._turns = turns
        self.seconds = 0.0

    def turn(self) -> DecodedRows | None:
        """Take one turn, and return the rows if it was the last one. Raises RowFaults and TooManyRows."""
        started = time.perf_counter()
        try:
            next(self._turns)
        except StopIteration as done:
            rows: DecodedRows = done.value
            return rows
        finally:
            self.seconds += time.perf_counter() - started
        return None
