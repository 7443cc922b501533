"""Locks between processes, each on a file in the folder that it guards.

`flock` on the folder itself fails on network file systems, which allow an exclusive lock only on a file that is open
for writing. The operating system releases a lock when its process ends, however it ends.
"""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

LOCK = "lock"
"""The file that is locked; nothing is ever written to it."""


@contextmanager
def alone_in(folder: Path) -> Iterator[None]:
    """Wait until no other process holds `folder`, and hold it while the block runs; OSError where it is not there."""
    descriptor = os.open(folder / LOCK, os.O_RDWR | os.O_CREAT, 0o644)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


class Lock:
    """A lock on a folder that lasts until `release`, or until the process ends; the folder is made where needed."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._path = folder / LOCK
        self._descriptor: int | None = None

    @property
    def held(self) -> bool:
        """Whether this object holds the lock."""
        return self._descriptor is not None

    def taken(self) -> bool:
        """Try to take the lock, without waiting; whether that worked."""
        assert self._descriptor is None
        self._descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT, 0o644)
        try:
            fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            self.release()
            return False
        return True

    def release(self) -> None:
        """Give the lock back; a second call does nothing."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None
