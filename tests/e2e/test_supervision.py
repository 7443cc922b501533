"""Workers that die, and what clients see of it: nothing, but for the requests that a dead one had."""

import signal
import socket
import sys
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import msgspec
import psutil
import pytest
from tests import bundles
from tests.e2e.servers import DEADLINE, Server, answer, eventually, raw, serving

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.skipif(sys.platform != "linux", reason="NOT TESTED: whose connection it is, only Linux tells"),
]
BODY = msgspec.json.encode({"rows": [dict(bundles.EXAMPLE)]})
REQUEST = b"POST /predict HTTP/1.1\r\nhost: x\r\ncontent-length: %d\r\n\r\n" % len(BODY) + BODY


@pytest.fixture(scope="module")
def income(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return bundles.write(tmp_path_factory.mktemp("bundle") / "income")


def signed(server: Server) -> set[int]:
    """The workers that have loaded their models, of those that live."""
    return {worker.pid for worker in server.workers() if (server.home / "run" / str(worker.pid)).exists()}


def holds(worker: psutil.Process, connection: socket.socket) -> bool:
    """Whether it is `worker` that the connection leads to."""
    return any(found.raddr and found.raddr.port == connection.getsockname()[1] for found in worker.net_connections())


@contextmanager
def asking(ask: Callable[[], int]) -> Iterator[Counter[int]]:
    """Ask again and again in a thread; the codes of the answers so far (0: none came)."""
    codes: Counter[int] = Counter()
    ended = threading.Event()

    def again() -> None:
        while not ended.is_set():
            try:
                codes[ask()] += 1
            except (OSError, ValueError, IndexError, httpx.TransportError):
                codes[0] += 1
            ended.wait(0.02)  # the machine is to start a worker as well

    thread = threading.Thread(target=again)
    thread.start()
    try:
        yield codes
    finally:
        ended.set()
        thread.join(DEADLINE)


def test_a_worker_that_is_killed_is_replaced_and_nobody_else_notices(income: Path, tmp_path: Path) -> None:
    """`benchmarks/supervision.py` measures how soon."""
    with serving(tmp_path, income, workers=2) as server:
        dies, survives = server.workers()
        kept = eventually(lambda: connection_to(server, survives))

        def keep_alive() -> int:
            kept.sendall(REQUEST)
            return answer(kept)[0]

        def anew() -> int:
            return httpx.post(f"{server.url}/predict", content=BODY, timeout=DEADLINE).status_code

        assert keep_alive() == 200
        with asking(keep_alive) as through, asking(anew) as fresh:
            eventually(lambda: min(through[200], fresh[200]) > 3)
            before = server.log.read_text()
            dies.kill()
            roll = server.home / "run"
            new = eventually(lambda: {int(file.name) for file in roll.glob("[0-9]*")} - {survives.pid, dies.pid}).pop()
            survives.suspend()  # so that the new one must answer
            try:
                assert anew() == 200
            finally:
                survives.resume()
        kept.close()
        assert set(through) == {200}
        # what the dead one had accepted is lost; no 503 of one that cannot answer yet
        assert set(fresh) <= {0, 200}
        assert fresh[0] <= 2
        assert new in {worker.pid for worker in server.workers()}
        assert f"worker {dies.pid} died after" in server.log.read_text().removeprefix(before)


def connection_to(server: Server, worker: psutil.Process) -> socket.socket | None:
    """A connection that `worker` has taken; None when another did."""
    connection = raw(server.url, REQUEST)
    assert answer(connection)[0] == 200
    if holds(worker, connection):
        return connection
    connection.close()
    return None


def test_the_only_worker_is_replaced_and_clients_wait_for_it(income: Path, tmp_path: Path) -> None:
    with serving(tmp_path, income) as server:
        (dies,) = server.workers()
        dies.send_signal(signal.SIGKILL)
        response = httpx.post(f"{server.url}/predict", content=BODY, timeout=DEADLINE)
        assert response.status_code == 200
        assert dies.pid not in signed(server)


def test_a_worker_that_cannot_start_takes_no_connections_and_is_tried_again(tmp_path: Path) -> None:
    bundle = bundles.write(tmp_path / "income")
    with serving(tmp_path, bundle, workers=2) as server:
        dies, survives = server.workers()
        away = bundle.rename(tmp_path / "away")
        dies.kill()
        with httpx.Client(base_url=server.url, timeout=DEADLINE) as client:
            eventually(lambda: server.log.read_text().count("loading failed") >= 2)
            for _ in range(10):
                assert client.post("/predict", content=BODY, headers={"connection": "close"}).status_code == 200
        assert signed(server) == {survives.pid}
        away.rename(bundle)
        eventually(lambda: len(signed(server)) == 2)
