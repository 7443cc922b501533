"""Numbers that the workers of a server share through memory-mapped files."""

import fcntl
import mmap
import os
from pathlib import Path

import numpy as np
import numpy.typing as npt

Matrix = npt.NDArray[np.float64]


class SharedMatrix:
    """One float64 matrix (rows, columns) per worker, initially 0; `own` is the matrix of this process.

    Matrices with the same folder, name and shape belong together; `name` identifies the meaning of the columns.

    Ownership
    ---------
    Each worker holds the `flock` of one file and alone writes to it, without further locking; threads of one worker
    need a lock of their own. Every worker reads the files of all workers and adds them up. A reader may see a row half
    updated.

    Failures
    --------
    Numbers survive the death of their worker, since the kernel keeps the mapped pages; the worker that replaces it
    takes over the file and continues with its numbers. They do not survive a power failure unless the kernel has
    written them to disk.
    """

    def __init__(self, folder: Path, name: str, rows: int, columns: int) -> None:
        """Take over the first file that no running worker holds, or create one."""
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
        """`own`, row by row: the fastest access to single numbers."""
        return self.own.data.cast("B").cast("d")

    def all(self) -> list[Matrix]:
        """The matrices of all workers, past and present; read-only."""
        return [self._read(path) for path in self._files()]

    def running(self) -> list[Matrix]:
        """The matrices of the workers that run now; read-only."""
        return [self._read(path) for path in self._files() if _held(path)]

    def close(self) -> None:
        """Release the file for the next worker, as soon as nobody holds its `cells`; `own` and new cells are a copy.

        The map keeps a duplicate of the descriptor, and with it the lock, so that late writes never reach a successor.
        """
        self.own = self.own.copy()
        del self._map
        os.close(self._file)

    def _files(self) -> list[Path]:
        # a file of another size is still being created
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
                # allocate it now: on a full disk, writing to a hole of a mapped file kills the process
                _fill(file, self._bytes)
            return file


def _fill(file: int, size: int) -> None:
    """Write `size` zeros; raises OSError on a full disk."""
    written = 0
    while written < size:
        written += os.pwrite(file, bytes(size - written), written)


def _held(path: Path) -> bool:
    """Whether a running worker holds the file."""
    with path.open() as file:
        try:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False
