"""POST /predict: predictions for rows of JSON or, for a model whose only input is an image, for an image file."""

import asyncio
import time
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor

from dle_bundle.errors import RowFaults
from dle_bundle.rows.decoder import DecodedRows, TooManyRows
from dle_serving.connection.heads import Head
from dle_serving.connection.lane import Destination
from dle_serving.connection.limits import check_content, read_body
from dle_serving.errors import BadRequest, HttpError, TooLarge
from dle_serving.models.repository import Repository
from dle_serving.models.served import ServedModel
from dle_serving.monitoring.metrics import Metrics
from dle_serving.routes.contract import Request, Response, Route

_INLINE_BYTES = 32 << 10
"""Longer bodies are decoded and predicted in a thread, so that they do not block the event loop."""
_IMAGES_LARGER = 64
"""How many times larger a body of images may be and still be batched with other requests."""
_THREADS = 2


class PredictHandler:
    """Handles POST /predict; owns the threads for large requests."""

    def __init__(self, repository: Repository, metrics: Metrics, max_body_bytes: int, batch_rows: int) -> None:
        self._repository = repository
        self._metrics = metrics
        self._max_body_bytes = max_body_bytes
        self._batch_rows = batch_rows
        self._threads = ThreadPoolExecutor(_THREADS, thread_name_prefix="large-request")

    async def __call__(self, request: Request) -> Response:
        """Predict the rows of one request; raises an `HttpError` for anything wrong with it."""
        with_ids = request.flags(ids=True)["ids"]
        served = self._repository.find(request.parameters.get("model"), request.parameters.get("version"))
        media = check_content(request.headers, served.media_types)
        body = await read_body(request.headers, request.receive, self._max_body_bytes)
        loop = asyncio.get_running_loop()
        if served.slow_to_decode or len(body) > _INLINE_BYTES:
            rows = await loop.run_in_executor(self._threads, self._decode, served, body, media)
        else:
            rows = self._decode(served, body, media)
        if len(body) > _INLINE_BYTES * (_IMAGES_LARGER if served.slow_to_decode else 1) or len(rows) > self._batch_rows:
            bodies = await loop.run_in_executor(self._threads, served.answer, [rows], [len(rows)], [with_ids])
            return Response(bodies[0])
        return Response(await served.batcher.predict(rows, with_ids=with_ids))

    def destination(
        self, head: Head, route: Route, parameters: Mapping[str, str], *, needs_key: bool
    ) -> Destination | None:
        """What the lane needs to know of a plain request; None if it takes a thread, or if something is wrong with it.

        Raises nothing: `__call__` finds out what is wrong.
        """
        with_ids = {b"": True, b"ids=true": True, b"ids=false": False}.get(head.query)
        try:
            served = self._repository.find(parameters.get("model"), parameters.get("version"))
            check_content(head.headers)
        except HttpError:
            return None
        if with_ids is None or served.slow_to_decode or head.length > min(self._max_body_bytes, _INLINE_BYTES):
            return None
        authorization = head.headers.get(b"authorization")
        scope = route.scope if needs_key else None
        return Destination(served, route.path, with_ids, head.size, head.size + head.length, authorization, scope)

    def close(self) -> None:
        """Wait for the large requests in progress, and end the threads."""
        self._threads.shutdown()

    def _decode(self, served: ServedModel, body: bytes, media: str) -> DecodedRows:
        started = time.perf_counter()
        try:
            rows = served.decoder.image_row(body) if media in served.media_types else served.decoder.rows(body)
        except RowFaults as error:
            self._metrics.invalid_rows((fault.row, fault.code) for fault in error.faults)
            raise BadRequest(error.message, error.faults) from None
        except TooManyRows as error:
            raise TooLarge(error.message) from None
        self._metrics.decode.observe(time.perf_counter() - started)
        return rows
