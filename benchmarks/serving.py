"""Compares the throughput of the service with a bare server: one row, 64 connections, one core for each side.

    python benchmarks/serving.py [--bundle DIR] [--rounds N] [--seconds N] [--memory SECONDS]

The bare server is uvicorn, which answers with the same bytes and computes nothing. `unwatched` is the service with
DLE_MONITORING=false. All servers are pinned to the first core, and the clients to the second. The servers are measured
in turns, so that other work on the machine slows all of them down alike. The median ratio over the rounds must be at
least 0.25 of uvicorn and 0.9 of the unwatched service. Then the script watches the service's memory under load, which
should not grow. The load comes from wrk if it is installed, otherwise from a small client in this file, which uses some
of the second core itself.
"""

import argparse
import asyncio
import json
import os
import re
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

DEMANDED = 0.25
DEMANDED_WATCHED = 0.9
CONNECTIONS = 64
BARE = """
import sys
from pathlib import Path
import uvicorn

body = Path(sys.argv[2]).read_bytes()
headers = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(body))]

async def app(scope, receive, send):
    await receive()
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": body})

uvicorn.run(app, port=int(sys.argv[1]), log_level="warning", access_log=False, lifespan="off")
"""
LAUNCH = """
import sys
from pathlib import Path
from dle_serving.server.launcher import serve

serve([Path(sys.argv[2])], port=int(sys.argv[1]), device="cpu", on_ready=lambda ready: print(ready.url, flush=True))
"""


def main() -> None:
    """Measure and print. The exit code is 1 if a demand is not met."""
    options = _options()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        bundle = options.bundle or _small_bundle(folder)
        body = folder / "body.json"
        body.write_bytes(_example(bundle))
        with _service(folder, bundle.resolve()) as (port, pid):
            answer = folder / "answer.json"
            answer.write_bytes(_post(port, body.read_bytes()))
            with _bare(answer) as bare, _service(folder, bundle.resolve(), monitoring=False) as (unwatched, _):
                ports = {"uvicorn": bare, "unwatched": unwatched, "service": port}
                figures = _rounds(ports, body, options.rounds, options.seconds)
            for who, rates in figures.items():
                print(f"{who:10}{statistics.median(rates):9,.0f} requests/s   of {[round(rate) for rate in rates]}")
            ratio = _median_of_pairs(figures["service"], figures["uvicorn"])
            watched = _median_of_pairs(figures["service"], figures["unwatched"])
            print(f"ratio     {ratio:9.2f} of uvicorn (demanded: {DEMANDED})")
            print(f"watched   {watched:9.2f} of the service without monitoring (demanded: {DEMANDED_WATCHED})")
            if options.memory:
                _watch_memory(port, pid, body, options.memory)
    sys.exit(0 if ratio >= DEMANDED and watched >= DEMANDED_WATCHED else 1)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="The service against a bare uvicorn.")
    parser.add_argument("--bundle", type=Path, help="a bundle; without it, a small one of every kind of input")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=int, default=4, help="seconds of each round")
    parser.add_argument("--memory", type=int, default=60, help="seconds of load under which memory is watched")
    return parser.parse_args()


def _small_bundle(folder: Path) -> Path:
    sys.path.insert(0, str(Path(__file__).parents[1]))
    from tests import bundles

    return bundles.write(folder / "income")


def _example(bundle: Path) -> bytes:
    inputs = json.loads((bundle / "schema.json").read_text())["inputs"]
    return json.dumps({"rows": [{field["name"]: field.get("example") for field in inputs}]}).encode()


def _rounds(ports: dict[str, int], body: Path, rounds: int, seconds: int) -> dict[str, list[float]]:
    figures: dict[str, list[float]] = {who: [] for who in ports}
    for port in ports.values():
        _load(port, body, 1)
    for _ in range(rounds):
        for who, port in ports.items():
            figures[who].append(_load(port, body, seconds))
    return figures


