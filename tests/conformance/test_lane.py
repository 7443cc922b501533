"""Requests are answered alike by the lane and by the HTTP parser with the application: the same bytes, or no bytes."""

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests import bundles
from tests.inprocess import InProcess
from tests.wire import request, wire

from dle_serving.auth import add
from dle_serving.settings import ServerSettings

STOPPED = SimpleNamespace(time=lambda: 1_800_000_000.5)
NOT_RANDOM = SimpleNamespace(urandom=bytes)
ROW = dict(bundles.EXAMPLE)
ONE = json.dumps({"rows": [ROW]}).encode()
MODELS = bundles.MODELS


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[InProcess]:
    """All kinds of models, the clock stopped, and ids with the same nonce."""
    folder = tmp_path_factory.mktemp("lane")
    for place, (name, schema) in enumerate(MODELS.items()):
        bundles.write(folder / "bundles" / str(place), schema, name=name)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("dle_serving.models.encoding.time", STOPPED)
        patch.setattr("dle_serving.feedback.ids.os", NOT_RANDOM)
        running = InProcess(
            ServerSettings(
                bundles=(folder / "bundles",),
                home=folder,
                max_body_bytes=100_000,
                max_rows=40,
                batch_rows=32,
            )
        )
        yield running
        running.close()


@contextmanager
def without_lane(service: InProcess) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(service.app.connections.lane, "destination", lambda data: None)
        yield


def taken(service: InProcess, *segments: bytes) -> tuple[bytes, bool, int]:
    """What the server sends, whether it closes the connection, and how many responses the lane gave."""
    given: list[bytes] = []
    with wire(service) as client:
        connection = client.connection
        respond = connection.respond

        def spy(body: bytes) -> None:
            given.append(body)
            respond(body)

        connection.respond = spy  # type: ignore[method-assign]
        client.send(*segments)
        return client.written, client.transport.closed, len(given)


def same(service: InProcess, *segments: bytes) -> int:
    """Assert that both ways give the same; returns the number of responses that the lane gave."""
    written, closed, count = taken(service, *segments)
    with without_lane(service):
        assert taken(service, b"".join(segments)) == (written, closed, 0)
    assert b"HTTP/1.1 5" not in written
    return count


PLAIN = {
    "income": request(ONE),
    "ids": request(ONE, "/predict?ids=true"),
    "no ids": request(ONE, "/predict?ids=false"),
    "no rows": request(b'{"rows":[]}'),
    "several rows": request(json.dumps({"rows": [ROW] * 7}).encode()),
    "named": request(ONE, "/models/income/predict"),
    "with version": request(ONE, "/models/income/versions/1/predict"),
    "keep-alive": request(ONE, headers=["Connection: Keep-Alive", "accept: */*", "accept-encoding: gzip, deflate, br"]),
    "traced": request(ONE, headers=["traceparent: 00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"]),
    "charset": request(ONE).replace(b"application/json", b'application/json; charset="UTF-8"'),
    "no content-type": request(ONE).replace(b"content-type: application/json\r\n", b""),
    "upper case": request(ONE).replace(b"content-length", b"CONTENT-LENGTH"),
    **{
        name: request(json.dumps({"rows": bundles.rows(schema, 3, seed=2)}).encode(), f"/models/{name}/predict")
        for name, schema in MODELS.items()
        if name != "picture"
    },
}


@pytest.mark.parametrize("name", PLAIN)
def test_plain_requests_take_the_lane_and_get_the_same_answer(service: InProcess, name: str) -> None:
    assert same(service, PLAIN[name]) == 1
    written, _, _ = taken(service, PLAIN[name])
    assert written.startswith(
        b"HTTP/1.1 200 OK\r\ndate: Thu, 01 Jan 2026 00:00:00 GMT\r\ncontent-type: application/json"
    )


