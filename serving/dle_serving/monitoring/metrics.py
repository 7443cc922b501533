"""The Prometheus metrics of the service: bounded labels, base units, and every series exported from 0 on."""

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, Metric, generate_latest
from prometheus_client.registry import Collector

from dle_serving.monitoring.metric_series import MetricFamily, SeriesGroup, SharedSeries, families
from dle_serving.monitoring.monitored_model import MODEL_LABELS

CONTENT_TYPE = CONTENT_TYPE_LATEST
STAGES = ("decode", "queue", "predict", "encode")
FAULT_CODES = ("type", "non_finite", "missing", "unknown", "image", "sequence", "json")
REJECTION_CODES = ("signature", "expired", "label", "conflict")

CLIENT_LEFT = 499
"""Status code, in the metrics only, of a request whose client disconnected before it was complete."""
SHED_REASONS = (
    *("malformed", "headers", "silent", "slow_headers", "slow_body", "unread", "connections"),
    *("bytes", "rows", "wait", "timeout", "client_left"),
)

_REQUESTS = MetricFamily("dle_requests", "Responses, by route and status code.", "counter", ("route", "code"))
_DURATION = MetricFamily(
    "dle_request_duration_seconds",
    "Time from receiving the request's headers to sending the whole response, by route.",
    "histogram",
    ("route",),
    (0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10),
)
_STAGE = MetricFamily(
    "dle_stage_duration_seconds",
    "Time by stage: decode a request, wait for a batch (queue), run the model on a batch (predict), encode a response.",
    "histogram",
    ("stage",),
    (0.00001, 0.000025, 0.00005, 0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.05, 0.1, 0.5, 1, 5),
)
_BATCH = MetricFamily(
    "dle_batch_rows",
    "Rows per model run.",
    "histogram",
    (),
    (1, 2, 4, 8, 16, 32, 64, 128, 256, 1024, 4096, 16_384),
)
_INFLIGHT = MetricFamily("dle_inflight_requests", "Requests in progress.", "livesum")
_QUEUE_ROWS = MetricFamily("dle_queue_rows", "Rows that wait for the model or are in it.", "livesum")
_CONNECTIONS = MetricFamily("dle_connections", "Open connections.", "livesum")
_SHED = MetricFamily(
    "dle_shed",
    "Requests and connections that were given up: not HTTP (malformed), too large headers, no first "
    "byte in time (silent), late headers or body (slow_headers, slow_body), a response that the client does not read "
    "(unread), too many connections, too much waiting work (bytes, rows, wait), a request that waited too long "
    "(timeout) or whose client left before its work began (client_left).",
    "counter",
    ("reason",),
)
_INVALID = MetricFamily(
    "dle_invalid_rows", "Rows that do not match the schema, by kind of fault.", "counter", ("code",)
)
_REJECTED = MetricFamily("dle_feedback_rejected", "Rejected feedback items, by reason.", "counter", ("code",))
_PREDICTIONS = MetricFamily("dle_predictions", "Rows predicted, by model.", "counter", MODEL_LABELS)
_DELAY = MetricFamily(
    "dle_feedback_delay_seconds",
    "Time from a prediction to the feedback on it, by model.",
    "histogram",
    MODEL_LABELS,
    (1, 10, 60, 600, 3600, 6 * 3600, 86_400, 7 * 86_400, 30 * 86_400, 90 * 86_400),
)
_INFO = MetricFamily("dle_model_info", "1 for each loaded model.", "max", (*MODEL_LABELS, "task", "provider"))
_LOADED = MetricFamily(
    "dle_model_load_timestamp_seconds",
    "Time at which the model was loaded, in seconds since 1970.",
    "max",
    MODEL_LABELS,
)


class Metrics(Collector):
    """The metrics of one server: each worker updates its own numbers and exports the sum over all workers."""

    def __init__(self, folder: Path) -> None:
        """The values are kept in files in `folder`."""
        self._folder = folder
        self._group = group = SeriesGroup(folder)
        self._groups = [group]
        self._requests: dict[tuple[str, int], SharedSeries] = {}
        self._durations: dict[str, SharedSeries] = {}
        self.decode, self.queue, self.predict, self.encode = (group.series(_STAGE, stage) for stage in STAGES)
        self.batch_rows = group.series(_BATCH)
        self.inflight = group.series(_INFLIGHT)
        self.queue_rows = group.series(_QUEUE_ROWS)
        self.connections = group.series(_CONNECTIONS)
        self._shed = {reason: group.series(_SHED, reason) for reason in SHED_REASONS}
        self._invalid = {code: group.series(_INVALID, code) for code in FAULT_CODES}
        self._rejected = {code: group.series(_REJECTED, code) for code in REJECTION_CODES}
        self._delays: dict[tuple[str, int], SharedSeries] = {}
        self._registry = CollectorRegistry()
        self._registry.register(self)

    def declare_responses(self, responses: Iterable[tuple[str, int]]) -> None:
        """Declare every route with each status code that it may return; called once, before the first request."""
        group = self._group
        for route, code in responses:
            self._requests[route, code] = group.series(_REQUESTS, route, str(code))
            if route not in self._durations:
                self._durations[route] = group.series(_DURATION, route)
        group.open()

    def request(self, route: str, code: int, seconds: float) -> None:
        """Count one response."""
        self._requests[route, code].inc()
        self._durations[route].observe(seconds)

    def predicted(self, route: str, seconds: Sequence[float]) -> None:
        """Count responses of status 200 together; `seconds` has the time of each."""
        self._requests[route, 200].inc(len(seconds))
        self._durations[route].observe_all(seconds)

    def invalid_rows(self, faults: Iterable[tuple[int | None, str]]) -> None:
        """Count invalid rows; each pair (row, code) counts once."""
        for code, count in Counter(code for _, code in set(faults)).items():
            self._invalid[code].inc(count)

    def shed(self, reason: str, times: int = 1) -> None:
        """Count refused requests or connections; `reason` is one of `SHED_REASONS`."""
        self._shed[reason].inc(times)

    def feedback(self, model: str, version: int, delay: float) -> None:
        """Count accepted feedback that arrived `delay` seconds after its prediction."""
        self._delays[model, version].observe(delay)

    def feedback_rejected(self, codes: Iterable[str]) -> None:
        """Count rejected feedback items."""
        for code in codes:
            self._rejected[code].inc()

    def model(self, name: str, version: int, task: str, provider: str, loaded: float) -> SharedSeries:
        """Declare the metrics of a model, loaded at the time `loaded`; returns the counter of its predictions."""
        group, labels = SeriesGroup(self._folder), (name, str(version))
        predictions = group.series(_PREDICTIONS, *labels)
        self._delays[name, version] = group.series(_DELAY, *labels)
        info, stamp = group.series(_INFO, *labels, task, provider), group.series(_LOADED, *labels)
        group.open()
        info.set(1)
        stamp.set(loaded)
        self._groups.append(group)
        return predictions

    def add(self, collector: Collector) -> None:
        """Include the metrics of `collector` in the exposition."""
        self._registry.register(collector)

    def collect(self) -> Iterator[Metric]:
        """The metrics over all workers."""
        return families(self._groups)

    def exposition(self) -> bytes:
        """The text for Prometheus, over all workers. It reads files, so call it outside the event loop's thread."""
        return generate_latest(self._registry)

    def close(self) -> None:
        """Release the files for the next worker."""
        for group in self._groups:
            group.close()
