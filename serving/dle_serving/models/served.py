"""One model that is served, with all that answering and watching it takes."""

import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

from dle_bundle.bundle import Bundle
from dle_bundle.images.pixels import MEDIA_TYPES
from dle_bundle.rows.decoder import RowDecoder, Rows
from dle_serving.answers import Answers
from dle_serving.feedback.ids import Keys, fingerprint
from dle_serving.models.batching import Batcher
from dle_serving.models.runtime import Model
from dle_serving.monitoring.metrics import Metrics
from dle_serving.monitoring.observations import Monitor
from dle_serving.monitoring.watched import Watched
from dle_serving.settings import Settings


class Served:
    """One loaded bundle with all that answering takes."""

    def __init__(self, bundle: Bundle, model: Model, keys: Keys, settings: Settings, metrics: Metrics) -> None:
        self.name = bundle.manifest.name
        self.version = bundle.manifest.version
        self.task = bundle.manifest.task
        self.schema = bundle.schema
        self.labels = bundle.schema.outputs.classes or ()
        self.class_names = bundle.schema.outputs.class_names
        self.provider = model.provider
        self.media_types = tuple(MEDIA_TYPES) if [field.kind for field in self.schema.inputs] == ["image"] else ()
        self.slow_to_decode = bool(self.schema.image)
        self.keys = keys
        self.fingerprint = fingerprint(bundle.manifest)
        folder = settings.home / "counts" / self.fingerprint.hex()
        monitor = Monitor(bundle, folder, settings.drift_window) if settings.monitoring else None
        self.watched = Watched(self.name, self.version, self.fingerprint, self.class_names, bundle.reference, monitor)
        self.decoder = RowDecoder(bundle.schema, settings.max_rows)
        wide = self.schema.image or self.schema.sequence or self.schema.text  # a run may take long
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="wide-model") if wide else None
        self.batcher = Batcher(self.run, settings.batch_rows, self._thread)
        self._predictions = metrics.model(self.name, self.version, self.task, self.provider, time.time())
        self._model = model
        self._metrics = metrics

    def run(self, parts: Sequence[Rows]) -> Answers:
        """Answers to the rows of all parts, in order. Safe in any thread."""
        started = time.perf_counter()
        groups = self._model.tokenise(self.decoder.groups(parts))
        answers = self._model.run(groups)
        self._metrics.predict.observe(time.perf_counter() - started)
        self._metrics.batch_rows.observe(len(groups))
        self._predictions.inc(len(groups))
        if self.watched.monitor is not None and len(groups):
            self.watched.monitor.note(groups, answers)
        return answers

    def close(self) -> None:
        """End the thread, after what it has begun, and count what is not counted yet."""
        if self._thread is not None:
            self._thread.shutdown(cancel_futures=True)
        if self.watched.monitor is not None:
            self.watched.monitor.close()
