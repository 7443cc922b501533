"""POST /predict: predictions for rows of JSON or, for a model whose only input is an image, for an image file."""

import asyncio
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import msgspec

from dle_bundle.errors import RowFaults
from dle_bundle.rows.decoder import DecodedRows, TooManyPixels, TooManyRows, Turns
from dle_bundle.schema import Label
from dle_serving.connection.limits import check_content, read_body
from dle_serving.errors import BadRequest, TooLarge
from dle_serving.feedback.ids import NO_CLASS
from dle_serving.models.repository import Repository
from dle_serving.models.served import ServedModel
from dle_serving.monitoring.metrics import Metrics
from dle_serving.predictions import Predictions, standardised
from dle_serving.routes.contract import Request, Response

_INLINE_BYTES = 32 << 10
"""Longer bodies are decoded and predicted in a thread, so that they do not block the event loop."""
_IMAGES_LARGER = 64
"""How many times larger a body of images may be and still be batched with other requests."""
_THREADS = 2
"""Number of threads that decode, and of those that predict large requests."""
_encoder = msgspec.json.Encoder()


class ClassPrediction(msgspec.Struct, gc=False, kw_only=True):
    """One prediction of a classifier."""

    id: str | msgspec.UnsetType = msgspec.UNSET
    label: Label
    probability: float
    probabilities: dict[str, float]


class ValuePrediction(msgspec.Struct, gc=False, kw_only=True):
    """One prediction of a regression."""

    id: str | msgspec.UnsetType = msgspec.UNSET
    value: float


class HorizonPrediction(msgspec.Struct, gc=False, kw_only=True):
    """One forecast over several steps, the next step first."""

    id: str | msgspec.UnsetType = msgspec.UNSET
    values: list[float]


class PredictResponse(msgspec.Struct, gc=False):
    """The response body."""

    model: str
    version: int
    predictions: Sequence[ClassPrediction | ValuePrediction | HorizonPrediction]


class PredictHandler:
    """Handles POST /predict.

    Threads
    -------
    Requests are handled in the thread of the event loop. Long bodies, images and the search for faults are decoded in
    turns by a few threads: a request queues again after each turn, so that one with many images does not hold up the
    others. Other threads predict large requests.

    Ownership
    ---------
    The handler owns these threads; `close` ends them.
    """

    def __init__(self, repository: Repository, metrics: Metrics, max_body_bytes: int, batch_rows: int) -> None:
        self._repository = repository
        self._metrics = metrics
        self._max_body_bytes = max_body_bytes
        self._batch_rows = batch_rows
        self._decoding = ThreadPoolExecutor(_THREADS, thread_name_prefix="decoding")
        self._large = ThreadPoolExecutor(_THREADS, thread_name_prefix="large-request")

    async def __call__(self, request: Request) -> Response:
        """Predict the rows of one request; raises an `HttpError` for anything wrong with it."""
        with_ids = request.flags(ids=True)["ids"]
        served = self._repository.find(request.parameters.get("model"), request.parameters.get("version"))
        media = check_content(request.headers, served.media_types)
        body = await read_body(request.headers, request.receive, self._max_body_bytes)
        rows = await self._decode(served, body, media)
        if len(body) > _INLINE_BYTES * (_IMAGES_LARGER if served.slow_to_decode else 1) or len(rows) > self._batch_rows:
            loop = asyncio.get_running_loop()
            return await loop.run_in_executor(self._large, self._run_and_encode, served, rows, with_ids)
        return self._encode(served, await served.batcher.submit(rows), with_ids)

    def close(self) -> None:
        """Wait for the large requests in progress, and end the threads."""
        self._decoding.shutdown()
        self._large.shutdown()

    def _run_and_encode(self, served: ServedModel, rows: DecodedRows, with_ids: bool) -> Response:
        return self._encode(served, served.run([rows]), with_ids)

    async def _decode(self, served: ServedModel, body: bytes, media: str) -> DecodedRows:
        decoder = served.decoder
        work = _Work(decoder.image_row_in_turns(body) if media in served.media_types else decoder.rows_in_turns(body))
        try:
            rows = None if served.slow_to_decode or len(body) > _INLINE_BYTES else work.turn()
            while rows is None:
                rows = await asyncio.get_running_loop().run_in_executor(self._decoding, work.turn)
        except RowFaults as error:
            self._metrics.invalid_rows((fault.row, fault.code) for fault in error.faults)
            raise BadRequest(error.message, error.faults, more=error.more) from None
        except TooManyPixels as error:
            raise TooLarge(f"{error.message}; send fewer, or raise DLE_MAX_PIXELS") from None
        except TooManyRows as error:
            raise TooLarge(error.message) from None
        self._metrics.decode.observe(work.seconds)
        return rows

    def _encode(self, served: ServedModel, answers: Predictions, with_ids: bool) -> Response:
        started = time.perf_counter()
        predictions = (
            _values(served, answers, with_ids) if answers.values is not None else _classes(served, answers, with_ids)
        )
        body = _encoder.encode(PredictResponse(served.name, served.version, predictions))
        self._metrics.encode.observe(time.perf_counter() - started)
        return Response(body)


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


def _classes(served: ServedModel, answers: Predictions, with_ids: bool) -> list[ClassPrediction]:
    assert answers.classes is not None
    assert answers.probabilities is not None
    labels, names = served.labels, served.class_names
    classes: list[int] = answers.classes.tolist()
    table: list[list[float]] = answers.probabilities.tolist()
    chosen = [row[place] for row, place in zip(table, classes, strict=True)]
    return [
        ClassPrediction(
            id=id_, label=labels[place], probability=probability, probabilities=dict(zip(names, row, strict=True))
        )
        for id_, place, probability, row in zip(
            _ids(served, classes, chosen, with_ids), classes, chosen, table, strict=True
        )
    ]


def _values(served: ServedModel, answers: Predictions, with_ids: bool) -> Sequence[ValuePrediction | HorizonPrediction]:
    assert answers.values is not None
    summary: list[float] = standardised(answers.point_values, served.schema.outputs).tolist()
    ids = _ids(served, [NO_CLASS] * len(summary), summary, with_ids)
    pairs = zip(ids, answers.values.tolist(), strict=True)
    if answers.values.ndim > 1:
        return [HorizonPrediction(id=id_, values=values) for id_, values in pairs]
    return [ValuePrediction(id=id_, value=value) for id_, value in pairs]


def _ids(
    served: ServedModel, classes: Sequence[int], answers: Sequence[float], wanted: bool
) -> Sequence[str | msgspec.UnsetType]:
    if not wanted:
        return [msgspec.UNSET] * len(answers)
    return served.signing_keys.sign(int(time.time()), served.fingerprint, classes, answers)
