"""Gathers requests that arrive together into one run of the model.

A run costs nearly the same for one row as for a few dozen, so with many connections this is where the time goes.
Requests decoded in the same turn of the event loop are gathered without any waiting: nobody pays for it with latency.
Rows are valid before they come here, so no request can spoil another's.
"""

import asyncio
from collections.abc import Callable, Sequence

from dle_bundle.rows import Rows
from dle_serving.runtime import Answers

Run = Callable[[Sequence[Rows]], Answers]


class Batcher:
    """Runs `run` over what has gathered, at most `most_rows` rows a time, in the event loop that submits."""

    def __init__(self, run: Run, most_rows: int) -> None:
        self._run = run
        self._most_rows = most_rows
        self._waiting: list[tuple[Rows, asyncio.Future[Answers]]] = []

    def submit(self, rows: Rows) -> "asyncio.Future[Answers]":
        """The answers to `rows` (at most `most_rows` of them), soon; must be called in the event loop's thread."""
        loop = asyncio.get_running_loop()
        future: asyncio.Future[Answers] = loop.create_future()
        if not self._waiting:
            # after the requests whose bytes have arrived already, which stand in the loop's queue before this
            loop.call_soon(self._flush)
        self._waiting.append((rows, future))
        return future

    def _flush(self) -> None:
        waiting, self._waiting = self._waiting, []
        start = 0
        while start < len(waiting):
            end, rows = start, 0
            while end < len(waiting) and (end == start or rows + len(waiting[end][0]) <= self._most_rows):
                rows += len(waiting[end][0])
                end += 1
            self._answer(waiting[start:end])
            start = end

    def _answer(self, batch: list[tuple[Rows, asyncio.Future[Answers]]]) -> None:
        try:
            answers = self._run([rows for rows, _ in batch])
        except Exception as error:  # noqa: BLE001 - whatever it is, the request is told
            if len(batch) > 1:  # then it is one request's own, and the others are answered
                for single in batch:
                    self._answer([single])
            elif not batch[0][1].done():
                batch[0][1].set_exception(error)
            return
        start = 0
        for rows, future in batch:
            if not future.done():  # done: its client has gone
                future.set_result(answers.part(slice(start, start + len(rows))))
            start += len(rows)
