"""POST /predict: predictions for rows of JSON or, for a model whose only input is an image, for an image file."""

import asyncio
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import msgspec

from dle_bundle.errors import RowFaults
from dle_bundle.rows.decoder import DecodedRows, TooManyRows
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
            return await loop.run_in_executor(self._threads, self._run_and_encode, served, rows, with_ids)
        return self._encode(served, await served.batcher.submit(rows), with_ids)

    def close(self) -> None:
        """Wait for the large requests in progress, and end the threads."""
        self._threads.shutdown()

    def _run_and_encode(self, served: ServedModel, rows: DecodedRows, with_ids: bool) -> Response:
        return self._encode(served, served.run([rows]), with_ids)

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

    def _encode(self, served: ServedModel, answers: Predictions, with_ids: bool) -> Response:
        started = time.perf_counter()
        predictions = (
            _values(served, answers, with_ids) if answers.values is not None else _classes(served, answers, with_ids)
        )
        body = _encoder.encode(PredictResponse(served.name, served.version, predictions))
        self._metrics.encode.observe(time.perf_counter() - started)
        return Response(body)


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
