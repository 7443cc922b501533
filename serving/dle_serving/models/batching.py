"""Gathers requests that arrive together into one run of the model.

A run costs nearly the same for one row as for a few dozen, so with many connections this is where the time goes.
Requests decoded in the same turn of the event loop are gathered without any waiting: nobody pays for it with latency.
Where a run takes long it is done in a thread, and what arrives meanwhile is gathered for the next one.
Rows are valid before they come here, so no request can spoil another's.
"""

import asyncio
from collections.abc import Callable, Sequence
from concurrent.futures import Executor

from dle_bundle.rows.decoder import Rows
from dle_serving.predictions import Predictions

Run = Callable[[Sequence[Rows]], Predictions]
_Waiting = list[tuple[Rows, "asyncio.Future[Predictions]"]]
_Outcomes = list[Predictions | Exception]

MOST_STEPS = 1 << 20
"""Series of a batch are padded to the longest: rows × steps are no more than this, unless one request has more."""


class Batcher:
    """Runs `run` over what has gathered, at most `most_rows` rows a time, for the event loop that submits.

    In that loop itself; with `threads` in one of these, one run at a time.
    """

    def __init__(self, run: Run, most_rows: int, threads: Executor | None = None) -> None:
        self._run = run
        self._most_rows = most_rows
        self._threads = threads
        self._waiting: _Waiting = []
        self._is_due = False

    def submit(self, rows: Rows) -> "asyncio.Future[Predictions]":
        """The answers to `rows` (at most `most_rows` of them), soon; must be called in the event loop's thread."""
        loop = asyncio.get_running_loop()
        future: asyncio.Future[Predictions] = loop.create_future()
        if not self._is_due:
            self._is_due = True
            # after the requests whose bytes have arrived already, which stand in the loop's queue before this
            loop.call_soon(self._flush)
        self._waiting.append((rows, future))
        return future

    def _flush(self) -> None:
        while self._waiting:
            batch = self._taken()
            parts = [rows for rows, _ in batch]
            if self._threads is not None:
                running = asyncio.get_running_loop().run_in_executor(self._threads, self._outcomes, parts)
                running.add_done_callback(lambda done, batch=batch: self._go_on(batch, done))  # type: ignore[misc]
                return
            _tell(batch, self._outcomes(parts))
        self._is_due = False

    def _go_on(self, batch: _Waiting, done: "asyncio.Future[_Outcomes]") -> None:
        if done.cancelled():  # the server ends
            for _, future in batch:
                future.cancel()
        else:
            _tell(batch, done.result())
        self._waiting = [(rows, future) for rows, future in self._waiting if not future.done()]  # some clients left
        self._flush()

    def _taken(self) -> _Waiting:
        """The first of those that wait, as many as go together; at least one."""
        rows, steps, count = 0, 1, 0
        for waiting, _ in self._waiting:
            rows, steps = rows + len(waiting), max(steps, waiting.steps)
            if count and (rows > self._most_rows or rows * steps > MOST_STEPS):
                break
            count += 1
        batch, self._waiting = self._waiting[:count], self._waiting[count:]
        return batch

    def _outcomes(self, parts: list[Rows]) -> _Outcomes:
        """For each part its answers, or why there are none."""
        try:
            answers = self._run(parts)
        except Exception as error:  # noqa: BLE001 - whatever it is, the request is told
            # among several it is one request's own, and the others are answered
            return [error] if len(parts) == 1 else [self._outcomes([part])[0] for part in parts]
        outcomes, start = _Outcomes(), 0
        for part in parts:
            outcomes.append(answers.take(slice(start, start + len(part))))
            start += len(part)
        return outcomes


def _tell(batch: _Waiting, outcomes: _Outcomes) -> None:
    for (_, future), outcome in zip(batch, outcomes, strict=True):
        if future.done():  # its client has gone
            continue
        if isinstance(outcome, Exception):
            future.set_exception(outcome)
        else:
            future.set_result(outcome)
