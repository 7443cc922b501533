"""The quality of the predictions, according to the feedback that this server has accepted.

The tallies are read from the feedback store. A slow or unreachable store must not block /metrics, so a reading that
takes longer than one second is left out. Older tallies are no substitute: each worker would export different ones, and
Prometheus takes a counter that falls for a restart.
"""

import logging
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import Future, wait
from dataclasses import dataclass

from dle_bundle.drift import verdict
from dle_bundle.drift.verdict import Score
from dle_serving.feedback.databases import StoreError
from dle_serving.feedback.side_thread import SideThread
from dle_serving.feedback.store import DEADLINE_SECONDS, Cell, Store
from dle_serving.monitoring.monitored_model import ListModels, MonitoredModel

_PATIENCE_SECONDS = 1.0

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class FeedbackCells:
    """The tally of one model: in total and in the window."""

    total: Sequence[Cell]
    window: Sequence[Cell]


class Quality:
    """Reads the feedback store for /metrics and /drift. `read` may be called in any thread but the event loop's."""

    def __init__(self, store: Store, models: ListModels, window: int) -> None:
        """`store` is used for reading only: sharing it with the writer would mean waiting for long transactions.

        `window` is in seconds, a multiple of 60.
        """
        self._store = store
        self._models = models
        self._minutes = window // 60
        self._thread = SideThread("quality")
        self._reading: Future[Mapping[bytes, FeedbackCells]] | None = None
        self._began = 0.0
        self._failing = False

    def read(self) -> Mapping[bytes, FeedbackCells]:
        """The tallies of each model, by fingerprint; empty while the store cannot be read. Waits up to one second."""
        reading = self._reading
        if reading is None or reading.done():
            reading = self._reading = self._thread.submit(self._tallies)
            self._began = time.monotonic()
        elif time.monotonic() - self._began > DEADLINE_SECONDS:
            self._store.abandon()
        wait([reading], _PATIENCE_SECONDS)
        return reading.result() if reading.done() else {}

    def close(self) -> None:
        """Wait up to one second for the reading in progress, and disconnect."""
        self._thread.close(_PATIENCE_SECONDS)
        self._store.close()

    def _tallies(self) -> Mapping[bytes, FeedbackCells]:
        first = int(time.time()) // 60 - self._minutes
        try:
            found = {
                model.fingerprint: FeedbackCells(
                    self._store.tally(model.fingerprint.hex(), None),
                    self._store.tally(model.fingerprint.hex(), first),
                )
                for model in self._models()
            }
        except StoreError as error:
            if not self._failing:
                log.warning(
                    "the feedback store cannot be read; /metrics and /drift leave feedback out until it can: %s", error
                )
            self._failing = True
            return {}
        if self._failing:
            log.info("the feedback store can be read again")
        self._failing = False
        return found


def correct(cells: Sequence[Cell]) -> int:
    """The number of correct predictions."""
    return sum(cell.count for cell in cells if cell.actual == cell.predicted)


def rolling(cells: Sequence[Cell], model: MonitoredModel) -> Score:
    """Accuracy, or mean absolute error for a regression, compared with the model's score on its test part."""
    count = sum(cell.count for cell in cells)
    if model.class_names:
        return verdict.accuracy(count, correct(cells), model.reference.test_scores.get("accuracy"))
    absolute, squared = sum(cell.absolute for cell in cells), sum(cell.squared for cell in cells)
    return verdict.mean_absolute_error(count, absolute, squared, model.reference.test_scores.get("mae"))
