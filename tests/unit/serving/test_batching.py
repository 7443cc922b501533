import asyncio
import json
import threading
from collections.abc import Coroutine, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest

from dle_bundle.rows.decoder import DecodedRows
from dle_serving.models import batching
from dle_serving.models.batching import Batcher, Share


def rows(*values: float) -> DecodedRows:
    return DecodedRows([(value,) for value in values], [], [])


class Recorder:
    """Predictions a row with twice its number, and refuses 13."""

    def __init__(self) -> None:
        self.runs: list[list[float]] = []

    def __call__(self, parts: Sequence[DecodedRows], sizes: Sequence[int], with_ids: Sequence[bool]) -> list[bytes]:
        numbers = [float(row[0] or 0) for part in parts for row in part.numeric]
        self.runs.append(numbers)
        if 13 in numbers:
            raise ArithmeticError("thirteen")
        left = iter(numbers)
        return [json.dumps([2 * next(left) for _ in range(size)]).encode() for size in sizes]


def run(main: Coroutine[Any, Any, Any]) -> Any:
    return asyncio.run(main)


def gathered(batcher: Batcher, *requests: DecodedRows) -> list[Any]:
    async def submit(request: DecodedRows) -> list[float]:
        answers: list[float] = json.loads(await batcher.predict(request, with_ids=True))
        return answers

    async def main() -> list[Any]:
        return await asyncio.gather(*(submit(request) for request in requests), return_exceptions=True)

    return list(run(main()))


def test_requests_of_one_turn_share_a_run_and_get_their_own_answers() -> None:
    recorder = Recorder()
    assert gathered(Batcher(recorder, 8), rows(1), rows(2, 3), rows(4)) == [[2], [4, 6], [8]]
    assert recorder.runs == [[1, 2, 3, 4]]


def test_a_run_has_at_most_so_many_rows() -> None:
    recorder = Recorder()
    assert gathered(Batcher(recorder, 3), rows(1), rows(2, 3), rows(4), rows(5)) == [[2], [4, 6], [8], [10]]
    assert recorder.runs == [[1, 2, 3], [4, 5]]


def test_what_fails_one_request_fails_no_other() -> None:
    answers = gathered(Batcher(Recorder(), 8), rows(1), rows(13), rows(4))
    assert answers[0] == [2]
    assert answers[2] == [8]
    assert isinstance(answers[1], ArithmeticError)


def test_a_request_that_was_given_up_does_not_disturb_the_others() -> None:
    async def main() -> None:
        batcher = Batcher(Recorder(), 8)
        given_up, kept = batcher.predict(rows(1), with_ids=True), batcher.predict(rows(2), with_ids=True)
        given_up.cancel()
        assert json.loads(await kept) == [4]

    run(main())


def test_rows_that_come_later_run_later() -> None:
    async def main() -> None:
        recorder = Recorder()
        batcher = Batcher(recorder, 8)
        await batcher.predict(rows(1), with_ids=True)
        await batcher.predict(rows(2), with_ids=True)
        assert recorder.runs == [[1], [2]]

    run(main())


def test_no_rows_are_answered_too() -> None:
    assert gathered(Batcher(Recorder(), 8), rows()) == [[]]


@pytest.mark.parametrize("count", [1, 7, 64])
def test_many_single_rows_keep_their_order(count: int) -> None:
    answers = gathered(Batcher(Recorder(), 64), *(rows(100 + value / 2) for value in range(count)))
    assert answers == [[200 + value] for value in range(count)]


