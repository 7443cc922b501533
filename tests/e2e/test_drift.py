"""Drift as two real workers count it: one truth, whichever answers, and whatever becomes of them."""

import re
import signal
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest
from tests import bundles
from tests.e2e.servers import DEADLINE, Server, eventually, serving

pytestmark = pytest.mark.e2e
ROWS = 2_400
CONNECTIONS = 24
"""So many that no worker is likely to get none of them."""
COUNTED = re.compile(r"^dle_(feature|prediction|expected|feedback_total|confusion|accuracy)[^ ]* .*$", re.MULTILINE)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("server")
    bundle = bundles.write(folder / "digit", bundles.DIGIT, name="digit")
    with serving(folder, bundle, workers=2) as running:
        yield running


def send(server: Server, count: int, seed: int, shift: float = 0.0) -> list[dict[str, Any]]:
    """Predictions of rows that many connections bring, in requests of several sizes."""
    rows, answers = bundles.rows(bundles.DIGIT, count, seed, shift), []
    sizes = [1, 7, 40, 300]
    index = 0
    while rows:
        size = sizes[index % len(sizes)]
        part, rows = rows[:size], rows[size:]
        answers += httpx.post(f"{server.url}/predict", json={"rows": part}, timeout=DEADLINE).json()["predictions"]
        index += 1
    return answers


def reports(server: Server) -> list[dict[str, Any]]:
    """What /drift says on many connections, without the moment that it was asked at."""
    found = [httpx.get(f"{server.url}/drift?bins=true", timeout=DEADLINE).json() for _ in range(CONNECTIONS)]
    for report in found:
        del report["window"]
    return found


def agreed(server: Server, rows: int) -> dict[str, Any]:
    """The one report of all workers, once they have counted so many rows."""

    def same() -> dict[str, Any] | None:
        first, *others = reports(server)
        return first if first["rows"] == rows and all(other == first for other in others) else None

    found: dict[str, Any] = eventually(same)
    return found


def test_every_worker_gives_the_same_drift_and_the_same_series(server: Server) -> None:
    predictions = send(server, ROWS, seed=1)
    calm = agreed(server, ROWS)
    assert calm["verdict"] == "ok"
    assert [shift["n"] for shift in calm["features"]] == [ROWS] * 4
    assert len(server.workers()) == 2

    items = [{"id": each["id"], "actual": each["label"]} for each in predictions]
    for start in range(0, ROWS, 100):
        answer = httpx.post(f"{server.url}/feedback", json={"items": items[start : start + 100]}, timeout=DEADLINE)
        assert answer.json()["accepted"] == 100
    judged = agreed(server, ROWS)
    assert judged["accuracy"]["n"] == ROWS
    assert judged["accuracy"]["score"] == 1.0

    texts = [httpx.get(f"{server.url}/metrics", timeout=DEADLINE).text for _ in range(CONNECTIONS)]
    counted = {tuple(sorted(match.group() for match in COUNTED.finditer(text))) for text in texts}
    assert len(counted) == 1
    assert 'dle_feedback_total{correct="true",model="digit",version="1"} 2400.0' in counted.pop()


def test_what_was_counted_survives_every_worker(server: Server) -> None:
    counted = reports(server)[0]["rows"]
    send(server, 50, seed=8)
    before = agreed(server, counted + 50)
    for round_ in range(3):
        victim = eventually(partial(_pair, server))[round_ % 2]
        victim.send_signal(signal.SIGKILL)
        eventually(partial(_pair, server, victim))
    assert agreed(server, before["rows"])["features"] == before["features"]
    send(server, 200, seed=9)
    assert agreed(server, before["rows"] + 200)["rows"] == before["rows"] + 200
    assert len(list((server.home / "counts").glob("*/sums-*.shared"))) == 2, (
        "a replacement goes on with its predecessor's file"
    )


def _pair(server: Server, gone: psutil.Process | None = None) -> list[psutil.Process]:
    """The two workers; none while there are fewer, or one that should have gone."""
    workers = server.workers()
    return workers if len(workers) == 2 and gone not in workers else []


def test_shifted_rows_show_within_500(server: Server, tmp_path: Path) -> None:
    bundle = bundles.write(tmp_path / "digit", bundles.DIGIT, name="digit")
    with serving(tmp_path, bundle, workers=2) as fresh:
        send(fresh, 500, seed=5, shift=0.5)
        found = agreed(fresh, 500)
        assert found["verdict"] == "drift"
        assert sum(shift["verdict"] == "drift" for shift in found["features"]) >= 3
