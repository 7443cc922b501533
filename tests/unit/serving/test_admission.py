"""What an overloaded server refuses, and that it does not begin work for which nobody waits."""

import asyncio
import json
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from tests import bundles
from tests.inprocess import InProcess, assert_is_error
from tests.wire import Wire, request

from dle_serving.connection.admission import Admission, Overloaded, Patience
from dle_serving.connection.limits import ClientDisconnected
from dle_serving.errors import TooLate
from dle_serving.monitoring.metrics import Metrics
from dle_serving.settings import ServerSettings

ROW = dict(bundles.EXAMPLE)
ONE = json.dumps({"rows": [ROW]}).encode()
SETTINGS = ServerSettings(bundles=(), max_waiting_rows=100, max_waiting_bytes=1_000, max_wait=2)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    now = [1_000.0]
    monkeypatch.setattr("dle_serving.connection.admission.time", SimpleNamespace(perf_counter=lambda: now[0]))
    return now


@pytest.fixture
def metrics(tmp_path: Path) -> Metrics:
    made = Metrics(tmp_path)
    made.declare_responses([])
    return made


def value(metrics: Metrics, name: str) -> float:
    (line,) = [line for line in metrics.exposition().decode().splitlines() if line.startswith(name + " ")]
    return float(line.split()[-1])


def test_bytes_and_rows_are_bounded_except_for_the_first(metrics: Metrics) -> None:
    admission = Admission(SETTINGS, metrics)
    with admission.ticket() as first, admission.ticket() as second:
        first.take_bytes(5_000)
        with pytest.raises(Overloaded, match="1,000 bytes wait already \\(DLE_MAX_WAITING_BYTES\\)"):
            second.take_bytes(1)
        first.take_rows(500)
        assert value(metrics, "dle_queue_rows") == 500
        with pytest.raises(Overloaded, match="100 rows wait already \\(DLE_MAX_WAITING_ROWS\\)"):
            second.take_rows(1)
    with admission.ticket() as third:
        third.take_bytes(1_000)
        third.take_rows(100)
    assert value(metrics, "dle_queue_rows") == 0


def worked(admission: Admission, clock: list[float], seconds: float, size: int) -> None:
    """One request after the other takes so long."""
    for _ in range(50):
        with admission.ticket() as ticket:
            ticket.take_bytes(size)
            ticket.wait()
            clock[0] += seconds
        clock[0] += 10  # nothing to do: this does not count


def test_the_wait_is_bounded_by_the_measured_rate(metrics: Metrics, clock: list[float]) -> None:
    settings = replace(SETTINGS, max_waiting_bytes=1 << 30)
    admission = Admission(settings, metrics)
    worked(admission, clock, 0.5, 100_000 - 4_096)  # 200,000 a second: 2 seconds are four requests
    waiting = [admission.ticket() for _ in range(6)]
    for ticket in waiting:
        ticket.take_bytes(100_000 - 4_096)
    for ticket in waiting[:5]:  # the fifth finds two seconds of work
        ticket.wait()
    for ticket in waiting[5:]:
        with pytest.raises(Overloaded, match="2 s of work wait already \\(DLE_MAX_WAIT\\)") as caught:
            ticket.wait()
        assert dict(caught.value.headers)[b"retry-after"] == b"3"
        assert caught.value.reason == "wait"
    waiting[0].give_back()
    waiting[5].wait()


def test_a_request_is_not_refused_for_its_own_size(metrics: Metrics, clock: list[float]) -> None:
    admission = Admission(SETTINGS, metrics)
    worked(admission, clock, 0.5, 100)
    with admission.ticket() as alone:
        for _ in range(4):  # as it arrives in parts
            alone.take_bytes(600)
        alone.wait()
        with admission.ticket() as other, pytest.raises(Overloaded):
            other.take_bytes(1)


def test_before_the_rate_is_known_nothing_is_refused_for_it(metrics: Metrics, clock: list[float]) -> None:
    admission = Admission(replace(SETTINGS, max_waiting_bytes=1 << 30), metrics)
    for _ in range(100):
        ticket = admission.ticket()
        ticket.take_bytes(1 << 20)
        ticket.wait()


def test_the_rate_follows_the_work(metrics: Metrics, clock: list[float]) -> None:
    admission = Admission(replace(SETTINGS, max_waiting_bytes=1 << 30), metrics)
    worked(admission, clock, 0.1, 100_000 - 4_096)
    assert admission._rate.value == pytest.approx(1_000_000)
    worked(admission, clock, 1.0, 100_000 - 4_096)
    assert admission._rate.value == pytest.approx(100_000, rel=0.01)


def test_patience_ends_with_the_client_or_the_deadline(clock: list[float]) -> None:
    assert Patience().given_up() is None
    assert isinstance(Patience(is_there=lambda: False).given_up(), ClientDisconnected)
    patience = Patience(clock[0] + 1)
    patience.check()
    clock[0] += 1.5
    with pytest.raises(TooLate, match="X-Request-Timeout-Ms or DLE_REQUEST_TIMEOUT"):
        patience.check()


