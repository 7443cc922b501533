"""Locks between processes, held by `flock` on a lock file in the folder that they guard.

`flock` on the folder itself fails on network file systems, which allow an exclusive lock only on a file that is open
for writing. The operating system releases a lock when its process ends, however it ends.
"""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

LOCK = "lock"
"""The file that `Lock` holds. It stays empty."""
_BLOCK_LOCK = ".lock"
"""The file that `alone_in` holds: hidden, since the folder may be a user's own. It stays empty."""


@contextmanager
def alone_in(folder: Path) -> Iterator[None]:
    """Hold `folder` while the block runs, after waiting until no other process is inside such a block.

    Raises OSError when `folder` does not exist or cannot be written to. A `Lock` on the same folder is independent.
    """
    descriptor = _open(folder / _BLOCK_LOCK)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


class Lock:
    """A lock on a folder that lasts until `release`, or until the process ends.

    The folder is made where needed, for its owner alone.
    """

    def __init__(self, folder: Path) -> None:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._path = folder / LOCK
        self._descriptor: int | None = None

    @property
    def held(self) -> bool:
        """Whether this object holds the lock."""
        return self._descriptor is not None

    def acquire(self) -> bool:
        """Take the lock and return True, or return False at once when another process holds it."""
        assert self._descriptor is None
        self._descriptor = _open(self._path)
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


def _open(path: Path) -> int:
    return os.open(path, os.O_RDWR | os.O_CREAT, 0o666)  # the umask decides who else may take the lock
