"""`scripts/demo` as a new user runs it, in this checkout's own .venv (made by scripts/environment where it is not)."""

import os
import re
import signal
import socket
import subprocess
from pathlib import Path

import httpx
import pytest
from tests.e2e.servers import eventually

pytestmark = [pytest.mark.e2e, pytest.mark.full, pytest.mark.timeout(900)]
ROOT = Path(__file__).parents[2]


@pytest.fixture
def port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        number: int = probe.getsockname()[1]
        return number


def demo(port: int, *arguments: str) -> "subprocess.Popen[str]":
    """The script in a session of its own, as in a terminal of its own."""
    return subprocess.Popen(
        [ROOT / "scripts" / "demo", *arguments],
        env={**os.environ, "DLE_DEMO_PORT": str(port)},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )


def is_free(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) != 0


def test_it_shows_the_line_and_stops_what_it_started(port: int) -> None:
    process = demo(port)
    said, _ = process.communicate()
    assert process.returncode == 0, said
    assert is_free(port)
    assert said.count("HTTP 200") == 2
    assert said.count("HTTP 400") == 1
    assert "expected a number, got a string ('large')" in said
    assert 'dle_requests_total{code="400",route="/predict"} 1.0' in said
    assert re.findall(r"^verdict +(.+) in the last 3600 s$", said, re.MULTILINE) == ["ok, 230 rows", "drift, 458 rows"]
    accuracies = re.findall(r"^accuracy by the labels +([0-9.]+), reference ([0-9.]+): (.+)$", said, re.MULTILINE)
    (before, reference, _), (after, *_) = accuracies
    assert [verdict for *_, verdict in accuracies] == ["ok", "drift"]
    assert before == reference > after
    assert len(re.findall(r"^  worst .*: drift$", said, re.MULTILINE)) == 3


def test_keep_leaves_a_service_that_the_printed_command_stops(port: int) -> None:
    process = demo(port, "--keep")
    said, _ = process.communicate()
    assert process.returncode == 0, said
    body = (ROOT / "demo" / "typical.json").read_bytes()
    answer = httpx.post(f"http://127.0.0.1:{port}/predict", content=body, headers={"content-type": "application/json"})
    assert answer.status_code == 200
    again = demo(port)
    refusal, _ = again.communicate()
    assert again.returncode == 1
    stop = re.search(r"^Stop it: +(kill [0-9]+)$", said, re.MULTILINE)
    assert stop
    assert stop[1] in refusal
    subprocess.run(["bash", "-c", stop[1]], check=True)
    eventually(lambda: is_free(port))


def test_ctrl_c_stops_the_service(port: int) -> None:
    process = demo(port)
    assert process.stdout is not None
    for line in process.stdout:
        if "A row of typical values" in line:
            break
    os.killpg(process.pid, signal.SIGINT)
    said, _ = process.communicate()
    assert process.returncode == 130, said
    assert is_free(port)
