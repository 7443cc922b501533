import asyncio
import threading
from collections.abc import Sequence
from typing import cast

import pytest

from dle_serving.feedback import group_commit
from dle_serving.feedback.databases import StoreError
from dle_serving.feedback.group_commit import GroupCommit
from dle_serving.feedback.store import FeedbackRecord, Outcome, Store

DEADLINE = 20.0


class Slow:
    """A store that waits for `gate` and then accepts everything, or fails."""

    def __init__(self) -> None:
        self.gate = threading.Event()
        self.batches: list[list[str]] = []
        self.error: Exception | None = None
        self.abandoned = threading.Event()

    def add(self, items: Sequence[FeedbackRecord], now: float) -> list[Outcome]:
        self.gate.wait()
        self.batches.append([item.id for item in items])
        if self.error is not None:
            raise self.error
        return [Outcome.CONFLICT if item.id == "bad" else Outcome.ACCEPTED for item in items]

    def abandon(self) -> None:
        self.abandoned.set()


def items(*ids: str) -> list[FeedbackRecord]:
    return [FeedbackRecord(id_, "m", 1, "00", "a", "a", 1.0, None, 0, "a") for id_ in ids]


@pytest.fixture
def store() -> Slow:
    return Slow()


def commits(store: Slow) -> GroupCommit:
    return GroupCommit(cast(Store, store))


async def started(*asking: "asyncio.Task[list[Outcome]]") -> None:
    for _ in range(3 * len(asking)):
        await asyncio.sleep(0)


def test_what_arrives_meanwhile_is_one_transaction(store: Slow) -> None:
    async def ask() -> None:
        group = commits(store)
        first = asyncio.create_task(group.add(items("1")))
        await started(first)
        more = [asyncio.create_task(group.add(items(*ids))) for ids in (("2", "bad"), ("3",))]
        await started(*more)
        store.gate.set()
        assert await first == [Outcome.ACCEPTED]
        assert await more[0] == [Outcome.ACCEPTED, Outcome.CONFLICT]
        assert await more[1] == [Outcome.ACCEPTED]
        assert store.batches == [["1"], ["2", "bad", "3"]]
        assert await group.add(items("4")) == [Outcome.ACCEPTED]
        group.close()

    asyncio.run(ask())


def test_a_failure_is_told_to_everybody_and_the_next_one_goes_on(store: Slow) -> None:
    async def ask() -> None:
        group = commits(store)
        store.error = StoreError("away")
        asking = [asyncio.create_task(group.add(items(id_))) for id_ in "123"]
        await started(*asking)
        store.gate.set()
        for one in asking:
            with pytest.raises(StoreError, match="away"):
                await one
        store.error = None
        assert await group.add(items("1")) == [Outcome.ACCEPTED]
        group.close()

    asyncio.run(ask())


def test_a_client_that_left_changes_nothing_for_others(store: Slow) -> None:
    async def ask() -> None:
        group = commits(store)
        left, stayed = (asyncio.create_task(group.add(items(id_))) for id_ in "12")
        await started(left, stayed)
        left.cancel()
        await started(left)
        store.gate.set()
        assert await stayed == [Outcome.ACCEPTED]
        assert [id_ for batch in store.batches for id_ in batch] == ["1", "2"]
        group.close()

    asyncio.run(ask())


def test_a_store_that_never_answers_is_given_up_and_keeps_nobody_from_ending(
    store: Slow, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(group_commit, "DEADLINE_SECONDS", 0.05)
    monkeypatch.setattr(group_commit, "_ENDING_SECONDS", 0.05)

    async def ask() -> None:
        group = commits(store)
        asking = [asyncio.create_task(group.add(items(id_))) for id_ in "12"]
        for one in asking:
            with pytest.raises(StoreError, match=r"no response within 0\.05 s"):
                await one
        assert await asyncio.to_thread(store.abandoned.wait, DEADLINE)
        group.close()

    asyncio.run(ask())
    assert all(thread.daemon for thread in threading.enumerate() if thread.name == "feedback")
    store.gate.set()


def test_what_waits_is_bounded(store: Slow, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(group_commit, "MOST_ITEMS", 3)
    monkeypatch.setattr(group_commit, "MOST_REQUESTS", 2)

    async def ask() -> None:
        group = commits(store)
        first = asyncio.create_task(group.add(items("1")))
        await started(first)
        second = asyncio.create_task(group.add(items(*"23456")))  # alone, it may be as large as it is
        await started(second)
        with pytest.raises(StoreError, match="waiting already: 5 items of 1 request"):
            await group.add(items("7"))
        assert await group.add([]) == []  # nothing to keep waits for nothing
        store.gate.set()
        await asyncio.gather(first, second)
        store.gate.clear()
        many = []
        for id_ in "abc":
            many.append(asyncio.create_task(group.add(items(id_))))
            await started(*many)
        with pytest.raises(StoreError, match="waiting already: 2 items of 2 requests"):
            await group.add(items("d"))
        store.gate.set()
        await asyncio.gather(*many)
        assert await group.add(items("7")) == [Outcome.ACCEPTED]
        group.close()

    asyncio.run(ask())
