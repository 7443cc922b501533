"""Operating system calls for processes; outside Linux, with fewer guarantees."""

import ctypes
import gc
import os
import signal
import sys
from pathlib import Path

_PR_SET_PDEATHSIG = 1
_THRESHOLDS = (50_000, 20, 100)


def alive(pid: int) -> bool:
    """Whether the process runs; a zombie does not."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return sys.platform != "linux"
    return state not in ("Z", "X")


def end_with_parent() -> None:
    """Make the kernel send SIGTERM to this process when its parent dies for any reason (Linux only)."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM, 0, 0, 0)


def settle() -> None:
    """Let garbage collection, which stops every request, run seldom and skip all objects that exist now.

    Call it when everything is loaded that lives as long as the process.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(*_THRESHOLDS)