class Blocked:
    """A model whose runs wait for `go_on`; `rows` of each run that has begun."""

    def __init__(self, service: InProcess, monkeypatch: pytest.MonkeyPatch) -> None:
        self.service = service
        self.go_on = threading.Event()
        self.rows: list[int] = []
        self.served = service.app.repository.find()
        answer = self.served.answer

        def slow(parts: Any, sizes: Any, with_ids: Any) -> list[bytes]:
            self.rows.append(sum(sizes))
            assert self.go_on.wait(60)
            return answer(parts, sizes, with_ids)

        monkeypatch.setattr(self.served, "answer", slow)
        monkeypatch.setattr(self.served.batcher, "_run", slow)

    def until(self, condition: Callable[[], bool]) -> None:
        async def wait() -> None:
            while not condition():
                await asyncio.sleep(0)

        self.service.loop.run_until_complete(asyncio.wait_for(wait(), 60))


@pytest.fixture
def service(tmp_path: Path) -> Iterator[InProcess]:
    """A model in a thread, since one of its inputs is a text."""
    bundle = bundles.write(tmp_path / "review", bundles.REVIEW, name="review")
    running = InProcess(ServerSettings(bundles=(bundle,), home=tmp_path / "home", batch_rows=4, max_waiting_rows=40))
    yield running
    running.close()


def body(count: int) -> bytes:
    return json.dumps({"rows": bundles.rows(bundles.REVIEW, count, seed=1)}).encode()


@pytest.mark.parametrize("count", [2, 5], ids=["in the queue of the batcher", "in a thread of its own"])
def test_a_request_that_waits_too_long_is_not_begun(
    service: InProcess, monkeypatch: pytest.MonkeyPatch, count: int
) -> None:
    model = Blocked(service, monkeypatch)
    later = [0.0]
    clock = SimpleNamespace(perf_counter=lambda: time.perf_counter() + later[0])
    monkeypatch.setattr("dle_serving.connection.admission.time", clock)

    async def main() -> list[Any]:
        def post(rows: int, timeout: int) -> "asyncio.Task[Any]":
            headers = {"x-request-timeout-ms": str(timeout)}
            return asyncio.create_task(service.client.post("/predict", content=body(rows), headers=headers))

        busy = [post(6 if count > 4 else 1, 60_000)]
        while len(model.rows) < len(busy):
            await asyncio.sleep(0)
        late, patient = post(count, 1_000), post(3, 60_000)
        total = sum(model.rows) + count + 3
        while value(service.app.metrics, "dle_queue_rows") < total:
            await asyncio.sleep(0)
        later[0] += 2
        model.go_on.set()
        return list(await asyncio.gather(late, patient, *busy))

    late, *others = service.loop.run_until_complete(asyncio.wait_for(main(), 60))
    assert [each.status_code for each in others] == [200] * len(others)
    assert "waited longer than its timeout" in assert_is_error(late, 504)["error"]
    assert count not in model.rows
    assert value(service.app.metrics, 'dle_shed_total{reason="timeout"}') == 1
    assert 'dle_requests_total{code="504",route="/predict"} 1.0' in service.get("/metrics").text


@pytest.mark.parametrize("text", ["0", "-1", "x", "", "1.5", "1" * 10])
def test_a_timeout_is_a_number_of_milliseconds(service: InProcess, text: str) -> None:
    response = service.post("/predict", content=body(1), headers={"x-request-timeout-ms": text})
    assert "x-request-timeout-ms: expected a positive number" in assert_is_error(response, 400)["error"]
    assert service.post("/predict", content=body(1), headers={"x-request-timeout-ms": "5000"}).status_code == 200


@pytest.mark.parametrize("half", [True, False], ids=["FIN", "reset"])
@pytest.mark.parametrize("headers", [[], ["x-request-timeout-ms: 60000"]], ids=["lane", "application"])
def test_work_whose_client_has_left_is_not_begun(
    service: InProcess, monkeypatch: pytest.MonkeyPatch, headers: list[str], half: bool
) -> None:
    model = Blocked(service, monkeypatch)
    first, gone, stays = Wire(service), Wire(service), Wire(service)
    sent = [request(body(count), headers=headers) for count in (1, 2, 3)]

    async def main() -> None:
        first.connection.data_received(sent[0])
        while not model.rows:
            await asyncio.sleep(0)
        gone.connection.data_received(sent[1])
        stays.connection.data_received(sent[2])
        while len(model.served.batcher._waiting) < 2 and sum(len(w.rows) for w in model.served.batcher._waiting) < 5:
            await asyncio.sleep(0)
        if half:
            assert gone.connection.eof_received()  # as when a client closes its socket
        else:
            gone.transport.close()
        await asyncio.sleep(0)
        model.go_on.set()
        while not stays.written:
            await asyncio.sleep(0)

    service.loop.run_until_complete(asyncio.wait_for(main(), 60))
    assert model.rows == [1, 3]
    assert gone.written == b""
    assert b" 200 " in first.written
    assert b" 200 " in stays.written
    model.until(lambda: value(service.app.metrics, 'dle_shed_total{reason="client_left"}') == 1)
    assert gone.transport.closed
    for wire in (first, stays):
        wire.leave()
    assert value(service.app.metrics, "dle_queue_rows") == 0