OTHERS = {
    "not JSON": request(b"{"),
    "a fault": request(b'{"rows":[{"age":"x"}]}'),
    "a required field is missing": request(b'{"rows":[{}]}'),
    "more rows than a batch": request(json.dumps({"rows": [ROW] * 33}).encode()),
    "too many rows": request(json.dumps({"rows": [ROW] * 41}).encode()),
    "a long body": request(json.dumps({"rows": [ROW] * 300}).encode()),
    "a body that is too long": request(b" " * 100_001),
    "unknown query": request(ONE, "/predict?id=false"),
    "wrong query": request(ONE, "/predict?ids=no"),
    "query twice": request(ONE, "/predict?ids=true&ids=false"),
    "escaped": request(ONE, "/pred%69ct"),
    "unknown path": request(ONE, "/predict/"),
    "unknown model": request(ONE, "/models/other/predict"),
    "unknown version": request(ONE, "/models/income/versions/2/predict"),
    "absolute": request(ONE, "http://localhost/predict"),
    "absolute without a path": request(b"", "http://localhost", method="GET"),
    "absolute with a query alone": request(b"", "http://a?x=1", method="GET"),
    "absolute with a wrong port": request(b"", "http://a:99999999/", method="GET"),
    "CONNECT": request(b"", "a:443", method="CONNECT"),
    "OPTIONS *": request(b"", "*", method="OPTIONS"),
    "GET": request(b"", method="GET"),
    "HEAD": request(b"", "/livez", method="HEAD"),
    "lower case": request(ONE, method="post"),
    "unknown method": request(ONE, method="FETCH"),
    "pickle": request(ONE).replace(b"application/json", b"application/vnd.bentoml+pickle"),
    "another charset": request(ONE).replace(b"application/json", b"application/json; charset=latin-1"),
    "compressed": request(ONE, headers=["content-encoding: gzip"]),
    "close": request(ONE, headers=["connection: close"]),
    "close among others": request(ONE, headers=["connection: keep-alive, close"]),
    "proxy-connection": request(ONE, headers=["proxy-connection: close"]),
    "upgrade": request(ONE, headers=["connection: upgrade", "upgrade: websocket"]),
    "h2c": request(ONE, headers=["connection: upgrade, http2-settings", "upgrade: h2c", "http2-settings: AAMAAABk"]),
    "HTTP/1.0": request(ONE).replace(b"HTTP/1.1", b"HTTP/1.0"),
    "HTTP/1.0 kept alive": request(ONE, headers=["connection: keep-alive"]).replace(b"HTTP/1.1", b"HTTP/1.0"),
    "HTTP/1.2": request(ONE).replace(b"HTTP/1.1", b"HTTP/1.2"),
    "HTTP/2": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    "chunked": request(
        b"%x\r\n%b\r\n0\r\n\r\n" % (len(ONE), ONE), headers=["transfer-encoding: chunked"], length=False
    ),
    "no length": request(b"", length=False),
    # requests that servers are known to read differently
    "CL.TE": request(b"0\r\n\r\nGET /livez HTTP/1.1\r\n\r\n", headers=["transfer-encoding: chunked"]),
    "TE.CL": request(
        b"5c\r\nGPOST / HTTP/1.1\r\n\r\n0\r\n\r\n", headers=["transfer-encoding: chunked", "content-length: 4"]
    ),
    "TE.TE": request(ONE, headers=["transfer-encoding: chunked", "transfer-encoding: identity"]),
    "TE spaced": request(ONE, headers=["transfer-encoding : chunked"]),
    "TE tab": request(ONE, headers=["transfer-encoding:\tchunked"]),
    "TE folded": request(ONE, headers=["x: y\r\n transfer-encoding: chunked"]),
    "TE underscore": request(ONE, headers=["transfer_encoding: chunked"]),
    "TE in a value": request(ONE, headers=["x: y\rtransfer-encoding: chunked"]),
    "TE after LF": request(ONE, headers=["x: y\ntransfer-encoding: chunked"]),
    "length twice": request(ONE, headers=[f"content-length: {len(ONE)}"]),
    "two lengths": request(ONE, headers=["content-length: 5"]),
    "lengths in one": request(ONE).replace(b"content-length: ", b"content-length: 5, "),
    "length +": request(ONE).replace(b"content-length: ", b"content-length: +"),
    "length -": request(ONE).replace(b"content-length: ", b"content-length: -"),
    "length 0x": request(ONE).replace(b"content-length: ", b"content-length: 0x"),
    "length 00": request(ONE).replace(b"content-length: ", b"content-length: 00"),
    "length spaced": request(ONE).replace(b"content-length: ", b"content-length:  "),
    "length unspaced": request(ONE).replace(b"content-length: ", b"content-length:"),
    "length then space": request(ONE).replace(b"\r\n\r\n", b" \r\n\r\n"),
    "length empty": request(b"").replace(b"content-length: 0", b"content-length: "),
    "length huge": request(b"").replace(b"content-length: 0", b"content-length: 99999999999999999999999"),
    "length short": request(ONE + b"GET /livez HTTP/1.1\r\n\r\n").replace(
        b"content-length: %d" % (len(ONE) + 23), b"content-length: %d" % len(ONE)
    ),
    "name spaced": request(ONE, headers=["x y: z"]),
    "no name": request(ONE, headers=[": z"]),
    "no colon": request(ONE, headers=["xyz"]),
    "NUL": request(ONE, headers=["x: \0"]),
    "DEL": request(ONE, headers=["x: \x7f"]),
    "not ASCII": request(ONE, headers=["x: é"]),
    "empty value": request(ONE, headers=["x-forwarded-for:"]),
    "bare LF": request(ONE).replace(b"\r\n", b"\n"),
    "bare CR": request(ONE).replace(b"\r\n", b"\r"),
    "blank lines first": b"\r\n\r\n" + request(ONE),
    "spaces first": b" " + request(ONE),
    "two spaces": request(ONE).replace(b" HTTP", b"  HTTP"),
    "tab": request(ONE).replace(b"POST ", b"POST\t"),
    "header before the others": request(ONE).replace(b"HTTP/1.1\r\n", b"HTTP/1.1\r\n x: y\r\n"),
    "expect": request(ONE, headers=["expect: 100-continue"]),
    "expect more": request(ONE, headers=["expect: 200-maybe"]),
    "trailer": request(
        b"%x\r\n%b\r\n0\r\ncontent-length: 5\r\n\r\n" % (len(ONE), ONE),
        headers=["transfer-encoding: chunked", "trailer: content-length"],
        length=False,
    ),
    "long header": request(ONE, headers=["x: " + "y" * 9_000]),
    "too long header": request(ONE, headers=["x: " + "y" * 70_000]),
    "too many headers": request(ONE, headers=["x: " + "y" * 100] * 800),
    "picture": request(
        json.dumps({"rows": bundles.rows(bundles.PICTURE, 1, seed=2)}).encode(), "/models/picture/predict"
    ),
}


