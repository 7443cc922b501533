"""The Prometheus series of the service: bounded labels, base units, every child there at 0 from the start.

Import this module only in a process whose multiprocess directory is set (BentoML sets it for its workers), or where
there is one process: prometheus_client decides at its import where values live. Then `exposition` merges all workers.
"""

import os
from collections.abc import Iterable
from pathlib import Path

from prometheus_client import (
    CONTENT_TYPE_LATEST,
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    disable_created_metrics,
    generate_latest,
)
from prometheus_client.multiprocess import MultiProcessCollector, mark_process_dead
from prometheus_client.registry import Collector

from dle_serving.processes import alive

CONTENT_TYPE = CONTENT_TYPE_LATEST
_DIRECTORY = "PROMETHEUS_MULTIPROC_DIR"
_REQUEST_SECONDS = (0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10)
_STAGE_SECONDS = (0.00001, 0.000025, 0.00005, 0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.05, 0.1, 0.5, 1, 5)
_BATCH_ROWS = (1, 2, 4, 8, 16, 32, 64, 128, 256, 1024, 4096, 16_384)
STAGES = ("decode", "queue", "predict", "encode")
FAULT_CODES = ("type", "non_finite", "missing", "unknown", "json")
_DELAY_SECONDS = (1, 10, 60, 600, 3600, 6 * 3600, 86_400, 7 * 86_400, 30 * 86_400, 90 * 86_400)
REJECTION_CODES = ("signature", "expired", "label", "conflict")


class Metrics:
    """All series of one process. Children are made once and kept, for finding one by its labels takes a lock."""

    def __init__(self) -> None:
        disable_created_metrics()  # type: ignore[no-untyped-call]
        self._registry = registry = CollectorRegistry()
        self._collectors: list[Collector] = []
        self._requests = Counter(
            "dle_requests", "Requests answered, by route and status code.", ["route", "code"], registry=registry
        )
        self._seconds = Histogram(
            "dle_request_duration_seconds",
            "From the request's headers to the end of its answer, by route.",
            ["route"],
            buckets=_REQUEST_SECONDS,
            registry=registry,
        )
        stages = Histogram(
            "dle_stage_duration_seconds",
            "Decoding of a request, waiting for its batch, the model's run (of a batch), encoding of the answer.",
            ["stage"],
            buckets=_STAGE_SECONDS,
            registry=registry,
        )
        rows = Histogram("dle_batch_rows", "Rows in one run of a model.", buckets=_BATCH_ROWS, registry=registry)
        inflight = Gauge(
            "dle_inflight_requests", "Requests being answered.", multiprocess_mode="livesum", registry=registry
        )
        invalid = Counter(
            "dle_invalid_rows", "Rows that do not fit the schema, by kind of fault.", ["code"], registry=registry
        )
        self._predictions = Counter(
            "dle_predictions", "Rows answered, by model.", ["model", "version"], registry=registry
        )
        self._delays = Histogram(
            "dle_feedback_delay_seconds",
            "From a prediction to the feedback on it, by model.",
            ["model", "version"],
            buckets=_DELAY_SECONDS,
            registry=registry,
        )
        rejected = Counter(
            "dle_feedback_rejected", "Items of feedback that were not accepted, by reason.", ["code"], registry=registry
        )
        self._info = Gauge(
            "dle_model_info",
            "1 for each loaded model.",
            ["model", "version", "task", "provider"],
            multiprocess_mode="livemax",
            registry=registry,
        )
        self._loaded = Gauge(
            "dle_model_load_timestamp_seconds",
            "When the model was loaded, in seconds since 1970.",
            ["model", "version"],
            multiprocess_mode="livemax",
            registry=registry,
        )
        self.inflight = inflight
        self.batch_rows = rows
        self.decode, self.queue, self.predict, self.encode = (stages.labels(stage) for stage in STAGES)
        self._answers: dict[tuple[str, int], Counter] = {}
        self._durations: dict[str, Histogram] = {}
        self._invalid = {code: invalid.labels(code) for code in FAULT_CODES}
        self._rejected = {code: rejected.labels(code) for code in REJECTION_CODES}
        self._delay: dict[tuple[str, int], Histogram] = {}

    def expect(self, answers: Iterable[tuple[str, int]]) -> None:
        """Make the series of every route and each status code that it may give."""
        for route, code in answers:
            self._answers[route, code] = self._requests.labels(route, str(code))
            self._durations[route] = self._seconds.labels(route)

    def request(self, route: str, code: int, seconds: float) -> None:
        """One request was answered."""
        counter = self._answers.get((route, code))
        if counter is None:  # a code that the route was not expected to give
            counter = self._answers[route, code] = self._requests.labels(route, str(code))
        counter.inc()
        self._durations[route].observe(seconds)

    def invalid_rows(self, faults: Iterable[tuple[int | None, str]]) -> None:
        """Rows that were refused: each (row, code) counts once."""
        for _, code in set(faults):
            self._invalid[code].inc()

    def feedback(self, model: str, version: int, delay: float) -> None:
        """Feedback was accepted, `delay` seconds after its prediction."""
        self._delay[model, version].observe(delay)

    def feedback_rejected(self, codes: Iterable[str]) -> None:
        """Items of feedback were not accepted."""
        for code in codes:
            self._rejected[code].inc()

    def model(self, name: str, version: int, task: str, provider: str, loaded: float) -> Counter:
        """A model was loaded at the time `loaded`; returns the counter of its predictions."""
        self._info.labels(name, str(version), task, provider).set(1)
        self._loaded.labels(name, str(version)).set(loaded)
        self._delay[name, version] = self._delays.labels(name, str(version))
        return self._predictions.labels(name, str(version))

    def add(self, collector: Collector) -> None:
        """Have its series in every exposition."""
        self._collectors.append(collector)

    def exposition(self) -> bytes:
        """The text for Prometheus, over all workers; reads their files, so not for the event loop's thread."""
        whole = CollectorRegistry()
        if _DIRECTORY in os.environ:
            _forget_the_dead(Path(os.environ[_DIRECTORY]))
            MultiProcessCollector(whole)  # type: ignore[no-untyped-call]
        else:
            whole.register(self._registry)
        for collector in self._collectors:
            whole.register(collector)
        return generate_latest(whole)


def _forget_the_dead(directory: Path) -> None:
    """Remove the gauges of workers that are gone; what they counted stays."""
    for pid in {int(file.stem.rpartition("_")[2]) for file in directory.glob("gauge_live*_*.db")}:
        if not alive(pid):
            mark_process_dead(pid)  # type: ignore[no-untyped-call]
