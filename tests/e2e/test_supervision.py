"""Workers that die, and what clients see of it: nothing, but for the requests that a dead one had."""

import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import httpx
import msgspec
import psutil
import pytest
from tests import bundles
from tests.e2e.servers import DEADLINE, Server, alive, answer, eventually, launch, raw, serving, signalled

from dle_serving.server.roster import Roster

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
        (copy,) = (server.home / "bundles").iterdir()
        away = copy.rename(tmp_path / "away")
        dies.kill()
        with httpx.Client(base_url=server.url, timeout=DEADLINE) as client:
            eventually(lambda: server.log.read_text().count("loading failed") >= 2)
            for _ in range(10):
                assert client.post("/predict", content=BODY, headers={"connection": "close"}).status_code == 200
            assert client.get("/readyz").json()["workers"] == 1
        assert signed(server) == {survives.pid}
        away.rename(copy)
        eventually(lambda: len(signed(server)) == 2)


def test_a_replacement_loads_the_model_of_the_others_though_the_folder_has_changed(tmp_path: Path) -> None:
    bundle = bundles.write(tmp_path / "bundle", name="income")
    with serving(tmp_path, bundle) as server:
        before = httpx.post(f"{server.url}/predict?ids=false", content=BODY).json()
        shutil.rmtree(bundle)
        bundles.write(bundle, bundles.PRICE, name="price")
        (dies,) = server.workers()
        dies.kill()
        after = httpx.post(f"{server.url}/predict?ids=false", content=BODY, timeout=DEADLINE).json()
    assert before == after
    with serving(tmp_path, bundle, DLE_HOME=str(server.home)) as again:
        assert again.models[0][0] == "price"
        assert len(list((server.home / "bundles").iterdir())) == 1, "the copy that nobody uses is removed"


def test_a_worker_that_hangs_is_replaced(income: Path, tmp_path: Path) -> None:
    with serving(tmp_path, income, workers=2, DLE_HANG_SECONDS="2") as server:
        hangs, survives = server.workers()
        hangs.suspend()
        eventually(lambda: not alive([hangs]))
        assert f"worker {hangs.pid} hangs: no beat for 2 s (DLE_HANG_SECONDS); killed" in server.log.read_text()
        eventually(lambda: len(signed(server)) == 2)
        assert alive([survives])
        eventually(lambda: httpx.get(f"{server.url}/readyz").json()["workers"] == 2)
        assert "\ndle_workers 2.0\n" in httpx.get(f"{server.url}/metrics").text


def test_a_server_that_is_stopped_and_continued_as_a_whole_replaces_nobody(income: Path, tmp_path: Path) -> None:
    with serving(tmp_path, income, workers=2, DLE_HANG_SECONDS="2") as server:
        everyone = server.processes()
        roster = Roster(server.home, 2)
        first = server.workers()[0].pid
        for process in everyone:
            process.suspend()
        stopped = roster.last_beat(first)
        assert stopped is not None
        eventually(lambda: time.monotonic() - stopped > 4)
        for process in everyone:
            process.resume()
        eventually(lambda: (roster.last_beat(first) or 0) > stopped + 6)
        assert set(server.processes()) == set(everyone)
        assert "hangs" not in server.log.read_text()


def test_it_answers_on_while_it_drains_and_is_not_ready(income: Path, tmp_path: Path) -> None:
    with serving(tmp_path, income, workers=2, DLE_DRAIN_SECONDS="3600") as server, httpx.Client() as client:
        server.process.terminate()
        eventually(lambda: httpx.get(f"{server.url}/readyz").status_code == 503)
        assert httpx.get(f"{server.url}/readyz").json()["error"] == "the server is stopping"
        server.workers()[0].kill()
        eventually(lambda: len(signed(server)) == 2)  # workers are looked after as before
        assert httpx.post(f"{server.url}/predict", content=BODY, timeout=DEADLINE).status_code == 200
        # clients that keep connections open are asked to leave
        eventually(lambda: client.get(f"{server.url}/livez").headers.get("connection") == "close")
        everyone = server.processes()
        assert signalled(server.process, signal.SIGTERM) == 0  # the second ends it at once
        assert not alive(everyone)
        with pytest.raises(ConnectionRefusedError):
            raw(server.url, b"")


def test_the_port_is_closed_when_the_drain_is_over(income: Path, tmp_path: Path) -> None:
    with serving(tmp_path, income, DLE_DRAIN_SECONDS="1") as server:
        assert signalled(server.process, signal.SIGTERM) == 0
        said = server.log.read_text()
        assert "not ready any more; answering on for 1 s (DLE_DRAIN_SECONDS)" in said
        assert "stopping; requests in progress are answered first" in said


