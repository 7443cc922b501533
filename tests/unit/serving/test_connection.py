"""What a connection does beyond the conformance tests of the lane: limits, deadlines, and its end."""

import asyncio
import json
import logging
import resource
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import uvicorn.config
from tests import bundles
from tests.inprocess import InProcess
from tests.wire import Wire, request, wire

from dle_serving import service as bento
from dle_serving.connection.connections import Connections
from dle_serving.connection.protocol import Connection
from dle_serving.settings import ServerSettings

ROW = dict(bundles.EXAMPLE)
ONE = json.dumps({"rows": [ROW]}).encode()


@pytest.fixture(scope="module")
def many(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return bundles.write(tmp_path_factory.mktemp("bundles") / "income")


@pytest.fixture
def service(many: Path, tmp_path: Path) -> Iterator[InProcess]:
    running = InProcess(
        ServerSettings(bundles=(many,), home=tmp_path, max_connections=3, keep_alive=75, first_byte_timeout=10)
    )
    yield running
    running.close()


def shed(service: InProcess, reason: str) -> float:
    (line,) = [line for line in lines(service) if line.startswith(f'dle_shed_total{{reason="{reason}"}}')]
    return float(line.split()[1])


def lines(service: InProcess) -> list[str]:
    return service.app.metrics.exposition().decode().splitlines()


def parsed(response: bytes) -> tuple[int, dict[str, str], Any]:
    """Status, headers and body of one response."""
    head, _, body = response.partition(b"\r\n\r\n")
    first, *rest = head.decode().split("\r\n")
    headers = dict(line.split(": ", 1) for line in rest)
    assert int(headers["content-length"]) == len(body)
    return int(first.split()[1]), headers, json.loads(body)


def assert_refused(response: bytes, status: int, words: str) -> None:
    found, headers, body = parsed(response)
    assert (found, headers["connection"], headers["content-type"]) == (status, "close", "application/json")
    assert set(body) == {"error", "details"}
    assert words in body["error"]


def test_uvicorn_takes_our_protocol(monkeypatch: pytest.MonkeyPatch, many: Path, tmp_path: Path) -> None:
    """This fails when an upgrade of uvicorn or BentoML moves the seam."""
    monkeypatch.setenv("DLE_BUNDLES", str(many))
    monkeypatch.setenv("DLE_HOME", str(tmp_path))
    monkeypatch.setattr("dle_serving.service.end_with_parent", lambda: None)
    monkeypatch.setitem(uvicorn.config.HTTP_PROTOCOLS, "auto", "uvicorn.protocols.http.auto:AutoHTTPProtocol")
    application = bento.Service.to_asgi()  # type: ignore[attr-defined]
    config: Any = uvicorn.Config(application, lifespan="off", log_config=None)  # as BentoML makes it: without http=
    config.load()
    assert config.http_protocol_class is Connection
    assert config.app is application
    assert isinstance(config.app.connections, Connections)
    config.app.close()


@pytest.mark.parametrize(
    "sent", [b"GET / FTP/1.1\r\n\r\n", b"FETCH / HTTP/1.1\r\n\r\n", b"\x16\x03\x01\x02\0\1\0", b"x" * 9]
)
def test_what_is_not_http_gets_the_body_of_all_errors(service: InProcess, sent: bytes) -> None:
    with wire(service) as client:
        assert_refused(client.send(sent), 400, "expected an HTTP/1.1 request: ")
        assert client.transport.closed
    assert shed(service, "malformed") == 1


@pytest.mark.parametrize(
    "headers", [["x: " + "y" * 66_000], [f"x{number}: {'y' * 100}" for number in range(700)]], ids=["one", "many"]
)
@pytest.mark.parametrize("size", [1_000, 100_000])
def test_headers_are_bounded(service: InProcess, headers: list[str], size: int) -> None:
    data = request(ONE, headers=headers)
    with wire(service) as client:
        client.send(*(data[start : start + size] for start in range(0, len(data), size)))
        assert_refused(client.written, 431, "at most 65,536 bytes of headers (DLE_MAX_HEADER_BYTES)")
        assert client.transport.closed
    assert shed(service, "headers") == 1


def test_headers_within_the_bound_are_taken(service: InProcess) -> None:
    with wire(service) as client:
        assert parsed(client.send(request(ONE, headers=["x: " + "y" * 60_000])))[0] == 200


CHUNKED = request(b"", headers=["transfer-encoding: chunked"], length=False)


@pytest.mark.parametrize("tail", [b"0\r\nx: ", b"5;x=", b"\r\n"], ids=["trailer", "extension", "blank lines"])
def test_what_never_ends_is_bounded(service: InProcess, tail: bytes) -> None:
    with wire(service) as client:
        client.send(b"" if tail == b"\r\n" else CHUNKED + tail)
        for _ in range(20):
            client.send((tail if tail == b"\r\n" else b"y") * 10_000)
        assert client.transport.closed
        assert len(client.written) < 1_000
    assert shed(service, "headers") + shed(service, "malformed") == 1


def test_a_trailer_is_no_header(service: InProcess) -> None:
    body = b"%x\r\n%b\r\n0\r\ncontent-type: text/plain\r\n\r\n" % (len(ONE), ONE)
    with wire(service) as client:
        assert parsed(client.send(CHUNKED, body))[0] == 200


def test_a_silent_connection_is_closed(service: InProcess) -> None:
    with wire(service) as client:
        assert client.sweep(9) == b""
        assert not client.transport.closed
        assert client.sweep(11) == b""
        assert client.transport.closed
    assert shed(service, "silent") == 1


@pytest.mark.parametrize("sent", [request(ONE), request(b"", "/livez", method="GET")], ids=["lane", "application"])
def test_an_idle_connection_stays_open_for_long(service: InProcess, sent: bytes) -> None:
    with wire(service) as client:
        assert parsed(client.send(sent))[0] == 200
        client.sweep(74)
        assert not client.transport.closed
        client.sweep(76)
        assert client.transport.closed
    assert shed(service, "silent") == 0


def test_headers_must_arrive_in_time(service: InProcess) -> None:
    with wire(service) as client:
        client.send(request(ONE)[:30])
        client.sweep(9)
        assert not client.transport.closed
        assert_refused(client.sweep(11), 408, "the whole headers within 10 s (DLE_HEADER_TIMEOUT)")
        assert client.transport.closed
    assert shed(service, "slow_headers") == 1


@pytest.mark.parametrize(
    "sent",
    [request(ONE)[:-5], request(ONE, "/schema")[:-5], CHUNKED + b"5\r\n"],
    ids=["lane", "application", "chunked"],
)
def test_bodies_must_arrive_in_time(service: InProcess, sent: bytes) -> None:
    with wire(service) as client:
        before = client.send(sent)
        client.sweep(59)
        assert not client.transport.closed
        after = client.sweep(61)
        if before:  # the application has refused it before its body was there
            assert after == b""
        else:
            assert_refused(after, 408, "the whole body within 60 s (DLE_BODY_TIMEOUT)")
        assert client.transport.closed
    assert shed(service, "slow_body") == 1


def test_a_client_that_does_not_read_is_disconnected(service: InProcess) -> None:
    with wire(service) as client:
        client.connection.pause_writing()
        client.send(request(ONE))
        client.sweep(59)
        assert not client.transport.aborted
        client.sweep(61)
        assert client.transport.aborted
    assert shed(service, "unread") == 1


def test_the_next_request_waits_until_the_client_reads(service: InProcess) -> None:
    with wire(service) as client:
        client.connection.pause_writing()
        client.send(request(ONE) + request(ONE))
        assert client.written.count(b"HTTP/1.1 200 OK") == 1
        service.loop.run_until_complete(_call(client.connection.resume_writing))
        client.send(b"")
        client._run(lambda: None)
        assert client.written.count(b"HTTP/1.1 200 OK") == 2


async def _call(function: Any) -> None:
    function()


def test_a_client_that_sends_far_ahead_is_held_back(service: InProcess) -> None:
    """All its requests are answered, one after the other."""
    with wire(service) as client:
        client.send(request(ONE) * 1_000)
        client._run(lambda: None)
        while client.written.count(b"HTTP/1.1 200 OK") < 1_000:
            client._run(lambda: None)


@pytest.mark.parametrize("sent", [request(ONE), request(b"", "/livez", method="GET")], ids=["lane", "application"])
def test_a_half_closed_connection_gets_its_answer(service: InProcess, sent: bytes) -> None:
    with wire(service) as client:

        def both() -> None:
            client.connection.data_received(sent)
            assert client.connection.eof_received()

        client._run(both)
        assert parsed(client.written)[0] == 200
        assert client.transport.closed
    with wire(service) as client:
        client.half_close()
        assert client.transport.closed


@pytest.mark.parametrize("sent", [request(ONE)[:-5], request(ONE, "/schema")[:-5], request(ONE)[:20], CHUNKED])
def test_a_request_that_will_never_be_complete_ends_the_connection(service: InProcess, sent: bytes) -> None:
    with wire(service) as client:
        client.send(sent)
        client.half_close()
        assert client.transport.closed


GET = request(b"", "/livez", method="GET")


@pytest.mark.parametrize("requests", [[request(ONE)] * 3, [request(ONE), GET, request(ONE), GET], [GET, request(ONE)]])
@pytest.mark.parametrize("rest", [b"", request(ONE)[:-5], GET[:-5]], ids=["whole", "lane", "application"])
def test_all_that_was_sent_before_a_half_close_is_answered(
    service: InProcess, requests: list[bytes], rest: bytes
) -> None:
    with wire(service) as client:

        def both() -> None:
            client.connection.data_received(b"".join(requests) + rest)
            assert client.connection.eof_received()

        client._run(both)
        while not client.transport.closed:
            client._run(lambda: None)
        assert client.written.count(b"HTTP/1.1 200 OK") == len(requests)
    assert "dle_inflight_requests 0.0" in lines(service)


def test_a_client_that_does_not_read_gets_its_answers_in_order(service: InProcess) -> None:
    """It sends two requests and a half, then the rest and another one, before it reads."""
    bare = request(ONE, "/predict?ids=false")
    for sent in ([request(ONE), GET, bare], [request(ONE), request(ONE), bare]):
        data = b"".join(sent)
        with wire(service) as client:
            client.connection.pause_writing()
            client.send(data[: len(sent[0]) + 40])
            client.send(data[len(sent[0]) + 40 :])
            assert client.written.count(b"HTTP/1.1") == 1
            client._run(client.connection.resume_writing)
            while client.written.count(b"HTTP/1.1") < 3:
                client._run(lambda: None)
            first, second, third = client.written.split(b"HTTP/1.1 200 OK\r\n")[1:]
            assert b'"id"' in first
            assert (b'"id"' in second) == (sent[1] != GET)
            assert b'"id"' not in third


@pytest.mark.parametrize(
    "target", ["http://example.com", "http://a:99999999/", "http://[::1", "http://a?x=1", "*", "//", "a"]
)
def test_a_target_that_is_no_path_harms_nobody(service: InProcess, target: str) -> None:
    """Also behind a request that is answered in the same batch as another client's."""
    bad = request(b"", target, method="GET")
    for sent, expected in ((bad, 0), (request(ONE) + bad, 1), (GET + bad, 1), (bad + request(ONE), 0)):
        client, other = Wire(service), Wire(service)

        def both(client: Wire = client, other: Wire = other, sent: bytes = sent) -> None:
            client.connection.data_received(sent)
            other.connection.data_received(request(ONE))

        client._run(both)
        for each in (client, other):
            each._run(lambda: None)
            each._run(lambda: None)
        assert parsed(other.written)[0] == 200
        assert client.written.count(b"HTTP/1.1 200 OK") >= expected
        assert client.written.count(b"HTTP/1.1") > expected
        for each in (client, other):
            each.leave()
    assert "dle_queue_rows 0.0" in lines(service)
    assert "dle_inflight_requests 0.0" in lines(service)


def test_a_connection_that_fails_harms_no_other(
    service: InProcess, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    bad, good = Wire(service), Wire(service)

    def fail(*arguments: object) -> None:
        raise RuntimeError("broken")

    monkeypatch.setattr(bad.connection, "respond", fail)

    def both() -> None:
        bad.connection.data_received(request(ONE))
        good.connection.data_received(request(ONE))

    service.loop.run_until_complete(_turns(both))
    assert parsed(good.written)[0] == 200
    assert "a response cannot be delivered" in caplog.text
    assert "dle_queue_rows 0.0" in lines(service)
    assert "dle_inflight_requests 0.0" in lines(service)
    good.leave()


async def _turns(call: Any) -> None:
    call()
    for _ in range(8):
        await asyncio.sleep(0)


def test_a_small_bound_on_headers_holds_in_the_lane(service: InProcess) -> None:
    service.app.connections.lane._most_head_bytes = 300
    with wire(service) as client:
        client._run(lambda: None)
        lane = service.app.connections.lane
        assert lane.destination(request(ONE)) is not None
        assert lane.destination(request(ONE, headers=["x: " + "y" * 300])) is None


def test_blank_lines_between_requests_are_no_headers(service: InProcess) -> None:
    with wire(service) as client:
        for _ in range(40):
            client.send(request(ONE) + b"\r\n" * 1_000)
        assert client.written.count(b"HTTP/1.1 200 OK") == 40


@pytest.mark.parametrize("sent", [request(ONE), request(b"", "/livez", method="GET")], ids=["lane", "application"])
def test_a_stopping_server_answers_what_it_has_accepted(service: InProcess, sent: bytes) -> None:
    with wire(service) as client:
        client.send(sent[:40])
        client._run(client.connection.shutdown)
        assert not client.transport.closed
        status, headers, _ = parsed(client.send(sent[40:]))
        assert (status, headers["connection"]) == (200, "close")
        assert client.transport.closed
    with wire(service) as client:
        client._run(client.connection.shutdown)
        assert client.transport.closed
    service.app.connections.is_closing = True
    with wire(service) as client:
        assert parsed(client.send(sent))[1]["connection"] == "close"
        assert client.transport.closed


def test_connections_are_bounded(service: InProcess, caplog: pytest.LogCaptureFixture) -> None:
    with wire(service) as first, wire(service), wire(service):
        assert "dle_connections 3.0" in lines(service)
        for _ in range(2):
            with wire(service) as further:
                assert_refused(further.written, 503, "too many connections")
                assert further.transport.closed
        assert parsed(first.send(request(ONE)))[0] == 200
    assert "dle_connections 0.0" in lines(service)
    assert shed(service, "connections") == 2
    assert [record.message for record in caplog.records if "connections" in record.message] == [
        "3 connections are open, further ones are refused: see DLE_MAX_CONNECTIONS",
        "connections are accepted again",
    ]
    with wire(service) as client:
        assert parsed(client.send(request(ONE)))[0] == 200


@pytest.mark.parametrize(("files", "expected"), [(256, 160), (100, 50), (1_000_000, 4096)])
def test_connections_leave_descriptors_for_files(
    service: InProcess, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, files: int, expected: int
) -> None:
    monkeypatch.setattr(resource, "getrlimit", lambda which: (files, files))
    with caplog.at_level(logging.WARNING):
        made = Connections(ServerSettings(bundles=()), service.app.connections.lane, service.app.metrics)
    assert made._most == expected
    assert ("ulimit -n" in caplog.text) == (expected < 4096)


def test_a_client_that_leaves_in_the_lane_disturbs_nobody(service: InProcess) -> None:
    gone, stays = Wire(service), Wire(service)

    def both() -> None:
        gone.connection.data_received(request(ONE))
        stays.connection.data_received(request(ONE))
        gone.transport.close()

    stays._run(both)
    assert gone.written == b""
    assert parsed(stays.written)[0] == 200
    stays.leave()
    assert 'dle_requests_total{code="499",route="/predict"} 1.0' in lines(service)
    assert "dle_inflight_requests 0.0" in lines(service)


def test_a_client_that_leaves_within_its_request_is_counted(service: InProcess) -> None:
    with wire(service) as client:
        client.send(request(ONE)[:-5])
        assert "dle_inflight_requests 1.0" in lines(service)
    assert 'dle_requests_total{code="499",route="/predict"} 1.0' in lines(service)
    assert "dle_inflight_requests 0.0" in lines(service)
    with wire(service) as client:
        client.send(request(ONE)[:-5], request(ONE)[-5:])
    assert 'dle_requests_total{code="200",route="/predict"} 1.0' in lines(service)
    assert "dle_inflight_requests 0.0" in lines(service)


def test_a_request_that_fails_in_the_model_fails_alone(service: InProcess, monkeypatch: pytest.MonkeyPatch) -> None:
    served = service.app.repository.find()
    answer = served.answer

    def fail_for_two(parts: Any, sizes: Any, with_ids: Any) -> list[bytes]:
        if 2 in sizes:
            raise ArithmeticError("two rows")
        return answer(parts, sizes, with_ids)

    monkeypatch.setattr(served.batcher, "_run", fail_for_two)
    wires = [Wire(service) for _ in range(3)]
    bodies = [json.dumps({"rows": [ROW] * count}).encode() for count in (1, 2, 3)]

    def all_of_them() -> None:
        for each, body in zip(wires, bodies, strict=True):
            each.connection.data_received(request(body))

    wires[0]._run(all_of_them)
    for each in wires:
        each._run(lambda: None)
    assert [parsed(each.written)[0] for each in wires] == [200, 500, 200]
    assert 'dle_requests_total{code="200",route="/predict"} 2.0' in lines(service)
    assert 'dle_requests_total{code="500",route="/predict"} 1.0' in lines(service)
    assert "dle_inflight_requests 0.0" in lines(service)
    for each in wires:
        each.leave()


def test_what_is_answered_together_is_counted(service: InProcess) -> None:
    wires = [Wire(service) for _ in range(3)]

    def all_of_them() -> None:
        for each in wires:
            each.connection.data_received(request(ONE))

    wires[0]._run(all_of_them)
    assert [parsed(each.written)[0] for each in wires] == [200] * 3
    found = set(lines(service))
    assert {
        'dle_requests_total{code="200",route="/predict"} 3.0',
        'dle_request_duration_seconds_count{route="/predict"} 3.0',
        'dle_stage_duration_seconds_count{stage="decode"} 3.0',
        'dle_stage_duration_seconds_count{stage="queue"} 3.0',
        'dle_stage_duration_seconds_count{stage="predict"} 1.0',
        'dle_stage_duration_seconds_count{stage="encode"} 3.0',
        "dle_batch_rows_sum 3.0",
        "dle_batch_rows_count 1.0",
        "dle_inflight_requests 0.0",
    } <= found
    for each in wires:
        each.leave()
