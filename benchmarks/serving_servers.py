"""Starts and stops the servers that `serving.py` measures. Each is pinned to the first core; clients use the second."""

import http.client
import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil

HERE = Path(__file__).parent
SERVER_CORE, CLIENT_CORE = 0, 1
DEADLINE_SECONDS = 120.0
JSON = {"content-type": "application/json"}
_LAUNCH = "from dle_cli.serve import main; main()"
_RIVALS = HERE / "serving_rivals.py"


class NotMeasured(Exception):
    """A server cannot be measured here; the message says why."""


@dataclass(frozen=True, slots=True)
class Asked:
    """A request that clients repeat: a POST of the `body` to `path`."""

    port: int
    path: str
    body: Path
    headers: Mapping[str, str] = field(default_factory=lambda: JSON)


@dataclass(frozen=True, slots=True)
class Server:
    """A running server."""

    port: int
    pid: int
    ready_seconds: float = 0.0

    def pss(self) -> float:
        """The memory of all its processes in MiB: what they share is counted once."""
        process = psutil.Process(self.pid)
        everyone = [process, *process.children(recursive=True)]
        return float(sum(each.memory_full_info().pss for each in everyone)) / 2**20

    def get(self, path: str) -> bytes:
        """The response to a GET."""
        return exchange(self.port, "GET", path)

    def post(self, path: str, body: bytes, headers: Mapping[str, str] = JSON) -> bytes:
        """The response to a POST; raises ValueError unless its status is 200."""
        return exchange(self.port, "POST", path, body, headers)


def exchange(port: int, method: str, path: str, body: bytes | None = None, headers: Mapping[str, str] = JSON) -> bytes:
    """Send one request. Raises ValueError for another status than 200, OSError if there is no server."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    try:
        connection.request(method, path, body, headers if body else {})
        response = connection.getresponse()
        content = response.read()
    finally:
        connection.close()
    if response.status != 200:
        raise ValueError(f"status {response.status}: {content[:500]!r}")
    return content


@contextmanager
def dle(bundle: Path, folder: Path, **settings: object) -> Iterator[Server]:
    """`dle-serve` with one worker, unless `settings` (DLE_… variables) say otherwise."""
    with running(dle_command(bundle), folder, "/readyz", settings) as server:
        yield server


def dle_command(bundle: Path) -> list[str]:
    """The command of `dle-serve`, without its port."""
    return [sys.executable, "-c", _LAUNCH, str(bundle.resolve()), "--quiet", "--port"]


@contextmanager
def bare(answer: bytes, folder: Path) -> Iterator[Server]:
    """A bare uvicorn that computes nothing: it sends these bytes."""
    file = folder / f"answer-{len(list(folder.glob('answer-*')))}"
    file.write_bytes(answer)
    with running([sys.executable, str(_RIVALS), "bare", str(file)], folder, "/") as server:
        yield server


@contextmanager
def rival(name: str, peers: Path | None, bundle: Path, folder: Path) -> Iterator[Server]:
    """A peer, in its own environment `peers/NAME`. Raises NotMeasured if it does not start."""
    python = python_of(name, peers)
    model, own = {"MODEL": bundle.resolve()}, folder / name
    own.mkdir(exist_ok=True)
    commands = {
        "fastapi": ([str(python), str(_RIVALS), "fastapi", str(bundle)], "/health"),
        "bentoml": ([str(python), "-m", "bentoml", "serve", "serving_bento:Income", "--port"], "/readyz"),
        "bentoml-bare": ([str(python), "-m", "bentoml", "serve", "serving_bento:Bare", "--port"], "/readyz"),
        "triton": ([str(python), str(_RIVALS), "triton", str(bundle), str(own)], "/v2/health/ready"),
    }
    command, ready = commands[name]
    environment = {**model, "PYTHONPATH": HERE, "BENTOML_HOME": own, "BENTOML_DO_NOT_TRACK": "True"}
    with running(command, own, ready, environment) as server:
        yield server


def python_of(name: str, peers: Path | None) -> Path:
    """The interpreter of a peer's environment; raises NotMeasured if there is none."""
    if peers is None:
        raise NotMeasured("--peers is not given")
    python = peers.resolve() / name.removesuffix("-bare") / "bin" / "python"
    if not python.exists():
        raise NotMeasured(f"{python} does not exist")
    return python


@contextmanager
def running(
    command: Sequence[str], folder: Path, ready: str, settings: Mapping[str, object] | None = None, files: int = 0
) -> Iterator[Server]:
    """Run a server whose last argument is its port, until `ready` answers 200; `files` bounds its open files.

    Raises NotMeasured with the end of its log if it does not start.
    """
    port = free_port()
    log = folder / f"server-{port}.log"
    begun = time.perf_counter()
    process = start(command, port, folder, settings, files, log)
    try:
        while not _answers(port, ready):
            if process.poll() is not None or time.perf_counter() - begun > DEADLINE_SECONDS:
                raise NotMeasured(f"it does not start: {log.read_text()[-600:].strip()}")
            time.sleep(0.01)
        yield Server(port, process.pid, time.perf_counter() - begun)
    finally:
        process.terminate()
        process.wait()


def start(
    command: Sequence[str],
    port: int,
    folder: Path,
    settings: Mapping[str, object] | None = None,
    files: int = 0,
    log: Path | None = None,
) -> "subprocess.Popen[Any]":
    """Start a server on the first core; nothing waits until it is ready."""
    limited = [*(["prlimit", f"--nofile={files}"] if files else []), *command, str(port)]
    own = {"DLE_HOME": str(folder / f"home-{port}"), "OMP_NUM_THREADS": "1"}
    environment = {**os.environ, **own, **{name: str(value) for name, value in (settings or {}).items()}}
    with (log or folder / "server.log").open("a") as out:
        return subprocess.Popen(pinned(SERVER_CORE, limited), cwd=folder, env=environment, stdout=out, stderr=out)


def pinned(core: int, command: Sequence[str]) -> list[str]:
    """The command, to run on this core alone."""
    cores = sorted(os.sched_getaffinity(0))
    if shutil.which("taskset") is None:
        sys.exit("error: taskset is needed (package util-linux)")
    return ["taskset", "-c", str(cores[core % len(cores)]), *command]


def free_port() -> int:
    """A port that nothing listens on."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port: int = probe.getsockname()[1]
        return port


def _answers(port: int, path: str) -> bool:
    try:
        exchange(port, "GET", path)
    except (OSError, ValueError, http.client.HTTPException):
        return False
    return True