def test_the_lane_is_bounded_too(service: InProcess, monkeypatch: pytest.MonkeyPatch) -> None:
    model = Blocked(service, monkeypatch)
    monkeypatch.setattr(service.app._predict._admission, "_most_rows", 8)
    wires = [Wire(service) for _ in range(4)]

    async def main() -> None:
        for wire in wires:
            wire.connection.data_received(request(body(3)))
            for _ in range(6):
                await asyncio.sleep(0)
        while not all(b" 503 " in wire.written for wire in wires[2:]):
            await asyncio.sleep(0)
        model.go_on.set()
        while not all(wire.written for wire in wires):
            await asyncio.sleep(0)

    service.loop.run_until_complete(asyncio.wait_for(main(), 60))
    assert [int(wire.written.split()[1]) for wire in wires] == [200, 200, 503, 503]
    assert b"retry-after: 1\r\n" in wires[3].written
    assert value(service.app.metrics, 'dle_shed_total{reason="rows"}') == 2
    assert 'dle_requests_total{code="503",route="/predict"} 2.0' in service.get("/metrics").text
    for wire in wires:
        wire.leave()
    assert value(service.app.metrics, "dle_queue_rows") == 0
    assert value(service.app.metrics, "dle_inflight_requests") == 0


def test_the_timeout_of_the_server_holds_in_the_lane(service: InProcess, monkeypatch: pytest.MonkeyPatch) -> None:
    model = Blocked(service, monkeypatch)
    later = [0.0]
    clock = SimpleNamespace(perf_counter=lambda: time.perf_counter() + later[0])
    monkeypatch.setattr("dle_serving.connection.admission.time", clock)
    first, late = Wire(service), Wire(service)

    async def main() -> None:
        first.connection.data_received(request(body(1)))
        while not model.rows:
            await asyncio.sleep(0)
        late.connection.data_received(request(body(2)))
        while not model.served.batcher._waiting:
            await asyncio.sleep(0)
        later[0] += 31
        model.go_on.set()
        while not late.written:
            await asyncio.sleep(0)

    service.loop.run_until_complete(asyncio.wait_for(main(), 60))
    assert b"HTTP/1.1 504 " in late.written
    assert model.rows == [1]
    assert value(service.app.metrics, 'dle_shed_total{reason="timeout"}') == 1
    for wire in (first, late):
        wire.leave()


def test_bodies_of_feedback_are_counted(service: InProcess, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[int] = []
    take = Admission.take_bytes

    def spy(self: Admission, size: int, own: int) -> None:
        seen.append(size)
        take(self, size, own)

    monkeypatch.setattr(Admission, "take_bytes", spy)
    assert service.post("/feedback", content=b'{"items":[]}').status_code == 200
    assert sum(seen) == 12


@pytest.mark.parametrize("count", [1, 400], ids=["lane", "thread"])
def test_under_overload_requests_are_refused_at_their_heads(
    service: InProcess, monkeypatch: pytest.MonkeyPatch, count: int
) -> None:
    """Their bodies are dropped, and the connection goes on with the next request."""
    admission = service.app._predict._admission
    sent = request(body(count))
    head = sent.index(b"\r\n\r\n") + 4
    client, slow = Wire(service), Wire(service)
    assert client.send(request(body(1))).startswith(b"HTTP/1.1 200 ")
    monkeypatch.setattr(admission, "_seconds", lambda: 3.5)
    for segments in ([sent], [sent[:head], sent[head:]], [sent[:head], sent[head : head + 5], sent[head + 5 :]]):
        answer = client.send(*segments)
        assert answer.startswith(b"HTTP/1.1 503 ")
        assert b"retry-after: 4\r\n" in answer
        assert answer.count(b"HTTP/1.1") == 1
        assert b"connection: close" not in answer
    assert client.send(sent + sent + request(b"", "/livez", method="GET")).count(b"HTTP/1.1 ") == 3
    assert client.written.endswith(b'{"status":"alive"}')
    assert slow.send(sent[:head]).startswith(b"HTTP/1.1 503 ")
    slow.sweep(61)
    assert slow.transport.closed
    monkeypatch.undo()
    assert client.send(request(body(1))).startswith(b"HTTP/1.1 200 ")
    assert value(service.app.metrics, 'dle_shed_total{reason="wait"}') == 6
    assert 'dle_requests_total{code="503",route="/predict"} 6.0' in service.get("/metrics").text
    client.leave()
