"""The Prometheus series of the service: bounded labels, base units, every child there at 0 from the start."""

from collections.abc import Iterable, Iterator
from pathlib import Path

from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, Metric, generate_latest
from prometheus_client.registry import Collector

from dle_serving.monitoring.series import Family, SeriesSet, SharedSeries, families

CONTENT_TYPE = CONTENT_TYPE_LATEST
STAGES = ("decode", "queue", "predict", "encode")
FAULT_CODES = ("type", "non_finite", "missing", "unknown", "image", "sequence", "json")
REJECTION_CODES = ("signature", "expired", "label", "conflict")
_MODEL = ("model", "version")

_REQUESTS = Family("dle_requests", "Requests answered, by route and status code.", "counter", ("route", "code"))
_DURATION = Family(
    "dle_request_duration_seconds",
    "From the request's headers to the end of its answer, by route.",
    "histogram",
    ("route",),
    (0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10),
)
_STAGE = Family(
    "dle_stage_duration_seconds",
    "Decoding of a request, waiting for its batch, the model's run (of a batch), encoding of the answer.",
    "histogram",
    ("stage",),
    (0.00001, 0.000025, 0.00005, 0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.05, 0.1, 0.5, 1, 5),
)
_BATCH = Family(
    "dle_batch_rows",
    "Rows in one run of a model.",
    "histogram",
    (),
    (1, 2, 4, 8, 16, 32, 64, 128, 256, 1024, 4096, 16_384),
)
_INFLIGHT = Family("dle_inflight_requests", "Requests being answered.", "livesum")
_INVALID = Family("dle_invalid_rows", "Rows that do not fit the schema, by kind of fault.", "counter", ("code",))
_REJECTED = Family(
    "dle_feedback_rejected", "Items of feedback that were not accepted, by reason.", "counter", ("code",)
)
_PREDICTIONS = Family("dle_predictions", "Rows answered, by model.", "counter", _MODEL)
_DELAY = Family(
    "dle_feedback_delay_seconds",
    "From a prediction to the feedback on it, by model.",
    "histogram",
    _MODEL,
    (1, 10, 60, 600, 3600, 6 * 3600, 86_400, 7 * 86_400, 30 * 86_400, 90 * 86_400),
)
_INFO = Family("dle_model_info", "1 for each loaded model.", "max", (*_MODEL, "task", "provider"))
_LOADED = Family("dle_model_load_timestamp_seconds", "When the model was loaded, in seconds since 1970.", "max", _MODEL)


class Metrics(Collector):
    """The series of one server, as this worker changes them and any worker tells them."""

    def __init__(self, folder: Path) -> None:
        """They stand in files in `folder`."""
        self._folder = folder
        self._board = board = SeriesSet(folder)
        self._boards = [board]
        self._requests: dict[tuple[str, int], SharedSeries] = {}
        self._durations: dict[str, SharedSeries] = {}
        self.decode, self.queue, self.predict, self.encode = (board.series(_STAGE, stage) for stage in STAGES)
        self.batch_rows = board.series(_BATCH)
        self.inflight = board.series(_INFLIGHT)
        self._invalid = {code: board.series(_INVALID, code) for code in FAULT_CODES}
        self._rejected = {code: board.series(_REJECTED, code) for code in REJECTION_CODES}
        self._delays: dict[tuple[str, int], SharedSeries] = {}
        self._registry = CollectorRegistry()
        self._registry.register(self)

    def declare_responses(self, answers: Iterable[tuple[str, int]]) -> None:
        """Every route with each status code that it may give; to be called once, before anything is counted."""
        board = self._board
        for route, code in answers:
            self._requests[route, code] = board.series(_REQUESTS, route, str(code))
            if route not in self._durations:
                self._durations[route] = board.series(_DURATION, route)
        board.open()

    def request(self, route: str, code: int, seconds: float) -> None:
        """One request was answered."""
        self._requests[route, code].inc()
        self._durations[route].observe(seconds)

    def invalid_rows(self, faults: Iterable[tuple[int | None, str]]) -> None:
        """Rows that were refused: each (row, code) counts once."""
        for _, code in set(faults):
            self._invalid[code].inc()

    def feedback(self, model: str, version: int, delay: float) -> None:
        """Feedback was accepted, `delay` seconds after its prediction."""
        self._delays[model, version].observe(delay)

    def feedback_rejected(self, codes: Iterable[str]) -> None:
        """Items of feedback were not accepted."""
        for code in codes:
            self._rejected[code].inc()

    def model(self, name: str, version: int, task: str, provider: str, loaded: float) -> SharedSeries:
        """A model was loaded at the time `loaded`; returns the counter of its predictions."""
        board, labels = SeriesSet(self._folder), (name, str(version))
        predictions = board.series(_PREDICTIONS, *labels)
        self._delays[name, version] = board.series(_DELAY, *labels)
        info, stamp = board.series(_INFO, *labels, task, provider), board.series(_LOADED, *labels)
        board.open()
        info.set(1)
        stamp.set(loaded)
        self._boards.append(board)
        return predictions

    def add(self, collector: Collector) -> None:
        """Have its series in every exposition."""
        self._registry.register(collector)

    def collect(self) -> Iterator[Metric]:
        """The series of all workers."""
        return families(self._boards)

    def exposition(self) -> bytes:
        """The text for Prometheus, over all workers; reads their files, so not for the event loop's thread."""
        return generate_latest(self._registry)

    def close(self) -> None:
        """Leave the values to the next worker."""
        for board in self._boards:
            board.close()
