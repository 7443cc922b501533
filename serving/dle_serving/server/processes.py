"""Operating system calls for processes; outside Linux, with fewer guarantees."""

import ctypes
import gc
import os
import signal
import sys
from pathlib import Path

_PR_SET_PDEATHSIG = 1
_THRESHOLDS = (50_000, 20, 100)
_SWITCH_SECONDS = 0.0001
"""How long a thread keeps Python's global lock while others want it. The event loop wants it again after every system
call, so with the usual 5 ms the threads that decode and predict large requests would hold up all connections."""


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

    Threads then also pass Python's global lock on sooner.
    Call it when everything is loaded that lives as long as the process.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(*_THRESHOLDS)
    sys.setswitchinterval(_SWITCH_SECONDS)
