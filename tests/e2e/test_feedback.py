"""Feedback as it runs: several workers, kills at any moment, a real PostgreSQL that comes and goes."""

import sqlite3
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager, suppress
from pathlib import Path

import httpx
import numpy as np
import psutil
import psycopg
import pytest
from tests import bundles, postgres
from tests.e2e.servers import DEADLINE, Server, alive, eventually, launch, serving
from tests.inprocess import assert_is_error

from dle_serving.feedback.store import open_store

pytestmark = pytest.mark.e2e
ROW = dict(bundles.EXAMPLE)
LABELS = ("<=50K", ">50K")


@pytest.fixture(scope="module")
def income(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return bundles.write(tmp_path_factory.mktemp("bundle") / "income")


def predicted(url: str, count: int) -> list[str]:
    """Ids of new predictions."""
    answer = httpx.post(f"{url}/predict", json={"rows": [ROW] * count}, timeout=DEADLINE)
    assert answer.status_code == 200, answer.text
    return [prediction["id"] for prediction in answer.json()["predictions"]]


def body(*ids: str, actual: str = LABELS[1]) -> dict[str, list[dict[str, str]]]:
    return {"items": [{"id": id_, "actual": actual} for id_ in ids]}


def counted(url: str) -> float:
    """All feedback in /metrics."""
    lines = [line for line in httpx.get(f"{url}/metrics").text.splitlines() if line.startswith("dle_feedback_total{")]
    return sum(float(line.rpartition(" ")[2]) for line in lines)


def test_workers_know_of_each_others_feedback(income: Path, tmp_path: Path) -> None:
    with serving(tmp_path, income, workers=2) as server:
        first, *others = predicted(server.url, 41)

        def give(index: int) -> httpx.Response:  # each on a connection of its own, so that both workers get some
            sent = body(first, others[index % 40], actual=LABELS[index % 2])
            return httpx.post(f"{server.url}/feedback", json=sent, timeout=DEADLINE)

        with ThreadPoolExecutor(8) as threads:
            answers = [response.json() for response in threads.map(give, range(80))]
        assert sum(answer["accepted"] for answer in answers) == 41
        assert sum(answer["duplicates"] for answer in answers) == 39 + 40
        assert sum(len(answer["rejected"]) for answer in answers) == 40
        assert {item["code"] for answer in answers for item in answer["rejected"]} == {"conflict"}
        assert {counted(server.url) for _ in range(10)} == {41}


class Givers:
    """Threads that give feedback until told to stop, and what was acknowledged to them."""

    def __init__(self, url: str, ids: list[str]) -> None:
        self.acknowledged: list[str] = []
        self.wrong: list[str] = []
        self._url = url
        self._parts = [ids[start : start + 5] for start in range(0, len(ids), 5)]
        self._stopped = threading.Event()
        self._threads = [threading.Thread(target=self._give, args=(self._parts[place::4],)) for place in range(4)]

    def _give(self, parts: list[list[str]]) -> None:
        client = httpx.Client(base_url=self._url, timeout=DEADLINE)
        for part in parts:
            if self._stopped.is_set():
                break
            try:
                response = client.post("/feedback", json=body(*part, actual=LABELS[ord(part[0][-1]) % 2]))
            except httpx.TransportError:  # killed: nobody knows whether it was kept
                continue
            if response.status_code == 200 and not response.json()["rejected"]:
                self.acknowledged += part
            else:
                self.wrong.append(response.text)
        client.close()

    @contextmanager
    def at_work(self) -> Iterator[None]:
        """They give while the block runs."""
        for thread in self._threads:
            thread.start()
        try:
            yield
        finally:
            self._stopped.set()
            for thread in self._threads:
                thread.join(DEADLINE)

    def wait_for(self, more: int) -> None:
        """Until so many more were acknowledged."""
        enough = len(self.acknowledged) + more
        eventually(lambda: len(self.acknowledged) >= enough)


def kill(processes: list[psutil.Process]) -> None:
    """Those that came last first, so that none is asked to end in order when its parent dies."""
    for process in reversed(processes):
        process.kill()
    eventually(lambda: not alive(processes))


def check_books(home: Path, acknowledged: set[str]) -> int:
    """Everything acknowledged is kept, and the sums are those of what is kept; how many that is."""
    pairs = "actual, predicted, COUNT(*) FROM feedback GROUP BY actual, predicted ORDER BY actual, predicted"
    with closing(sqlite3.connect(home / "feedback.sqlite3")) as connection:
        kept = {id_ for (id_,) in connection.execute("SELECT id FROM feedback")}
        cells = connection.execute(f"SELECT {pairs}").fetchall()
        for minutes in ("minute = 0", "minute > 0"):
            tallied = pairs.replace("COUNT(*) FROM feedback", f"SUM(count) FROM tally WHERE {minutes}")
            assert connection.execute(f"SELECT {tallied}").fetchall() == cells
    assert acknowledged <= kept
    return len(kept)


@pytest.mark.parametrize("kills", [2, pytest.param(20, marks=pytest.mark.full)])
def test_nothing_acknowledged_is_lost_by_kills(income: Path, tmp_path: Path, kills: int) -> None:
    """The whole service is killed so often, and before every other time one of its workers."""
    home, acknowledged = tmp_path / "home", set[str]()
    rng = np.random.default_rng(3)
    for number in range(kills):
        with serving(tmp_path, income, workers=2, DLE_HOME=str(home)) as server:
            if number % 2 == 0:
                kill_a_worker(server, acknowledged, int(rng.integers(5, 400)), int(rng.integers(2)))
                check_books(home, acknowledged)
            givers = Givers(server.url, predicted(server.url, 10_000))
            with givers.at_work():
                givers.wait_for(int(rng.integers(5, 400)))
                kill(server.processes())
            acknowledged.update(givers.acknowledged)
            assert givers.wrong == []
        check_books(home, acknowledged)
    with serving(tmp_path, income, workers=2, DLE_HOME=str(home)) as server:
        known = sorted(acknowledged)
        assert len(known) > 100 * kills
        kept = check_books(home, acknowledged)
        for start in range(0, len(known), 10_000):
            sent = body(*known[start : start + 10_000])
            answer = httpx.post(f"{server.url}/feedback", json=sent, timeout=DEADLINE).json()
            assert answer["accepted"] == 0
        assert counted(server.url) == check_books(home, acknowledged) == kept


def kill_a_worker(server: Server, acknowledged: set[str], after: int, which: int) -> None:
    givers = Givers(server.url, predicted(server.url, 10_000))
    with givers.at_work():
        givers.wait_for(after)
        worker = server.workers()[which]
        worker.kill()
        eventually(lambda: not alive([worker]))
        givers.wait_for(100)  # the other one goes on
    acknowledged.update(givers.acknowledged)
    assert givers.wrong == []
    eventually(lambda: len(alive(server.workers())) == 2)


def test_postgresql_may_go_and_come_back(income: Path, tmp_path: Path) -> None:
    with postgres.running() as database:
        database.stop()
        with serving(tmp_path, income, workers=2, DLE_FEEDBACK_STORE=database.url()) as server:
            assert "the feedback store cannot be reached; POST /feedback returns 503" in server.log.read_text()
            one, two, three = predicted(server.url, 3)
            refused = httpx.post(f"{server.url}/feedback", json=body(one), timeout=DEADLINE)
            assert_is_error(refused, 503)
            assert int(refused.headers["retry-after"]) > 0
            assert counted(server.url) == 0
            for id_, other in ((one, two), (two, three)):
                database.start()
                answer = httpx.post(f"{server.url}/feedback", json=body(id_), timeout=DEADLINE)
                assert (answer.status_code, answer.json()["accepted"]) == (200, 1)
                database.stop()
                refused = httpx.post(f"{server.url}/feedback", json=body(other), timeout=DEADLINE)
                assert_is_error(refused, 503)
                assert httpx.post(f"{server.url}/predict", json={"rows": [ROW]}).status_code == 200
            database.start()
            with psycopg.connect(database.url()) as connection:
                kept = connection.execute("SELECT id, server FROM feedback").fetchall()
            assert {id_ for id_, _ in kept} == {one, two}
            assert {name for _, name in kept} == {(server.home / "server.id").read_text().strip()}
            assert eventually(lambda: counted(server.url) == 2)
            log = server.log.read_text()
    assert "feedback was not stored" in log
    assert postgres.PASSWORD not in log
    assert "Traceback" not in log


@pytest.mark.full
def test_postgresql_that_is_silent_holds_nobody_for_ever(income: Path, tmp_path: Path) -> None:
    with (
        postgres.running() as database,
        serving(tmp_path, income, workers=2, DLE_FEEDBACK_STORE=database.url()) as server,
    ):
        ids = predicted(server.url, 16)

        def give(id_: str) -> httpx.Response:  # each on a connection of its own, so that both workers get some
            return httpx.post(f"{server.url}/feedback", json=body(id_), timeout=DEADLINE)

        with ThreadPoolExecutor(len(ids)) as threads:
            assert {response.status_code for response in threads.map(give, ids[:8])} == {200}
            with database.silent():
                for response in threads.map(give, ids):
                    assert_is_error(response, 503)
                    assert int(response.headers["retry-after"]) > 0
                assert httpx.post(f"{server.url}/predict", json={"rows": [ROW]}).status_code == 200
            answers = [response.json() for response in threads.map(give, ids)]
            assert [answer["accepted"] + answer["duplicates"] for answer in answers] == [1] * len(ids)
            assert eventually(lambda: counted(server.url) == len(ids))
            with database.silent():
                everyone, waiting = server.processes(), [threads.submit(give, id_) for id_ in ids]
                server.process.terminate()
                server.process.wait(DEADLINE)
                eventually(lambda: not alive(everyone))
                for one in waiting:
                    with suppress(httpx.TransportError):  # sent when the service was ending
                        assert_is_error(one.result(), 503)


def test_feedback_goes_on_while_postgresql_comes_and_goes(income: Path, tmp_path: Path) -> None:
    with (
        postgres.running() as database,
        serving(tmp_path, income, workers=2, DLE_FEEDBACK_STORE=database.url()) as server,
    ):
        givers = Givers(server.url, predicted(server.url, 20_000))
        with givers.at_work():
            for _ in range(2):
                givers.wait_for(100)
                database.stop()
                refused = len(givers.wrong)
                eventually(lambda: len(givers.wrong) > refused)  # noqa: B023 - of this round
                database.start()
            givers.wait_for(100)
        assert all("the feedback store cannot be reached" in text for text in givers.wrong)
        with psycopg.connect(database.url()) as connection:
            kept = {id_ for (id_,) in connection.execute("SELECT id FROM feedback")}
            (total,) = connection.execute("SELECT SUM(count) FROM tally WHERE minute = 0").fetchone() or (0,)
        assert set(givers.acknowledged) <= kept
        assert total == len(kept)
        assert eventually(lambda: counted(server.url) == len(kept))


def test_a_store_of_a_newer_release_is_refused_at_the_start(income: Path, tmp_path: Path) -> None:
    home = tmp_path / "home"
    store = open_store(None, home)
    store.check()
    store.close()
    with closing(sqlite3.connect(home / "feedback.sqlite3")) as connection, connection:
        connection.execute("UPDATE feedback_store SET version = 9")
    log = tmp_path / "log"
    with launch(tmp_path, log, income, DLE_HOME=str(home)) as process:
        assert process.wait(DEADLINE) != 0
    assert "the feedback tables have version 9, made by a newer release" in log.read_text()
    assert "Traceback" not in log.read_text()
