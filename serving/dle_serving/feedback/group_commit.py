"""Requests that arrive together share one transaction: a commit waits for the disk however little it holds.

While one transaction is under way, in a thread of its own, what arrives gathers for the next.
"""

import asyncio
import time
from collections.abc import Sequence
from functools import partial

from dle_serving.feedback.databases import StoreError
from dle_serving.feedback.side_thread import SideThread
from dle_serving.feedback.store import DEADLINE_SECONDS, FeedbackRecord, Outcome, Store

MOST_ITEMS = 20_000
MOST_REQUESTS = 1_000
"""More than these do not gather before a slow store: one that works keeps them well before the deadline."""
_ENDING_SECONDS = 1.0


class GroupCommit:
    """Adds to the store from an event loop, which never waits for it."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._thread = SideThread("feedback")
        self._waiting: list[tuple[Sequence[FeedbackRecord], asyncio.Future[list[Outcome]]]] = []
        self._items = 0
        self._committing: asyncio.Task[None] | None = None

    async def add(self, items: Sequence[FeedbackRecord]) -> list[Outcome]:
        """What became of the items, which are committed then; raises StoreError, at the latest at the deadline.

        Items without an answer in time may still be kept: given again they are duplicates.
        """
        if not items:
            return []
        if self._waiting and (self._items + len(items) > MOST_ITEMS or len(self._waiting) >= MOST_REQUESTS):
            raise StoreError(f"{self._items:,} items of {len(self._waiting):,} requests wait to be kept")
        future: asyncio.Future[list[Outcome]] = asyncio.get_running_loop().create_future()
        self._waiting.append((items, future))
        self._items += len(items)
        if self._committing is None:
            self._committing = asyncio.create_task(self._commit())
        try:
            return await asyncio.wait_for(future, DEADLINE_SECONDS)
        except TimeoutError:
            raise StoreError(f"no answer within {DEADLINE_SECONDS:g} s") from None

    def close(self) -> None:
        """Wait for the transaction under way, but not for long: those who asked for it have their answers by now."""
        self._thread.close(_ENDING_SECONDS)

    async def _commit(self) -> None:
        while self._waiting:
            batch, self._waiting, self._items = self._waiting, [], 0
            together = [item for items, _ in batch for item in items]
            try:
                keep = partial(self._store.add, together, time.time())
                keeping = asyncio.wrap_future(self._thread.submit(keep))
                while not (await asyncio.wait([keeping], timeout=DEADLINE_SECONDS))[0]:
                    self._store.abandon()
                outcomes = keeping.result()
            except Exception as error:  # noqa: BLE001 - whatever it is, the requests are told
                for _, future in batch:
                    if not future.done():  # done: its client has gone or its time was over
                        future.set_exception(error)
                continue
            start = 0
            for items, future in batch:
                if not future.done():
                    future.set_result(outcomes[start : start + len(items)])
                start += len(items)
        self._committing = None
