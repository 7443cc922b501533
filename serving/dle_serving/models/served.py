"""One served model: its decoder, its graph, its batcher, its metrics and its monitoring."""

import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

from dle_bundle.bundle import Bundle
from dle_bundle.groups import Groups
from dle_bundle.images.pixels import MEDIA_TYPES
from dle_bundle.rows.decoder import DecodedRows, RowDecoder
from dle_serving.feedback.ids import SigningKeys, fingerprint
from dle_serving.feedback.verification import FeedbackVerifier
from dle_serving.models.batching import Batcher
from dle_serving.models.encoding import ResponseEncoder
from dle_serving.models.runtime import Model
from dle_serving.monitoring.metrics import Metrics
from dle_serving.monitoring.monitored_model import MonitoredModel
from dle_serving.monitoring.observations import Observations
from dle_serving.predictions import Predictions, concatenate
from dle_serving.settings import ServerSettings

_TEXT_ROWS = 1024
"""Number of rows whose text is tokenised at once, since all of them are padded to the longest."""
_INLINE_SECONDS = 0.001
"""Runs that take longer are done in a thread, while the next batch gathers; for shorter ones that would be slower."""


class ServedModel:
    """A loaded bundle with everything that requests to it need. Safe in any thread, except `batcher`."""

    def __init__(
        self, bundle: Bundle, model: Model, keys: SigningKeys, settings: ServerSettings, metrics: Metrics
    ) -> None:
        self.name = bundle.manifest.name
        self.version = bundle.manifest.version
        self.task = bundle.manifest.task
        self.schema = bundle.schema
        self.labels = bundle.schema.outputs.classes or ()
        self.class_names = bundle.schema.outputs.class_names
        self.provider = model.provider
        self.media_types = tuple(MEDIA_TYPES) if [field.kind for field in self.schema.inputs] == ["image"] else ()
        self.slow_to_decode = bool(self.schema.image)
        self.verifier = FeedbackVerifier(bundle)
        self.signing_keys = keys
        self.fingerprint = fingerprint(bundle.manifest)
        folder = settings.home / "counts" / self.fingerprint.hex()
        observations = Observations(bundle, folder, settings.drift_window) if settings.monitoring else None
        self.monitored = MonitoredModel(
            self.name, self.version, self.fingerprint, self.class_names, bundle.reference, observations
        )
        self.decoder = RowDecoder(bundle.schema, settings.max_rows, settings.max_pixels)
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="model")
        self._time = model.warm_up(settings.batch_rows)
        self._encoder = ResponseEncoder(self.name, self.version, self.schema.outputs, keys, self.fingerprint)
        self.batcher = Batcher(self.answer, settings.batch_rows, self._thread, self._takes_long, metrics.queue.observe)
        self._predictions = metrics.model(self.name, self.version, self.task, self.provider, time.time())
        self._model = model
        self._metrics = metrics

    def answer(self, parts: Sequence[DecodedRows], sizes: Sequence[int], with_ids: Sequence[bool]) -> list[bytes]:
        """Predict the rows of all parts, in order, and return a response body for each request.

        A request has the next `sizes` rows, and gets ids or not.
        """
        started = time.perf_counter()
        rows = self.decoder.groups(parts)
        step = _TEXT_ROWS if self.schema.text else len(rows)
        if len(rows) <= step:
            answers = self._predict(rows)
        else:
            places = (slice(start, start + step) for start in range(0, len(rows), step))
            answers = concatenate([self._predict(rows.take(place)) for place in places])
        predicted = time.perf_counter()
        bodies = self._encoder.bodies(answers, sizes, with_ids)
        encoded = time.perf_counter()
        self._metrics.predict.observe(predicted - started)
        self._metrics.encode.observe((encoded - predicted) / len(sizes), len(sizes))
        self._metrics.batch_rows.observe(len(rows))
        self._predictions.inc(len(rows))
        return bodies

    def _takes_long(self, rows: int) -> bool:
        """Whether a run with so many rows would hold up the event loop."""
        # how long one takes with series, texts and images depends on them
        varies = self.schema.image or self.schema.sequence or self.schema.text
        return bool(varies) or self._time.seconds(rows) > _INLINE_SECONDS

    def _predict(self, rows: Groups) -> Predictions:
        groups = self._model.tokenise(rows)
        answers = self._model.run(groups)
        if self.monitored.observations is not None and len(groups):
            self.monitored.observations.note(groups, answers)
        return answers

    def close(self) -> None:
        """Finish the run in progress, end the thread, and count the last predictions."""
        self._thread.shutdown(cancel_futures=True)
        if self.monitored.observations is not None:
            self.monitored.observations.close()
