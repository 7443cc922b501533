"""`scripts/loadtest` as an operator runs it, in this checkout's own .venv (made where it is not there)."""

import json
import os
import signal
import subprocess
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, ClassVar

import psutil
import pytest
from tests import bundles
from tests.e2e.servers import eventually, serving

from dle_bundle import documents
from dle_serving import auth

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(600)]
SCRIPT = Path(__file__).parents[2] / "scripts" / "loadtest"


def loadtest(*arguments: object, code: int = 0, **environment: str) -> str:
    """What the script says; it must end with `code`."""
    return checked(code, *finished(*arguments, **environment))


def long_enough(enough: Callable[[], bool], *arguments: object, code: int = 0, **environment: str) -> str:
    """What the script says after the shortest load with `enough` in it: a busy machine does little in a second."""
    for seconds in (1, 8, 64):
        found = finished(*arguments, "--time", seconds, **environment)
        if enough():
            break
    assert enough(), found
    return checked(code, *found)


def finished(*arguments: object, **environment: str) -> tuple[int, str]:
    """Exit code and words of the script."""
    done = subprocess.run(
        [SCRIPT, *map(str, arguments)],
        env={**os.environ, **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    return done.returncode, done.stdout


def checked(code: int, found: int, said: str) -> str:
    assert "Traceback" not in said, said
    assert found == code, said
    return said


def summary(out: Path) -> Any:
    return json.loads((out / "summary.json").read_text())


def test_a_service_of_its_own_that_meets_the_slo(tmp_path: Path) -> None:
    bundle, out = bundles.write(tmp_path / "income"), tmp_path / "out"

    def enough() -> bool:
        counts = {kind["name"]: kind["requests"] for kind in summary(out)["requests"]}
        return len(counts) == 4 and counts["GET /schema"] == 3 and sum(counts.values()) > 20

    # a request that takes longer than 30 s fails, so no machine is too slow for this SLO
    options = ("--users", 3, "--p95", 30_000, "--rate", "0.01", "--seed", 7, "--out", out)
    said = long_enough(enough, bundle, *options)
    assert said.splitlines()[-2] == "SLO met"
    found = summary(out)
    assert (found["users"], found["seed"], found["slo"]["missed"]) == (3, 7, [])
    kinds = {kind["name"]: kind for kind in found["requests"]}
    assert kinds.keys() == {"GET /schema", "POST /predict, one row", "POST /predict, batch", "POST /feedback"}
    assert kinds["GET /schema"]["requests"] == 3
    assert found["total"]["requests"] == sum(kind["requests"] for kind in kinds.values()) > 20
    assert found["total"]["failures"] == 0
    assert found["failures"] == []
    assert 0 <= found["total"]["p50"] <= found["total"]["p95"] <= found["total"]["p99"]
    report = (out / "report.html").read_text()
    assert report.lstrip().lower().startswith("<!doctype html>")
    assert "/predict, batch" in report


def test_an_slo_that_cannot_be_met(tmp_path: Path) -> None:
    bundle, out = bundles.write(tmp_path / "price", bundles.PRICE, name="price"), tmp_path / "out"
    options = ("--users", 1, "--p99", 0, "--rate", 1_000_000, "--out", out)
    said = long_enough(lambda: summary(out)["total"]["requests"] > 0, bundle, *options, code=1)
    assert "SLO missed: p99: expected at most 0 ms, found " in said
    assert "SLO missed: rate: expected at least 1e+06 requests/s, found " in said
    assert len(summary(out)["slo"]["missed"]) == 2


def test_a_running_service_with_api_keys(tmp_path: Path) -> None:
    bundle = bundles.write(tmp_path / "digit", bundles.DIGIT, name="digit")
    key, entry = auth.make("load", ["predict", "feedback"])
    unfit, no_feedback = auth.make("app", ["predict"])
    (tmp_path / "keys").write_text(entry.line() + no_feedback.line())
    out = tmp_path / "out"
    with serving(tmp_path, bundle, DLE_API_KEYS_FILE=str(tmp_path / "keys")) as server:
        options = ["--url", server.url, "--users", 2, "--out", out]
        long_enough(lambda: bool(summary(out)["total"]["requests"]), *options, DLE_API_KEY=key)
        assert summary(out)["total"]["failures"] == 0
        assert f"error: {server.url}/schema: HTTP 401: " in loadtest(*options, DLE_API_KEY="wrong", code=1)
        said = long_enough(lambda: bool(summary(out)["failures"]), *options, code=1, DLE_API_KEY=unfit)
    (failure,) = summary(out)["failures"]
    assert failure["name"] == "POST /feedback"
    assert failure["message"].startswith("HTTP 403: the API key 'app' has the scopes predict, not feedback")
    assert f"Failed {failure['count']} times: POST /feedback: HTTP 403" in said
    assert "SLO missed: errors: expected at most 0 %, found " in said


class Recorder(BaseHTTPRequestHandler):
    """A service that says yes to everything and keeps what it was asked."""

    protocol_version = "HTTP/1.1"
    wbufsize = -1  # an answer goes out in one piece
    asked: ClassVar[list[bytes]] = []

    def do_GET(self) -> None:
        self.asked.clear()  # a load begins with the schema
        self._answer(documents.encode(bundles.INCOME))

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["content-length"]))
        self.asked.append(body)
        rows = len(json.loads(body).get("rows", []))
        self._answer(json.dumps({"predictions": [{"id": "", "label": "<=50K"}] * rows, "rejected": []}).encode())

    def log_message(self, *_: object) -> None: ...

    def _answer(self, body: bytes) -> None:
        self.send_response(200)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


def test_a_user_asks_the_same_again_with_the_same_seed(tmp_path: Path) -> None:
    asked = []
    with ThreadingHTTPServer(("127.0.0.1", 0), Recorder) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        url = f"http://127.0.0.1:{server.server_port}"
        for seed in (1, 1, 2):
            options = ("--url", url, "--users", 1, "--seed", seed, "--out", tmp_path)
            long_enough(lambda: len(Recorder.asked) >= 10, *options)
            asked.append(Recorder.asked[:10])
        server.shutdown()
    assert len(asked[0]) == 10
    assert asked[0] == asked[1] != asked[2]


def test_ctrl_c_stops_what_was_started(tmp_path: Path) -> None:
    bundle = bundles.write(tmp_path / "income")
    process = subprocess.Popen(
        [SCRIPT, bundle, "--time", "500", "--out", tmp_path / "out"],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    assert process.stdout is not None
    for line in process.stdout:
        if "==> 20 users, 500 s" in line:
            break
    started = eventually(lambda: [*psutil.Process(process.pid).children(recursive=True)])
    os.killpg(process.pid, signal.SIGINT)
    said, _ = process.communicate(timeout=60)
    assert process.returncode == 130, said
    eventually(lambda: not any(child.is_running() for child in started))


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--users", "none"], "--users: expected a whole number, found: none"),
        (["--time", "0"], "--time: expected a whole number from 1, found: 0"),
        (["--p95", "-1"], "--p95: expected a number, found: -1"),
        (["--rate"], "--rate: a value is missing"),
        (["--fast", "1"], "no such option: --fast (--help lists the options)"),
        (["--url", "localhost:3000"], "--url: expected http://HOST:PORT, found: localhost:3000"),
        (["/nowhere"], "/nowhere: expected a bundle, found no manifest.json in it"),
    ],
)
def test_wrong_arguments(arguments: list[str], said: str) -> None:
    assert loadtest(*arguments, code=2) == f"error: {said}\n"