def _watch_memory(port: int, pid: int, body: Path, seconds: int) -> None:
    """Print how the worker's resident memory changed, by least squares over ten points."""
    points: list[tuple[float, float]] = []
    for _ in range(10):
        _load(port, body, max(seconds // 10, 1))
        resident = int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 2**20
        points.append((time.monotonic() / 60, resident))
    slope = statistics.linear_regression([at for at, _ in points], [size for _, size in points]).slope
    print(f"memory   {points[0][1]:9.1f} MiB at first, {points[-1][1]:.1f} MiB at last, {slope:+.2f} MiB a minute")


def _load(port: int, body: Path, seconds: int) -> float:
    """Return the requests per second of clients on the second core. Every answer must have status 200."""
    if shutil.which("wrk"):
        script = body.with_suffix(".lua")
        text = body.read_text().replace("\\", "\\\\").replace("'", "\\'")
        kind = 'wrk.headers["content-type"] = "application/json"'
        script.write_text(f"wrk.method = \"POST\"\n{kind}\nwrk.body = '{text}'\n")
        wrk = ["wrk", "-t1", f"-c{CONNECTIONS}", f"-d{seconds}", "-s", str(script), f"http://127.0.0.1:{port}/predict"]
        said = subprocess.run(_pinned(1, wrk), capture_output=True, text=True, check=True).stdout
        rate = re.search(r"Requests/sec:\s+([0-9.]+)", said)
        assert rate, said
        assert "Non-2xx" not in said, said
        return float(rate[1])
    client = [sys.executable, __file__, "--client", str(port), str(body), str(seconds)]
    return float(subprocess.run(_pinned(1, client), capture_output=True, text=True, check=True).stdout)


class _Client(asyncio.Protocol):
    """Sends the request again as soon as the answer has arrived. All answers must have the same length."""

    def __init__(self, request: bytes, counts: list[int]) -> None:
        self._request = request
        self._counts = counts
        self._expected = self._seen = 0
        self._head = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        transport.write(self._request)

    def data_received(self, data: bytes) -> None:
        if not self._expected:
            self._head += data
            head, end, rest = self._head.partition(b"\r\n\r\n")
            if not end:
                return
            assert b" 200 " in head, head
            length = re.search(rb"content-length: (\d+)", head)
            assert length
            self._expected, data, self._head = int(length[1]), rest, b""
        self._seen += len(data)
        if self._seen >= self._expected:
            self._expected = self._seen = 0
            self._counts[0] += 1
            self._transport.write(self._request)


async def _client(port: int, body: bytes, seconds: float) -> float:
    request = b"POST /predict HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n%b"
    counts = [0]
    loop = asyncio.get_running_loop()
    for _ in range(CONNECTIONS):
        await loop.create_connection(lambda: _Client(request % (len(body), body), counts), "127.0.0.1", port)
    await asyncio.sleep(seconds)
    return counts[0] / seconds


def _median_of_pairs(ours: list[float], theirs: list[float]) -> float:
    """Return the median ratio within each round, because the speed of the machine changes between rounds."""
    return statistics.median(one / other for one, other in zip(ours, theirs, strict=True))


@contextmanager
def _service(folder: Path, bundle: Path, *, monitoring: bool = True) -> Iterator[tuple[int, int]]:
    """Start the service, and yield its port and the process id of its worker."""
    port = _free_port()
    command = _pinned(0, [sys.executable, "-c", LAUNCH, str(port), str(bundle)])
    environment = {**os.environ, "DLE_MONITORING": "true" if monitoring else "false"}
    process = subprocess.Popen(command, cwd=folder, env=environment, stdout=subprocess.PIPE)
    try:
        assert process.stdout is not None
        assert process.stdout.readline(), "the service did not start"
        yield port, _worker(process.pid)
    finally:
        process.terminate()
        process.wait()


def _worker(pid: int) -> int:
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return _worker(int(children[0])) if children else pid


@contextmanager
def _bare(answer: Path) -> Iterator[int]:
    port = _free_port()
    process = subprocess.Popen(_pinned(0, [sys.executable, "-c", BARE, str(port), str(answer)]))
    try:
        while process.poll() is None:
            try:
                socket.create_connection(("127.0.0.1", port)).close()
                break
            except ConnectionRefusedError:
                time.sleep(0.05)
        yield port
    finally:
        process.terminate()
        process.wait()


def _pinned(core: int, command: list[str]) -> list[str]:
    cores = sorted(os.sched_getaffinity(0))
    return ["taskset", "-c", str(cores[core % len(cores)]), *command]


def _post(port: int, body: bytes) -> bytes:
    request = urllib.request.Request(f"http://127.0.0.1:{port}/predict", body, {"content-type": "application/json"})
    with urllib.request.urlopen(request) as response:
        content: bytes = response.read()
        return content


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port: int = probe.getsockname()[1]
        return port


if __name__ == "__main__":
    if sys.argv[1:2] == ["--client"]:
        print(asyncio.run(_client(int(sys.argv[2]), Path(sys.argv[3]).read_bytes(), float(sys.argv[4]))))
    else:
        main()
