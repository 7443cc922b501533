"""Counts what a model sees and answers, after it has answered.

The event loop notes every run of the model, which costs an append; a few times a second all that was noted is counted
at once, in slices short enough for requests to get in between. Until then the rows themselves are kept, images and all:
those of a tenth of a second, and never more than what was answered meanwhile, which the limits of requests bound.
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
from dle_serving.predictions import concatenate as joined_answers

_SLICE_CELLS = 32_768
"""Rows × inputs that are counted in one turn of the event loop: a few milliseconds."""
_CELLS = {"image": 1 / 48, "sequence": 1 / 2, "tokens": 1 / 4}
"""What a pixel, a step of a channel, and a token take to be measured, as inputs of a table; padding counts."""


class Observations:
    """The counts of one model, shared with the other workers of the server through files in `folder`."""

    def __init__(self, bundle: Bundle, folder: Path, window: int) -> None:
        """`window` is in seconds, whole minutes."""
        self.seconds = window
        self._counter = BinCounter(bundle.reference, bundle.schema, bundle.tokenizer)
        self._ledger = Ledger(folder, self._counter.size, window // 60)
        self._inputs = max(len(bundle.reference.features), 1)
        self._noted: deque[tuple[Groups, Predictions]] = deque()

    def note(self, groups: Groups, answers: Predictions) -> None:
        """A run of the model, to be counted later. Safe in any thread."""
        self._noted.append((groups, answers))

    def count_some(self) -> bool:
        """Count some of the rows noted; whether any are left. In one thread."""
        taken: list[tuple[Groups, Predictions]] = []
        rows, widest = 0, 0.0
        while self._noted:
            groups, answers = self._noted[0]
            widest = max(widest, self._cells(groups))  # of all: series and tokens are padded to one length
            room = max(int(_SLICE_CELLS / widest), 1) - rows
            if room < 1:
                break
            self._noted.popleft()
            if len(groups) > room:
                self._noted.appendleft((groups.take(slice(room, None)), answers.take(slice(room, None))))
                groups, answers = groups.take(slice(room)), answers.take(slice(room))
            taken.append((groups, answers))
            rows += len(groups)
        if taken:
            groups = joined_groups([groups for groups, _ in taken])
            answers = joined_answers([answers for _, answers in taken])
            self._ledger.add(self._counter.count(groups) + self._count_answers(answers), time.time())
        return bool(self._noted)

    def total(self) -> BinCounts:
        """All counts of all workers."""
        return self._counter.read(self._ledger.total())

    def window(self, now: float) -> BinCounts:
        """Those of the window that ends at `now`."""
        return self._counter.read(self._ledger.window(now))

    def close(self) -> None:
        """Count what is left and leave the files to others."""
        while self.count_some():
            pass
        self._ledger.close()

    def _cells(self, groups: Groups) -> float:
        """What a row takes to be counted, in inputs of a table."""
        cells = float(self._inputs)
        for name, each in _CELLS.items():
            array = getattr(groups, name)
            cells += 0 if array is None else each * math.prod(array.shape[1:])
        return cells

    def _count_answers(self, answers: Predictions) -> Sums:
        if answers.values is not None:
            return self._counter.count_values(answers.summary)
        assert answers.classes is not None
        return self._counter.count_classes(answers.classes, answers.confidences)