def test_slow_runs_are_done_in_a_thread_while_others_gather() -> None:
    started, go_on = threading.Event(), threading.Event()
    recorder = Recorder()

    def slow(parts: Sequence[DecodedRows], sizes: Sequence[int], with_ids: Sequence[bool]) -> list[bytes]:
        started.set()
        assert go_on.wait(10)
        return recorder(parts, sizes, with_ids)

    async def main() -> None:
        with ThreadPoolExecutor(1) as threads:
            batcher = Batcher(slow, 8, threads)
            first = batcher.predict(rows(1), with_ids=True)
            while not started.is_set():
                await asyncio.sleep(0)
            later = [batcher.predict(rows(value), with_ids=True) for value in (2, 13, 4)]
            gone = batcher.predict(rows(5), with_ids=True)
            gone.cancel()
            go_on.set()
            assert json.loads(await first) == [2]
            answers = await asyncio.gather(*later, return_exceptions=True)
            assert [isinstance(answer, ArithmeticError) for answer in answers] == [False, True, False]
            assert recorder.runs == [[1], [2, 13, 4], [2], [13], [4]]
            assert json.loads(await batcher.predict(rows(6), with_ids=True)) == [12]

    run(main())


def test_only_runs_that_take_long_are_done_in_a_thread() -> None:
    seen: list[tuple[int, bool]] = []

    def run_(parts: Sequence[DecodedRows], sizes: Sequence[int], with_ids: Sequence[bool]) -> list[bytes]:
        seen.append((sum(sizes), threading.current_thread() is threading.main_thread()))
        return [b""] * len(sizes)

    async def main() -> None:
        with ThreadPoolExecutor(1) as threads:
            batcher = Batcher(run_, 8, threads, lambda count: count > 3)
            for count in (1, 3, 4, 8, 2):
                await batcher.predict(rows(*range(count)), with_ids=True)

    run(main())
    assert seen == [(1, True), (3, True), (4, False), (8, False), (2, True)]


def test_series_of_very_different_lengths_are_not_padded_to_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(batching, "MOST_STEPS", 100)
    recorder = Recorder()
    lengths = {1: 5, 2: 60, 3: 5}
    series = [DecodedRows([(value,)], sequence=[[np.zeros((steps, 1))]]) for value, steps in lengths.items()]
    assert gathered(Batcher(recorder, 8), *series) == [[2], [4], [6]]
    assert recorder.runs == [[1], [2], [3]]


def test_the_wait_of_a_request_ends_when_its_batch_begins(monkeypatch: pytest.MonkeyPatch) -> None:
    clock, waited, recorder = [0.0], list[float](), Recorder()
    monkeypatch.setattr("dle_serving.models.batching.time.perf_counter", lambda: clock[0])

    def slow(parts: Sequence[DecodedRows], sizes: Sequence[int], with_ids: Sequence[bool]) -> list[bytes]:
        clock[0] += 5
        return recorder(parts, sizes, with_ids)

    gathered(Batcher(slow, 1, waited=lambda seconds, requests: waited.append(seconds)), rows(1), rows(2), rows(3))
    assert waited == [0, 5, 10]


def test_when_the_batcher_fails_no_request_waits_for_ever() -> None:
    """Here its threads have ended; the next request finds out for itself."""

    async def main() -> None:
        failures = list[object]()
        asyncio.get_running_loop().set_exception_handler(lambda loop, context: failures.append(context["exception"]))
        threads = ThreadPoolExecutor(1)
        threads.shutdown()
        batcher = Batcher(Recorder(), 1, threads)
        for _ in range(2):
            together = [batcher.predict(rows(1), with_ids=True), batcher.predict(rows(2), with_ids=True)]
            answers = await asyncio.wait_for(asyncio.gather(*together, return_exceptions=True), 10)
            assert [type(answer) for answer in answers] == [RuntimeError, RuntimeError]
        assert [type(failure) for failure in failures] == [RuntimeError, RuntimeError]

    run(main())


def test_an_answer_that_cannot_be_delivered_harms_no_other(caplog: pytest.LogCaptureFixture) -> None:
    found: list[object] = []

    def fail(outcome: object) -> None:
        raise RuntimeError("broken")

    async def main() -> None:
        with ThreadPoolExecutor(1) as threads:
            for executor in (None, threads):
                batcher = Batcher(Recorder(), 8, executor)
                batcher.submit(rows(1, 2), [Share(1, True, fail), Share(1, True, found.append)], 0.0)
                assert json.loads(await batcher.predict(rows(3), with_ids=True)) == [6]

    run(main())
    assert found == [b"[4.0]", b"[4.0]"]
    assert caplog.text.count("a response cannot be delivered") == 2
