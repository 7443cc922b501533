"""Records which workers of a server are ready, as one file per worker in the server's directory.

Connections go to any worker, so the server becomes ready when all its workers are. It then stays ready: replacing a
worker does not take the others out of service.
"""

import os
import shutil
from pathlib import Path

from dle_serving.server.processes import alive


class Roster:
    """The ready workers of one server with `workers` processes; call `reset` before they start."""

    def __init__(self, home: Path, workers: int) -> None:
        self._folder = home / "run"
        self._workers = workers
        self._complete = False
        self._marker = self._folder / "complete"

    def reset(self) -> None:
        """Remove the workers of an earlier run."""
        shutil.rmtree(self._folder, ignore_errors=True)
        self._folder.mkdir(parents=True)

    def sign(self) -> None:
        """Record that the calling process is ready."""
        self._folder.mkdir(parents=True, exist_ok=True)
        (self._folder / str(os.getpid())).touch()
        self.missing()

    def missing(self) -> int:
        """The number of workers that have not signed yet; stays 0 once it was 0."""
        if self._complete:
            return 0
        if not self.replaces():
            signed = sum(file.name.isdigit() and alive(int(file.name)) for file in self._folder.iterdir())
            if signed < self._workers:
                return self._workers - signed
            self._marker.touch()
        self._complete = True
        return 0

    def replaces(self) -> bool:
        """Whether all workers were ready before, so that a starting process replaces one that died."""
        return self._marker.exists()
