"""Records which workers of a server answer, as one file per worker in the server's directory.

Connections go to any worker, so the server becomes ready when all its workers are. It then stays ready: replacing a
worker does not take the others out of service.

A worker that has loaded its models beats: its event loop writes the time into its file, again and again. A loop that
hangs no longer beats, although its process lives. The files are mapped, so that a beat never waits for the disk.
"""

import asyncio
import logging
import mmap
import os
import shutil
import struct
import time
from contextlib import suppress
from pathlib import Path

from dle_serving.server.processes import alive

log = logging.getLogger(__name__)
_BEAT_SECONDS = 0.5
_ANSWERS_SECONDS = 5.0
"""A worker counts as answering this long after a beat: a loop that is busy for a moment does not hang."""
_TIME = struct.Struct("d")


class Roster:
    """The workers of one server with `workers` processes; call `reset` before they start.

    Threads
    -------
    `sign`, `beat` and `keep_beating` belong to the worker's event loop; any process and thread may call the rest.

    Failures
    --------
    `reset` and `sign` raise OSError, for instance on a full disk. The rest raises nothing: a mark that cannot be made
    is logged, and the server goes on without it.
    """

    def __init__(self, home: Path, workers: int) -> None:
        self._folder = home / "run"
        self._workers = workers
        self._complete = False
        self._marker = self._folder / "complete"
        self._stopping = self._folder / "stopping"
        self._own: mmap.mmap | None = None

    def reset(self) -> None:
        """Remove the workers of an earlier run."""
        shutil.rmtree(self._folder, ignore_errors=True)
        self._folder.mkdir(parents=True)

    def sign(self) -> None:
        """Record that the calling process is ready."""
        self._folder.mkdir(parents=True, exist_ok=True)
        path = self._folder / str(os.getpid())
        hidden = path.with_name(f".{path.name}")  # seen only with a time in it
        hidden.write_bytes(_TIME.pack(time.monotonic()))
        with hidden.open("r+b") as file:
            self._own = mmap.mmap(file.fileno(), _TIME.size)
        hidden.rename(path)
        self.missing()

    def beat(self) -> None:
        """Record that the event loop of the calling process runs; nothing before `sign`."""
        if self._own is not None:
            _TIME.pack_into(self._own, 0, time.monotonic())

    async def keep_beating(self) -> None:
        """Beat until cancelled."""
        while True:
            self.beat()
            await asyncio.sleep(_BEAT_SECONDS)

    def last_beat(self, pid: int) -> float | None:
        """When the worker `pid` beat last, by `time.monotonic`, which all processes share; None before it signed."""
        try:
            (found,) = _TIME.unpack((self._folder / str(pid)).read_bytes())
        except (OSError, struct.error):
            return None
        return float(found)

    def forget(self, pid: int) -> None:
        """Remove the worker `pid`, which has ended: a later process may have its number."""
        with suppress(OSError):
            (self._folder / str(pid)).unlink()

    def answering(self) -> int:
        """The number of workers that answer now: signed, alive, and with a beat not long ago."""
        since = time.monotonic() - _ANSWERS_SECONDS
        return sum(pid == os.getpid() or (self.last_beat(pid) or 0.0) > since for pid in self._signed())

    def missing(self) -> int:
        """The number of workers that have not signed yet; stays 0 once it was 0."""
        if self._complete:
            return 0
        if not self.replaces():
            signed = len(self._signed())
            if signed < self._workers:
                return self._workers - signed
            _mark(self._marker)
        self._complete = True
        return 0

    def replaces(self) -> bool:
        """Whether all workers were ready before, so that a starting process replaces one that died."""
        return self._marker.exists()

    def stop(self) -> None:
        """Record that the server is to end: it is no longer ready."""
        _mark(self._stopping)

    def stopping(self) -> bool:
        """Whether the server is to end."""
        return self._stopping.exists()

    def _signed(self) -> list[int]:
        try:
            names = [path.name for path in self._folder.iterdir()]
        except OSError:
            return []
        return [int(name) for name in names if name.isdigit() and alive(int(name))]


def _mark(path: Path) -> None:
    try:
        path.touch()
    except OSError as error:
        log.error("%s cannot be created: %s", path, error.strerror)
