"""Batches concurrent requests into one model run.

One row takes nearly as long as a few dozen, so batching determines the throughput with many connections. Requests that
are decoded in the same iteration of the event loop are batched without waiting, so batching adds no latency. A slow
model runs in a thread, and requests that arrive meanwhile form the next batch.
"""

import asyncio
import logging
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass
from itertools import chain

from dle_bundle.rows.decoder import DecodedRows
from dle_serving.errors import NotReady

log = logging.getLogger(__name__)

Outcome = bytes | Exception
"""The response body of one request, or why there is none."""

MOST_STEPS = 1 << 20
"""Limit on rows × steps of a batch, since series are padded to the longest one; a single request may exceed it."""


@dataclass(frozen=True, slots=True)
class Share:
    """One request's share of the rows that are submitted together: the next `rows` of them.

    `answer` takes the outcome; `given_up` returns why the client does not wait any more, None while it does.
    """

    rows: int
    with_ids: bool
    answer: Callable[[Outcome], None]
    given_up: Callable[[], Exception | None] = lambda: None


Run = Callable[[Sequence[DecodedRows], Sequence[int], Sequence[bool]], list[bytes]]
"""Predicts the rows of all parts, and returns a response body for each request: for so many rows, with ids or not."""


@dataclass(frozen=True, slots=True)
class _Waiting:
    """Rows that were decoded together, whose they are, and since when they wait (seconds of `time.perf_counter`)."""

    rows: DecodedRows
    shares: Sequence[Share]
    begun: float

    def apart(self) -> list["_Waiting"]:
        """Each share with its own rows."""
        found, start = [], 0
        for share in self.shares:
            found.append(_Waiting(self.rows.take(slice(start, start + share.rows)), [share], self.begun))
            start += share.rows
        return found


