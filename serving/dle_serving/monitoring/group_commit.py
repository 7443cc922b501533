"""Requests that arrive together share one transaction: a commit waits for the disk however little it holds.

While one transaction is under way, in a thread of its own, what arrives gathers for the next.
"""

import asyncio
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

from dle_serving.monitoring.databases import StoreError
from dle_serving.monitoring.store import Feedback, Outcome, Store

MOST_WAITING = 100_000
"""More items than these do not gather before a slow store."""


class GroupCommit:
    """Adds to the store from an event loop, which never waits for it."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="feedback")
        self._waiting: list[tuple[Sequence[Feedback], asyncio.Future[list[Outcome]]]] = []
        self._items = 0
        self._committing: asyncio.Task[None] | None = None

    async def add(self, items: Sequence[Feedback]) -> list[Outcome]:
        """What became of the items, which are committed then; raises StoreError."""
        if self._waiting and self._items + len(items) > MOST_WAITING:
            raise StoreError(f"{self._items:,} items wait to be kept")
        future: asyncio.Future[list[Outcome]] = asyncio.get_running_loop().create_future()
        self._waiting.append((items, future))
        self._items += len(items)
        if self._committing is None:
            self._committing = asyncio.create_task(self._commit())
        return await future

    def close(self) -> None:
        """Wait for the transaction under way and end the thread."""
        self._thread.shutdown()

    async def _commit(self) -> None:
        loop = asyncio.get_running_loop()
        while self._waiting:
            batch, self._waiting, self._items = self._waiting, [], 0
            together = [item for items, _ in batch for item in items]
            try:
                outcomes = await loop.run_in_executor(self._thread, self._store.add, together, time.time())
            except Exception as error:  # noqa: BLE001 - whatever it is, the requests are told
                for _, future in batch:
                    if not future.done():  # done: its client has gone
                        future.set_exception(error)
                continue
            start = 0
            for items, future in batch:
                if not future.done():
                    future.set_result(outcomes[start : start + len(items)])
                start += len(items)
        self._committing = None
