"""Commands that have stopped at a given step of a training: tests kill, interrupt and resume them there."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import psutil
from tests import commands
from tests.e2e.servers import DEADLINE, eventually

PROGRAM = Path(__file__).with_name("stopping_command.py")


class Paused:
    """A command that has stopped: `process` is the command, `stopped` the process that trains, maybe the same one."""

    def __init__(self, place: str, *command: object, folder: Path, epochs: int = 2, steps: int = 3) -> None:
        self.process = subprocess.Popen(
            [sys.executable, PROGRAM, *commands.quick(*map(str, command))],
            cwd=folder, env={**os.environ, "PAUSE_AT": f"{place}:{epochs}:{steps}"},
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip
        self.stopped: psutil.Process = eventually(self._stopped)

    def _stopped(self) -> psutil.Process | None:
        assert self.process.poll() is None, self.process.communicate()
        command = psutil.Process(self.process.pid)
        everyone = [command, *command.children(recursive=True)]
        return next((each for each in everyone if each.status() == psutil.STATUS_STOPPED), None)

    def kill(self) -> None:
        """Kill the command where it stands; a worker of it goes on."""
        self.process.kill()
        if self.stopped.pid != self.process.pid:
            self.stopped.resume()
        self.process.communicate(timeout=DEADLINE)

    def interrupt(self) -> tuple[int, str]:
        """Ctrl-C where it stands; the exit code, and what was said."""
        self.process.send_signal(signal.SIGINT)
        if self.stopped.pid != self.process.pid:  # it hears of it through the command
            eventually(lambda: _pending(self.stopped.pid, signal.SIGTERM))
        self.stopped.resume()
        _, said = self.process.communicate(timeout=DEADLINE)
        return self.process.returncode, said


def _pending(pid: int, number: signal.Signals) -> bool:
    """Whether the signal waits for the process to go on."""
    status = dict(line.split(":\t", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines())
    return bool(int(status["ShdPnd"], 16) >> (number - 1) & 1)
