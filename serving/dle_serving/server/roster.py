"""Which workers of a server are ready: a file each in the server's directory.

Connections go to any worker, so the server as a whole is ready only when all of its workers are. Once it was, a
worker that is replaced does not take the others out of service.
"""

import os
import shutil
from pathlib import Path

from dle_serving.server.processes import alive


class Roster:
    """The roll of one server's `workers` processes; `reset` it before they start."""

    def __init__(self, home: Path, workers: int) -> None:
        self._folder = home / "run"
        self._workers = workers
        self._complete = False
        self._marker = self._folder / "complete"

    def reset(self) -> None:
        """Forget the workers of an earlier run."""
        shutil.rmtree(self._folder, ignore_errors=True)
        self._folder.mkdir(parents=True)

    def sign(self) -> None:
        """Put down that the process that calls is ready."""
        self._folder.mkdir(parents=True, exist_ok=True)
        (self._folder / str(os.getpid())).touch()
        self.missing()

    def missing(self) -> int:
        """How many workers are yet to sign; 0 ever after it was 0 once."""
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
        """Whether the server was complete before, so that a process that starts takes the place of one that died."""
        return self._marker.exists()
