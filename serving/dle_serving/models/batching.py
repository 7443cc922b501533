"""Batches concurrent requests into one model run.

One row takes nearly as long as a few dozen, so batching determines the throughput with many connections. Requests that
are decoded in the same iteration of the event loop are batched without waiting, so batching adds no latency. A slow
model runs in a thread, and requests that arrive meanwhile form the next batch.
"""

import asyncio
from collections.abc import Callable, Sequence
from concurrent.futures import Executor

from dle_bundle.rows.decoder import DecodedRows
from dle_serving.predictions import Predictions

Run = Callable[[Sequence[DecodedRows]], Predictions]
_Waiting = list[tuple[DecodedRows, "asyncio.Future[Predictions]"]]
_Outcomes = list[Predictions | Exception]

MOST_STEPS = 1 << 20
"""Limit on rows × steps of a batch, since series are padded to the longest one; a single request may exceed it."""


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
    gets the exception. A request whose client left is dropped from the queue.
    """

    def __init__(self, run: Run, most_rows: int, threads: Executor | None = None) -> None:
        self._run = run
        self._most_rows = most_rows
        self._threads = threads
        self._waiting: _Waiting = []
        self._is_due = False

    def submit(self, rows: DecodedRows) -> "asyncio.Future[Predictions]":
        """Queue `rows`, at most `most_rows` of them, and return the future of their predictions."""
        loop = asyncio.get_running_loop()
        future: asyncio.Future[Predictions] = loop.create_future()
        if not self._is_due:
            self._is_due = True
            # the loop first handles the requests whose bytes have already arrived
            loop.call_soon(self._flush)
        self._waiting.append((rows, future))
        return future

    def _flush(self) -> None:
        while self._waiting:
            batch = self._next_batch()
            parts = [rows for rows, _ in batch]
            if self._threads is not None:
                running = asyncio.get_running_loop().run_in_executor(self._threads, self._outcomes, parts)
                running.add_done_callback(lambda done, batch=batch: self._finish(batch, done))  # type: ignore[misc]
                return
            _deliver(batch, self._outcomes(parts))
        self._is_due = False

    def _finish(self, batch: _Waiting, done: "asyncio.Future[_Outcomes]") -> None:
        if done.cancelled():  # the server is shutting down
            for _, future in batch:
                future.cancel()
        else:
            _deliver(batch, done.result())
        self._waiting = [
            (rows, future) for rows, future in self._waiting if not future.done()
        ]  # drop clients that left
        self._flush()

    def _next_batch(self) -> _Waiting:
        """Remove the first waiting requests that fit into one batch, at least one, from the queue."""
        rows, steps, count = 0, 1, 0
        for waiting, _ in self._waiting:
            rows, steps = rows + len(waiting), max(steps, waiting.steps)
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


def _deliver(batch: _Waiting, outcomes: _Outcomes) -> None:
    for (_, future), outcome in zip(batch, outcomes, strict=True):
        if future.done():  # its client left
            continue
        if isinstance(outcome, Exception):
            future.set_exception(outcome)
        else:
            future.set_result(outcome)
