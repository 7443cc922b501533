"""Counts a model's inputs and predictions for drift, after the responses have been sent.

Each run of the model only appends its rows to a queue. Every 0.1 s the event loop counts the queued rows together, in
slices that are short enough for requests to run in between. Until then the rows stay in memory, images included; the
limits on requests bound how much that is.
"""

import math
import time
from collections import deque
from pathlib import Path

from dle_bundle.bundle import Bundle
from dle_bundle.drift.counting import BinCounter, BinCounts, Sums
from dle_bundle.groups import Groups
from dle_bundle.groups import concatenate as joined_groups
from dle_serving.monitoring.ledger import Ledger
from dle_serving.predictions import Predictions
from dle_serving.predictions import concatenate as joined_predictions

_SLICE_CELLS = 32_768
"""Rows × inputs counted per iteration of the event loop: a few milliseconds."""
_CELLS = {"image": 1 / 48, "sequence": 1 / 2, "known": 1 / 2, "tokens": 1 / 4}
"""Cost of one pixel, one step of a channel and one token (padding included), in units of one table input."""


class Observations:
    """The counts of one model, shared with the other workers of the server through files in `folder`.

    Threads
    -------
    `note` is safe in any thread. `count_some` and `close` are for the event loop's thread alone. `total` and `window`
    read files, so call them from other threads.

    Failures
    --------
    A worker that dies loses the rows that it has not counted yet: those of about 0.1 s. Counted rows survive, see
    `SharedMatrix`.
    """

    def __init__(self, bundle: Bundle, folder: Path, window: int) -> None:
        """`window` is in seconds, a multiple of 60."""
        self.seconds = window
        self._counter = BinCounter(bundle.reference, bundle.schema, bundle.tokenizer)
        self._ledger = Ledger(folder, self._counter.size, window // 60)
        self._inputs = max(len(bundle.reference.features), 1)
        self._noted: deque[tuple[Groups, Predictions]] = deque()

    def note(self, groups: Groups, predictions: Predictions) -> None:
        """Queue one run of the model, to be counted later."""
        self._noted.append((groups, predictions))

    def count_some(self) -> bool:
        """Count one slice of the queued rows; returns whether any are left."""
        taken: list[tuple[Groups, Predictions]] = []
        rows, widest = 0, 0.0
        while self._noted:
            groups, predictions = self._noted[0]
            widest = max(
                widest, self._cells(groups)
            )  # the widest run counts: series and tokens of a slice are padded to one length
            room = max(int(_SLICE_CELLS / widest), 1) - rows
            if room < 1:
                break
            self._noted.popleft()
            if len(groups) > room:
                self._noted.appendleft((groups.take(slice(room, None)), predictions.take(slice(room, None))))
                groups, predictions = groups.take(slice(room)), predictions.take(slice(room))
            taken.append((groups, predictions))
            rows += len(groups)
        if taken:
            groups = joined_groups([groups for groups, _ in taken])
            predictions = joined_predictions([predictions for _, predictions in taken])
            self._ledger.add(self._counter.count(groups) + self._count_predictions(predictions), time.time())
        return bool(self._noted)

    def total(self) -> BinCounts:
        """The counts of all workers since the folder was created."""
        return self._counter.read(self._ledger.total())

    def window(self, now: float) -> BinCounts:
        """The counts of all workers in the window that ends at `now`, in seconds since 1970."""
        return self._counter.read(self._ledger.window(now))

    def close(self) -> None:
        """Count the queued rows and release the files."""
        while self.count_some():
            pass
        self._ledger.close()

    def _cells(self, groups: Groups) -> float:
        """The cost of counting one row, in units of one table input."""
        cells = float(self._inputs)
        for name, each in _CELLS.items():
            array = getattr(groups, name)
            cells += 0 if array is None else each * math.prod(array.shape[1:])
        return cells

    def _count_predictions(self, predictions: Predictions) -> Sums:
        if predictions.values is not None:
            return self._counter.count_values(predictions.point_values)
        assert predictions.classes is not None
        return self._counter.count_classes(predictions.classes, predictions.confidences)