@pytest.mark.full
def test_what_was_accepted_is_answered_and_then_connections_are_refused(income: Path, tmp_path: Path) -> None:
    """Each request on a connection of its own, from several clients, while a SIGTERM arrives."""
    answered: Counter[str] = Counter()

    def ask_until_refused(url: str) -> None:
        while True:
            try:
                answered[str(httpx.post(f"{url}/predict", content=BODY, timeout=DEADLINE).status_code)] += 1
            except httpx.ConnectError:
                return
            except httpx.TransportError as error:
                answered[type(error).__name__] += 1

    with serving(tmp_path, income, workers=2) as server, ThreadPoolExecutor(8) as threads:
        asked = [threads.submit(ask_until_refused, server.url) for _ in range(8)]
        eventually(lambda: answered["200"] > 100)
        assert signalled(server.process, signal.SIGTERM) == 0
        for each in asked:
            each.result(DEADLINE)
    assert set(answered) == {"200"}


def test_no_worker_is_left_when_the_grace_is_over(income: Path, tmp_path: Path) -> None:
    with serving(tmp_path, income, workers=2, grace=1) as server:
        everyone = server.processes()
        server.workers()[0].suspend()  # it will not end by itself
        assert signalled(server.process, signal.SIGTERM) == 0
        assert not alive(everyone)
        assert "1 worker did not end in time and is killed" in server.log.read_text()


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 0), (signal.SIGINT, 130)])
def test_a_second_signal_ends_it_at_once(income: Path, tmp_path: Path, number: signal.Signals, code: int) -> None:
    with serving(tmp_path, income) as server:  # with an hour of grace
        everyone = server.processes()
        server.workers()[0].suspend()
        server.process.send_signal(number)
        eventually(lambda: "stopping" in server.log.read_text())
        assert signalled(server.process, number) == code
        assert not alive(everyone)


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 0), (signal.SIGINT, 130)])
def test_a_server_that_is_being_prepared_ends_too(
    income: Path, tmp_path: Path, number: signal.Signals, code: int
) -> None:
    keys, home = tmp_path / "keys", tmp_path / "home"
    os.mkfifo(keys)  # reading them waits until somebody writes
    log = tmp_path / "log"
    with launch(tmp_path, log, income, DLE_TOKEN_KEYS_FILE=str(keys), DLE_HOME=str(home)) as process:
        eventually((home / "lock").exists)
        assert signalled(process, number) == code
    assert "Traceback" not in log.read_text()


def test_a_sighup_ends_nothing(income: Path, tmp_path: Path) -> None:
    with serving(tmp_path, income) as server:
        server.workers()[0].send_signal(signal.SIGHUP)
        for _ in range(2):
            server.process.send_signal(signal.SIGHUP)
            eventually(lambda: "SIGHUP is ignored: SIGTERM ends the server" in server.log.read_text())
        assert httpx.post(f"{server.url}/predict", content=BODY).status_code == 200
    assert server.log.read_text().count("SIGHUP") == 1
    assert "died" not in server.log.read_text()


def test_the_supervising_process_imports_no_bentoml_and_no_runtime(income: Path, tmp_path: Path) -> None:
    with serving(tmp_path, income) as server:
        supervising, worker = (
            {Path(region.path).name.partition(".")[0] for region in process.memory_maps()}
            for process in server.processes()
        )
        assert "onnxruntime_pybind11_state" in worker - supervising
        used = sum(process.memory_full_info().pss for process in server.processes())
        assert used < 200 << 20


@pytest.mark.full
def test_many_restarts_lose_what_the_dead_had_accepted_and_nothing_else(income: Path, tmp_path: Path) -> None:
    with serving(tmp_path, income, workers=2) as server:

        def anew() -> int:
            return httpx.post(f"{server.url}/predict", content=BODY, timeout=DEADLINE).status_code

        with asking(anew) as codes:
            for _ in range(7):
                server.workers()[0].kill()
                eventually(lambda: len(signed(server)) == 1)
                eventually(lambda: len(signed(server)) == 2)
        assert set(codes) <= {0, 200}
        assert codes[0] <= 2 * 7
        assert codes[200] > codes[0]


def test_two_servers_of_either_command_do_not_share_a_directory(income: Path, tmp_path: Path) -> None:
    environment = {**os.environ, "DLE_BUNDLES": str(income), "BENTOML_DO_NOT_TRACK": "True"}
    with serving(tmp_path, income) as server:
        done = subprocess.run(
            [sys.executable, "-m", "bentoml", "serve", "dle_serving.service:Service", "--host", "127.0.0.1"],
            env={**environment, "DLE_HOME": str(server.home), "BENTOML_HOME": str(tmp_path / "bentoml")},
            cwd=tmp_path,
            capture_output=True,
            text=True,
            check=False,
            timeout=DEADLINE,
        )
        assert done.returncode == 1
        assert "is in use by another server: set DLE_HOME to a directory of its own" in done.stderr
        assert "Traceback" not in done.stderr
        assert httpx.post(f"{server.url}/predict", content=BODY).status_code == 200
