"""Commits the feedback of concurrent requests together, since a commit waits for the disk however small it is.

One transaction runs at a time, in a thread of its own; requests that arrive meanwhile form the next one.
"""

import asyncio
import time
from collections.abc import Sequence
from functools import partial

from dle_bundle.errors import counted
from dle_serving.feedback.databases import StoreError
from dle_serving.feedback.side_thread import SideThread
from dle_serving.feedback.store import DEADLINE_SECONDS, FeedbackRecord, Outcome, Store

MOST_ITEMS = 20_000
MOST_REQUESTS = 1_000
"""Limits on the items and requests that wait: a working store commits so many well before the deadline."""
_ENDING_SECONDS = 1.0


class GroupCommit:
    """Adds feedback to the store without blocking the event loop; used from that loop alone.

    Failures
    --------
    `add` raises StoreError when the store fails, takes longer than the deadline, or has too many items waiting. Items
    without a response in time may still be committed; when they are sent again they count as duplicates.
    """

    def __init__(self, store: Store) -> None:
        self._store = store
        self._thread = SideThread("feedback")
        self._waiting: list[tuple[Sequence[FeedbackRecord], asyncio.Future[list[Outcome]]]] = []
        self._items = 0
        self._committing: asyncio.Task[None] | None = None

    async def add(self, items: Sequence[FeedbackRecord]) -> list[Outcome]:
        """Commit the items, then return the outcome of each; raises StoreError, at the latest at the deadline."""
        if not items:
            return []
        if self._waiting and (self._items + len(items) > MOST_ITEMS or len(self._waiting) >= MOST_REQUESTS):
            raise StoreError(
                f"waiting already: {counted(self._items, 'item')} of {counted(len(self._waiting), 'request')}"
            )
        future: asyncio.Future[list[Outcome]] = asyncio.get_running_loop().create_future()
        self._waiting.append((items, future))
        self._items += len(items)
        if self._committing is None:
            self._committing = asyncio.create_task(self._commit())
        try:
            return await asyncio.wait_for(future, DEADLINE_SECONDS)
        except TimeoutError:
            raise StoreError(f"no response within {DEADLINE_SECONDS:g} s") from None

    def close(self) -> None:
        """Wait up to one second for the transaction in progress. Requests have had their responses by now."""
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
            except Exception as error:  # noqa: BLE001 - passed on to the requests
                for _, future in batch:
                    if not future.done():  # done: its client left or the deadline passed
                        future.set_exception(error)
                continue
            start = 0
            for items, future in batch:
                if not future.done():
                    future.set_result(outcomes[start : start + len(items)])
                start += len(items)
        self._committing = None
