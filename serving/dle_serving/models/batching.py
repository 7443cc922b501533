"""Batches concurrent requests into one model run.

One row takes nearly as long as a few dozen, so batching determines the throughput with many connections. Requests that
are decoded in the same iteration of the event loop are batched without waiting, so batching adds no latency. A slow
model runs in a thread, and requests that arrive meanwhile form the next batch.
"""

import asyncio
import time
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass

from dle_bundle.rows.decoder import DecodedRows
from dle_serving.predictions import Predictions

Run = Callable[[Sequence[DecodedRows]], Predictions]
_Outcomes = list[Predictions | Exception]

MOST_STEPS = 1 << 20
"""Limit on rows × steps of a batch, since series are padded to the longest one; a single request may exceed it."""


@dataclass(frozen=True, slots=True)
class _Waiting:
    """The rows of a request that waits for a batch since `begun`, in seconds of `time.perf_counter`."""

    rows: DecodedRows
    future: "asyncio.Future[Predictions]"
    begun: float


class Batcher:
    """Calls `run` with the rows that waiting requests have submitted, at most `most_rows` at a time.

    Threads
    -------
    `submit` is called in the thread of one event loop. `run` is called in that thread, or in one of `threads`; never
    twice at the same time.

    Ownership
    ---------
    The caller owns `threads` and shuts them down; requests that still wait are then cancelled. Rows are validated
    before they are submitted, and the batcher does not change them.

    Failures
    --------
    When `run` fails for a batch of several requests, it is called again for each of them, so only the request at fault
    gets the exception. A request whose client left is dropped from the queue. When the batcher itself fails, such as
    after the end of `threads`, all waiting requests get the exception, and the next request starts anew.
    """

    def __init__(
        self,
        run: Run,
        most_rows: int,
        threads: Executor | None = None,
        waited: Callable[[float], None] = lambda seconds: None,
    ) -> None:
        """`waited` takes the seconds for which a request has waited when its batch begins."""
        self._run = run
        self._most_rows = most_rows
        self._threads = threads
        self._waited = waited
        self._waiting: list[_Waiting] = []
        self._is_due = False

    def submit(self, rows: DecodedRows) -> "asyncio.Future[Predictions]":
        """Queue `rows`, at most `most_rows` of them, and return the future of their predictions."""
        loop = asyncio.get_running_loop()
        future: asyncio.Future[Predictions] = loop.create_future()
        if not self._is_due:
            self._is_due = True
            # the loop first handles the requests whose bytes have already arrived
            loop.call_soon(self._flush)
        self._waiting.append(_Waiting(rows, future, time.perf_counter()))
        return future

    def _flush(self) -> None:
        batch: list[_Waiting] = []
        try:
            while self._waiting:
                batch = self._next_batch()
                now = time.perf_counter()
                for each in batch:
                    self._waited(now - each.begun)
                parts = [each.rows for each in batch]
                if self._threads is not None:
                    running = asyncio.get_running_loop().run_in_executor(self._threads, self._outcomes, parts)
                    running.add_done_callback(lambda done, batch=batch: self._finish(batch, done))  # type: ignore[misc]
                    return
                _deliver(batch, self._outcomes(parts))
        except Exception as error:
            self._fail(batch, error)
            raise
        self._is_due = False

    def _finish(self, batch: list[_Waiting], done: "asyncio.Future[_Outcomes]") -> None:
        if done.cancelled():  # the server is shutting down
            for each in batch:
                each.future.cancel()
        else:
            try:
                _deliver(batch, done.result())
            except Exception as error:
                self._fail(batch, error)
                raise
        self._waiting = [each for each in self._waiting if not each.future.done()]  # drop clients that left
        self._flush()

    def _fail(self, batch: list[_Waiting], error: Exception) -> None:
        """Let all requests of the batch and of the queue fail, so that none waits for ever."""
        failed = [*batch, *self._waiting]
        self._waiting, self._is_due = [], False
        _deliver(failed, [error] * len(failed))

    def _next_batch(self) -> list[_Waiting]:
        """Remove the first waiting requests that fit into one batch, at least one, from the queue."""
        rows, steps, count = 0, 1, 0
        for waiting in self._waiting:
            rows, steps = rows + len(waiting.rows), max(steps, waiting.rows.steps)
            if count and (rows > self._most_rows or rows * steps > MOST_STEPS):
                break
            count += 1
        batch, self._waiting = self._waiting[:count], self._waiting[count:]
        return batch

    def _outcomes(self, parts: list[DecodedRows]) -> _Outcomes:
        """The predictions, or the exception, for each part."""
        try:
            predictions = self._run(parts)
        except Exception as error:  # noqa: BLE001 - passed on to the request
            # one request may be at fault: the others still get their predictions
            return [error] if len(parts) == 1 else [self._outcomes([part])[0] for part in parts]
        outcomes, start = _Outcomes(), 0
        for part in parts:
            outcomes.append(predictions.take(slice(start, start + len(part))))
            start += len(part)
        return outcomes


def _deliver(batch: Iterable[_Waiting], outcomes: Iterable[Predictions | Exception]) -> None:
    for each, outcome in zip(batch, outcomes, strict=True):
        if each.future.done():  # its client left
            continue
        if isinstance(outcome, Exception):
            each.future.set_exception(outcome)
        else:
            each.future.set_result(outcome)