class Batcher:
    """Calls `run` with the rows that waiting requests have submitted, at most `most_rows` at a time.

    Threads
    -------
    `submit` is called in the thread of one event loop. `run` is called in that thread, or in one of `threads`; never
    twice at the same time. The shares are answered in the event loop's thread.

    Ownership
    ---------
    The caller owns `threads` and shuts them down; requests that still wait then get NotReady. Rows are
    validated before they are submitted, and the batcher does not change them.

    Failures
    --------
    When `run` fails for a batch of several requests, it is called again for each of them, so only the request at fault
    gets the exception. A request that waits in vain is removed from the queue. When the batcher itself fails, such as
    after the end of `threads`, all waiting requests get the exception, and the next request starts anew.
    """

    def __init__(
        self,
        run: Run,
        most_rows: int,
        threads: Executor | None = None,
        takes_long: Callable[[int], bool] = lambda rows: True,
        waited: Callable[[float, int], None] = lambda seconds, requests: None,
    ) -> None:
        """Make an empty batcher.

        `takes_long` says whether a run with so many rows is done in one of `threads`; `waited` takes the seconds for
        which a number of requests have waited when their batch begins.
        """
        self._run = run
        self._most_rows = most_rows
        self._threads = threads
        self._takes_long = takes_long
        self._waited = waited
        self._waiting: list[_Waiting] = []
        self._is_due = False

    def submit(self, rows: DecodedRows, shares: Sequence[Share], begun: float) -> None:
        """Queue `rows`, at most `most_rows` of them; each share is answered when its rows have been predicted.

        `begun` is when the requests began to wait, in seconds of `time.perf_counter`.
        """
        if not self._is_due:
            self._is_due = True
            # the loop first handles the requests whose bytes have already arrived
            asyncio.get_running_loop().call_soon(self._flush)
        self._waiting.append(_Waiting(rows, shares, begun))

    def predict(
        self, rows: DecodedRows, *, with_ids: bool, given_up: Callable[[], Exception | None] = lambda: None
    ) -> "asyncio.Future[bytes]":
        """Queue the rows of one request, and return the future of its response body.

        `given_up` is as in `Share`; a future that was cancelled is not waited for either.
        """
        future: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()

        def answer(outcome: Outcome) -> None:
            if future.done():  # its client left
                return
            if isinstance(outcome, Exception):
                future.set_exception(outcome)
            else:
                future.set_result(outcome)

        def has_left() -> Exception | None:
            return RuntimeError("the future was cancelled") if future.cancelled() else given_up()

        share = Share(len(rows), with_ids, answer, has_left)
        self.submit(rows, [share], time.perf_counter())
        return future

    def _flush(self) -> None:
        batch: list[_Waiting] = []
        try:
            while self._waiting:
                batch = self._next_batch()
                now = time.perf_counter()
                for each in batch:
                    self._waited(now - each.begun, len(each.shares))
                if self._threads is not None and self._takes_long(sum(len(each.rows) for each in batch)):
                    running = asyncio.get_running_loop().run_in_executor(self._threads, self._outcomes, batch)
                    running.add_done_callback(lambda done, batch=batch: self._finish(batch, done))  # type: ignore[misc]
                    return
                _deliver(batch, self._outcomes(batch))
        except Exception as error:
            self._fail(batch, error)
            raise
        self._is_due = False

    def _finish(self, batch: list[_Waiting], done: "asyncio.Future[list[Outcome]]") -> None:
        if done.cancelled():  # the server is shutting down
            self._fail(batch, NotReady("the server is shutting down", retry_after=1))
            return
        try:
            _deliver(batch, done.result())
            self._waiting = list(_wanted(self._waiting))
        except Exception as error:
            self._fail(batch, error)
            raise
        self._flush()

    def _fail(self, batch: list[_Waiting], error: Exception) -> None:
        """Let all requests of the batch and of the queue fail, so that none waits for ever."""
        failed = [*batch, *self._waiting]
        self._waiting, self._is_due = [], False
        _deliver(failed, [error] * len(_shares(failed)))

    def _next_batch(self) -> list[_Waiting]:
        """Remove the first waiting rows that fit into one batch, at least one request's, from the queue."""
        rows, steps, count = 0, 1, 0
        for waiting in self._waiting:
            rows, steps = rows + len(waiting.rows), max(steps, waiting.rows.steps)
            if count and (rows > self._most_rows or rows * steps > MOST_STEPS):
                break
            count += 1
        batch, self._waiting = self._waiting[:count], self._waiting[count:]
        return batch

    def _outcomes(self, batch: Sequence[_Waiting]) -> list[Outcome]:
        """The response body, or the exception, for each share of the batch."""
        shares = _shares(batch)
        try:
            parts, sizes = [each.rows for each in batch], [share.rows for share in shares]
            bodies = self._run(parts, sizes, [share.with_ids for share in shares])
            return [body for _, body in zip(shares, bodies, strict=True)]
        except Exception as error:  # noqa: BLE001 - passed on to the request
            if len(shares) == 1:
                return [error]
            # one request may be at fault: the others still get their predictions
            return [self._outcomes([part])[0] for each in batch for part in each.apart()]


def _wanted(queue: Iterable[_Waiting]) -> Iterator[_Waiting]:
    """The queue without the requests whose clients do not wait any more; these are answered."""
    for waiting in queue:
        errors = [share.given_up() for share in waiting.shares]
        if not any(errors):
            yield waiting
            continue
        for part, error in zip(waiting.apart(), errors, strict=True):
            if error is None:
                yield part
            else:
                _answer(part.shares[0], error)


def _shares(batch: Iterable[_Waiting]) -> list[Share]:
    return list(chain.from_iterable(each.shares for each in batch))


def _deliver(batch: Iterable[_Waiting], outcomes: Sequence[Outcome]) -> None:
    for share, outcome in zip(_shares(batch), outcomes, strict=True):
        _answer(share, outcome)


def _answer(share: Share, outcome: Outcome) -> None:
    """Answer one request; what goes wrong there harms no other."""
    try:
        share.answer(outcome)
    except Exception:
        log.exception("a response cannot be delivered")
