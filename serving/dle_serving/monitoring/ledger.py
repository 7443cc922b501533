"""Sums that all workers of a server add to, ever and by the minute, in memory-mapped files.

Each worker has a file of its own and writes without a lock; whoever reads adds the files up. What was added survives
the worker, however it ends: the kernel holds the pages, and the worker that replaces it goes on with the same file.
"""

import fcntl
import mmap
import os
from pathlib import Path

import numpy as np

from dle_bundle.counting import Sums

_MINUTE = 60


class Ledger:
    """`size` sums of one model over the `minutes` last minutes and ever.

    A file is a matrix (1 + slots, 1 + size) of float64. Row 0 holds the sums ever; each other row is one minute's,
    whose number since 1970 stands in column 0 and which is used again once it lies outside every window.
    """

    def __init__(self, folder: Path, size: int, minutes: int) -> None:
        """Take the first file in `folder` that no living worker has."""
        self._folder = folder
        self._minutes = minutes
        self._shape = (minutes + 2, size + 1)  # one minute more than the window: the one that is being cleared
        self._bytes = self._shape[0] * self._shape[1] * 8
        self._pattern = f"{size}x{minutes}-*.sums"  # files of another shape count other bins or another window
        folder.mkdir(parents=True, exist_ok=True)
        self._file = self._claim()
        self._own = np.frombuffer(mmap.mmap(self._file, 0)).reshape(self._shape)

    def add(self, sums: Sums, now: float) -> None:
        """Add `sums` (size,) at the time `now`, in seconds since 1970. One thread at a time."""
        minute = int(now) // _MINUTE
        row = self._own[1 + minute % (self._shape[0] - 1)]
        if row[0] != minute:
            row[:] = 0
            row[0] = minute  # last: a reader takes the row from here on
        row[1:] += sums
        self._own[0, 1:] += sums

    def ever(self) -> Sums:
        """The sums (size,) of all workers since the folder was new."""
        found = np.zeros(self._shape[1] - 1)
        for matrix in self._all():
            found += matrix[0, 1:]
        return found

    def window(self, now: float) -> Sums:
        """The sums (size,) of all workers in the minute of `now` and the `minutes` − 1 before it."""
        minute = int(now) // _MINUTE
        found = np.zeros(self._shape[1] - 1)
        for matrix in self._all():
            times = matrix[1:, 0]
            found += matrix[1:, 1:][(times > minute - self._minutes) & (times <= minute)].sum(axis=0)
        return found

    def close(self) -> None:
        """Leave the file to the next worker."""
        fcntl.flock(self._file, fcntl.LOCK_UN)  # the map keeps a descriptor of its own, and with it the lock
        os.close(self._file)

    def _all(self) -> list[Sums]:
        return [
            np.memmap(path, np.float64, "r", shape=self._shape)
            for path in self._folder.glob(self._pattern)
            if path.stat().st_size == self._bytes  # another is just being made
        ]

    def _claim(self) -> int:
        index = 0
        while True:
            file = os.open(self._folder / self._pattern.replace("*", str(index)), os.O_RDWR | os.O_CREAT, 0o600)
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                os.close(file)
                index += 1
                continue
            if os.fstat(file).st_size != self._bytes:
                # written out now, for on a full disk a write to a hole in a mapped file ends the process
                os.pwrite(file, bytes(self._bytes), 0)
            return file
