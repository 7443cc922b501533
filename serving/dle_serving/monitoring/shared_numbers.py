"""Numbers that all workers of a server write and each can read, in memory-mapped files.

Each worker has a file of its own and writes without asking anybody; whoever reads puts the files together. What was
written survives the worker, however it ends: the kernel holds the pages, and the worker that replaces it goes on with
the same file.
"""

import fcntl
import mmap
import os
from pathlib import Path

import numpy as np
import numpy.typing as npt

Matrix = npt.NDArray[np.float64]


class SharedMatrix:
    """A matrix (rows, columns) of float64 of each worker, all 0 at first; `own` is the one of this process.

    `name` says what the columns mean: processes share what has the same folder, name and shape.
    """

    def __init__(self, folder: Path, name: str, rows: int, columns: int) -> None:
        """Take the first file that no living worker has."""
        self._folder = folder
        self._shape = rows, columns
        self._bytes = rows * columns * 8
        self._pattern = f"{name}-{rows}x{columns}-*.shared"
        folder.mkdir(parents=True, exist_ok=True)
        self._file = self._claim()
        self._map = mmap.mmap(self._file, self._bytes)
        self.own: Matrix = np.frombuffer(self._map).reshape(self._shape)

    @property
    def cells(self) -> "memoryview[float]":
        """`own`, row after row: the quick way to single numbers."""
        return memoryview(self._map).cast("d")

    def all(self) -> list[Matrix]:
        """The matrices of all workers that ever were, to read."""
        return [self._read(path) for path in self._files()]

    def living(self) -> list[Matrix]:
        """Those of the workers that there are now."""
        return [self._read(path) for path in self._files() if _held(path)]

    def close(self) -> None:
        """Leave the file to the next worker."""
        fcntl.flock(self._file, fcntl.LOCK_UN)  # the map keeps a descriptor of its own, and with it the lock
        os.close(self._file)

    def _files(self) -> list[Path]:
        # of another length is one that is just being made
        return [path for path in self._folder.glob(self._pattern) if path.stat().st_size == self._bytes]

    def _read(self, path: Path) -> Matrix:
        return np.memmap(path, np.float64, "r", shape=self._shape)

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


def _held(path: Path) -> bool:
    """Whether a living worker has the file."""
    with path.open() as file:
        try:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False
