"""Sums that all workers of a server add to: in total and per minute."""

from pathlib import Path

import numpy as np

from dle_bundle.drift.counting import Sums
from dle_serving.monitoring.shared_numbers import SharedMatrix

_MINUTE = 60


class Ledger:
    """`size` sums of one model, in total and for each of the last `minutes` minutes.

    Row 0 holds the totals. Each other row holds one minute, with its number since 1970 in column 0, and is reused when
    the minute has left the window. After the clock was set back, sums may be added to a later minute in the same row.
    `SharedMatrix` says who may write and what survives a crash.
    """

    def __init__(self, folder: Path, size: int, minutes: int) -> None:
        """The sums are kept in files in `folder`."""
        self._minutes = minutes
        self._rows = minutes + 2  # the current minute, the window, and one row that is being cleared
        self._size = size
        self._shared = SharedMatrix(folder, "sums", 1 + self._rows, 1 + size)

    def add(self, sums: Sums, now: float) -> None:
        """Add `sums` (size,) at the time `now`, in seconds since 1970. One thread at a time."""
        minute = int(now) // _MINUTE
        row = self._shared.own[1 + minute % self._rows]
        if row[0] < minute:  # a later one stays, though the clock was set back: nothing counted is lost
            row[:] = 0
            row[0] = minute  # last, since readers use the row from here on
        row[1:] += sums
        self._shared.own[0, 1:] += sums

    def total(self) -> Sums:
        """The sums (size,) of all workers since the folder was new."""
        found = np.zeros(self._size)
        for matrix in self._shared.all():
            found += matrix[0, 1:]
        return found

    def window(self, now: float) -> Sums:
        """The sums (size,) of all workers in the minute of `now` and the `minutes` before it."""
        minute = int(now) // _MINUTE
        found = np.zeros(self._size)
        for matrix in self._shared.all():
            times = matrix[1:, 0]
            found += matrix[1:, 1:][(times >= minute - self._minutes) & (times <= minute)].sum(axis=0)
        return found

    def close(self) -> None:
        """Release the file for the next worker."""
        self._shared.close()
