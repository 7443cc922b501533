"""Bounds the work that waits, so that an overloaded server still answers as much as it can, and in time.

Without a bound, requests wait until their clients have left, and the server only computes what nobody receives.
"""

import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from types import TracebackType

from dle_serving.connection.limits import ClientDisconnected
from dle_serving.errors import HttpError, NotReady, TooLate
from dle_serving.monitoring.metrics import Metrics
from dle_serving.settings import ServerSettings

_FIXED_COST = 4096
"""What a request takes in addition to its body, in bytes of a body that take as long."""
_WINDOW_SECONDS = 0.1
"""The rate is measured over so many seconds of work, and averaged over about four such windows."""
_NEW_SHARE = 0.25
_MOST_RETRY_SECONDS = 60


def cost_of(size: int, requests: int = 1) -> int:
    """What requests with bodies of so many bytes in all cost."""
    return size + _FIXED_COST * requests


@dataclass(frozen=True, slots=True)
class Patience:
    """Until when the client of a request waits: `deadline` is in seconds of `time.perf_counter`."""

    deadline: float = math.inf
    is_there: Callable[[], bool] = lambda: True

    def given_up(self) -> HttpError | ClientDisconnected | None:
        """Why the work need not begin any more; None while the client waits."""
        if not self.is_there():
            return ClientDisconnected()
        if time.perf_counter() > self.deadline:
            return TooLate("the request waited longer than its timeout (X-Request-Timeout-Ms or DLE_REQUEST_TIMEOUT)")
        return None

    def check(self) -> None:
        """Raise what `given_up` returns."""
        error = self.given_up()
        if error is not None:
            raise error


class Admission:
    """Counts the bytes and rows of all requests that are received or wait, and refuses more than the bounds.

    Threads
    -------
    Everything is called in the event loop's thread.
    """

    def __init__(self, settings: ServerSettings, metrics: Metrics) -> None:
        self._most_bytes = settings.max_waiting_bytes
        self._most_rows = settings.max_waiting_rows
        self._most_seconds = settings.max_wait
        self._metrics = metrics
        self._bytes = self._rows = self._cost = 0
        self._rate = _Rate()

    def ticket(self) -> "Ticket":
        """The ticket of one request, or of several that wait together."""
        return Ticket(self)

    def take_bytes(self, size: int) -> None:
        """Count bytes of a body; raises NotReady if there are too many."""
        if self._bytes and self._bytes + size > self._most_bytes:
            raise self._overloaded("bytes", f"{self._most_bytes:,} bytes", "DLE_MAX_WAITING_BYTES")
        self._bytes += size

    def take_rows(self, rows: int) -> None:
        """Count rows; raises NotReady if there are too many."""
        if self._rows and self._rows + rows > self._most_rows:
            raise self._overloaded("rows", f"{self._most_rows:,} rows", "DLE_MAX_WAITING_ROWS")
        self._rows += rows
        self._metrics.queue_rows.inc(rows)

    def check_wait(self, cost: int) -> None:
        """Raise NotReady if work of this cost would have to wait too long."""
        if self._cost and self._seconds(cost) > self._most_seconds:
            raise self._overloaded("wait", f"{self._most_seconds} s of work", "DLE_MAX_WAIT")

    def take_cost(self, cost: int) -> None:
        """Begin to wait; raises NotReady if this would take too long."""
        self.check_wait(cost)
        if not self._cost:
            self._rate.resume()
        self._cost += cost

    def give_back(self, size: int, rows: int, cost: int) -> None:
        """Release what was taken."""
        self._bytes -= size
        self._rows -= rows
        if rows:
            self._metrics.queue_rows.inc(-rows)
        self._cost -= cost
        if cost:
            self._rate.add(cost)

    def _seconds(self, cost: int) -> float:
        """The time that all waiting work and `cost` more take, as far as it is known."""
        return (self._cost + cost) / self._rate.value if self._rate.value else 0.0

    def _overloaded(self, reason: str, bound: str, setting: str) -> NotReady:
        self._metrics.shed(reason)
        seconds = min(max(math.ceil(self._seconds(0)), 1), _MOST_RETRY_SECONDS)
        return NotReady(f"the server is overloaded: {bound} wait already ({setting})", retry_after=seconds)


class Ticket:
    """What one request, or a group that waits together, has taken of the bounds; a context manager that returns it."""

    def __init__(self, admission: Admission) -> None:
        self._admission = admission
        self._size = self._rows = self._cost = 0

    def take_bytes(self, size: int) -> None:
        """Take bytes of a body; raises NotReady if there are too many."""
        self._admission.take_bytes(size)
        self._size += size

    def take_rows(self, rows: int) -> None:
        """Take rows; raises NotReady if there are too many."""
        self._admission.take_rows(rows)
        self._rows += rows

    def wait(self, requests: int = 1) -> None:
        """Begin to wait, when all bytes have been taken; raises NotReady if this would take too long."""
        cost = cost_of(self._size, requests)
        self._admission.take_cost(cost)
        self._cost += cost

    def another(self) -> "Ticket":
        """A ticket of its own for a part of the group."""
        return Ticket(self._admission)

    def give_back(self) -> None:
        """Return everything."""
        self._admission.give_back(self._size, self._rows, self._cost)
        self._size = self._rows = self._cost = 0

    def __enter__(self) -> "Ticket":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.give_back()


class _Rate:
    """How much work is done per second of the time in which some waits; `value` is 0 until it is known."""

    def __init__(self) -> None:
        self.value = 0.0
        self._done = 0
        self._busy = 0.0
        self._since = 0.0

    def resume(self) -> None:
        """Work has arrived, where none was."""
        self._since = time.perf_counter()

    def add(self, cost: int) -> None:
        """So much is done."""
        now = time.perf_counter()
        self._busy += now - self._since
        self._since = now
        self._done += cost
        if self._busy >= _WINDOW_SECONDS:
            rate = self._done / self._busy
            self.value = rate if not self.value else self.value + _NEW_SHARE * (rate - self.value)
            self._done, self._busy = 0, 0.0
