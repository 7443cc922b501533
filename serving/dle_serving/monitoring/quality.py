"""How good the answers turned out to be, by the feedback that this server has accepted.

Sums are read from the store, where they are committed together with what they count. A store that is slow or away must
not take /metrics with it: reading has a second, and then there are no sums. Old ones would not do: each worker would
tell its own, and a counter that goes down is taken for one that began again.
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
    """Cells of one model, ever and of the window."""

    total: Sequence[Cell]
    window: Sequence[Cell]


class Quality:
    """Reads the store for /metrics and /drift."""

    def __init__(self, store: Store, models: ListModels, window: int) -> None:
        """`store`: for these readings alone, for whoever shares one with the writer waits for long transactions.

        `window` in seconds, whole minutes.
        """
        self._store = store
        self._models = models
        self._minutes = window // 60
        self._thread = SideThread("quality")
        self._reading: Future[Mapping[bytes, FeedbackCells]] | None = None
        self._began = 0.0
        self._failing = False

    def read(self) -> Mapping[bytes, FeedbackCells]:
        """What is known of each model, by fingerprint; of none while the store cannot be read.

        Waits, so it is not for the event loop.
        """
        reading = self._reading
        if reading is None or reading.done():
            reading = self._reading = self._thread.submit(self._tallies)
            self._began = time.monotonic()
        elif time.monotonic() - self._began > DEADLINE_SECONDS:
            self._store.abandon()
        wait([reading], _PATIENCE_SECONDS)
        return reading.result() if reading.done() else {}

    def close(self) -> None:
        """Wait for what is being read, but not for long, and disconnect."""
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
                log.warning("feedback is left out of /metrics and /drift until its store can be reached: %s", error)
            self._failing = True
            return {}
        if self._failing:
            log.info("the feedback store can be read again")
        self._failing = False
        return found


def correct(cells: Sequence[Cell]) -> int:
    """How many answers were right."""
    return sum(cell.count for cell in cells if cell.actual == cell.predicted)


def rolling(cells: Sequence[Cell], model: MonitoredModel) -> Score:
    """Accuracy, or mean absolute error of a regression, beside the bundle's on its test part."""
    count = sum(cell.count for cell in cells)
    if model.class_names:
        return verdict.accuracy(count, correct(cells), model.reference.test_scores.get("accuracy"))
    absolute, squared = sum(cell.absolute for cell in cells), sum(cell.squared for cell in cells)
    return verdict.mean_absolute_error(count, absolute, squared, model.reference.test_scores.get("mae"))