@pytest.mark.parametrize("name", OTHERS)
def test_all_else_is_answered_by_the_application(service: InProcess, name: str) -> None:
    after = request(ONE) if name != "length short" else b""
    assert same(service, OTHERS[name]) == (1 if name in ("length short", "length 00") else 0)
    same(service, OTHERS[name] + after)
    same(service, request(ONE), OTHERS[name], after)


@pytest.mark.parametrize("name", [*PLAIN, *OTHERS])
def test_segments_change_nothing(service: InProcess, name: str) -> None:
    data = {**PLAIN, **OTHERS}[name]
    head = data.find(b"\r\n\r\n") + 4
    with without_lane(service):
        expected = taken(service, data)[:2]
    for cuts in ([head], [head, head + 5], [head - 1], [head - 4, head], [1], [len(data) - 1]):
        places = [0, *cuts, len(data)]
        segments = [data[start:end] for start, end in pairwise(places)]
        written, closed, count = taken(service, *segments)
        assert (written, closed) == expected
        if name in PLAIN and cuts[0] == head:
            assert count == 1


def test_pipelined_requests_are_answered_in_order(service: InProcess) -> None:
    requests = [PLAIN["income"], OTHERS["GET"], PLAIN["digit"], PLAIN["review"], OTHERS["a fault"], PLAIN["price"]]
    assert same(service, b"".join(requests)) == 1  # the parser keeps what arrives together with something else
    assert same(service, b"".join([PLAIN["income"], PLAIN["digit"], PLAIN["signal"], PLAIN["review"]])) == 4
    assert same(service, *requests) == 4
    same(service, *(b"".join(requests)[start : start + 7] for start in range(0, 1500, 7)))


def mutated(data: bytes) -> st.SearchStrategy[bytes]:
    inserted = st.binary(max_size=3) | st.sampled_from(
        [b"\r\n", b"\n", b"\r", b" ", b"\t", b":", b"\0", b"transfer-encoding: chunked\r\n", b"content-length: 3\r\n"]
    )
    part = st.tuples(st.integers(0, len(data)), st.integers(0, 4), inserted)
    return part.map(lambda at: data[: at[0]] + at[2] + data[at[0] + at[1] :])


CASES = st.sampled_from([*PLAIN.values(), *OTHERS.values()]).filter(lambda data: len(data) < 2_000)


@given(CASES.flatmap(mutated), st.lists(st.integers(0, 700), max_size=3))
@settings(max_examples=300)
def test_any_bytes_in_any_segments(service: InProcess, data: bytes, cuts: list[int]) -> None:
    places = [0, *sorted(cut for cut in cuts if cut < len(data)), len(data)]
    same(service, *(data[start:end] for start, end in pairwise(places)))


@given(
    st.lists(st.binary(max_size=60) | st.sampled_from([b"\r\n", b" HTTP/1.1\r\n", b"POST /predict", b": "]), max_size=8)
)
def test_any_bytes_at_all(service: InProcess, segments: list[bytes]) -> None:
    same(service, *segments)


def test_keys_are_checked_in_the_lane_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dle_serving.models.encoding.time", STOPPED)
    monkeypatch.setattr("dle_serving.feedback.ids.os", NOT_RANDOM)
    keys = tmp_path / "keys"
    good, other = add(keys, "app", ["predict"]), add(keys, "monitor", ["metrics"])
    bundle = bundles.write(tmp_path / "income")
    service = InProcess(ServerSettings(bundles=(bundle,), home=tmp_path / "home", api_keys_file=keys))
    ask: Callable[[str], bytes] = lambda key: request(ONE, headers=[f"authorization: Bearer {key}"])  # noqa: E731
    assert same(service, ask(good)) == 1
    for refused in (ask(other), ask("x"), request(ONE), request(ONE, headers=["authorization: Basic eDp5"])):
        assert same(service, refused) == 0
    assert same(service, ask(good).replace(b"\r\n\r\n", b"\r\nauthorization: Bearer x\r\n\r\n")) == 0
    assert b" 401 " in taken(service, request(ONE))[0]
    assert b" 403 " in taken(service, ask(other))[0]
    keys.write_text("")
    service.app._keyring._next_look = 0  # type: ignore[union-attr]
    assert b" 401 " in taken(service, ask(good))[0]
    service.close()
