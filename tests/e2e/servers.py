"""Real servers in processes of their own, and what tests do with them from outside."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import psutil

from dle_serving.server import supervisor

LAUNCH = """
import json, sys
from pathlib import Path
from dle_bundle.errors import DleError
from dle_serving.server import launcher, supervisor

def say(ready):
    models = [[model.model, model.version, model.provider] for model in ready.models]
    print(json.dumps({"url": ready.url, "models": models, "home": str(ready.home)}), flush=True)

supervisor.GRACE_SECONDS = int(sys.argv.pop(1))
try:
    host, workers, *bundles = sys.argv[1:]
    launcher.serve([Path(path) for path in bundles], host=host, port=0, workers=int(workers), on_ready=say)
except DleError as error:
    print(f"Error: {error}", file=sys.stderr)
    sys.exit(error.exit_code)
"""
DEADLINE = 60.0
GRACE = 3600
"""Nothing is ended by force: what does not end by itself fails its test."""


@dataclass(frozen=True)
class Server:
    """A server that is ready. `process` is the launcher; `log` is what it and its workers wrote."""

    process: "subprocess.Popen[str]"
    url: str
    home: Path
    models: list[Any]
    log: Path

    def processes(self) -> list[psutil.Process]:
        """The launcher and all that came of it."""
        launcher = psutil.Process(self.process.pid)
        return [launcher, *launcher.children(recursive=True)]

    def workers(self) -> list[psutil.Process]:
        """The processes that answer."""
        return [process for process in self.processes() if supervisor.WORKER in command(process)]


def command(process: psutil.Process) -> list[str]:
    """A process's command line; empty when it is gone."""
    try:
        words: list[str] = process.cmdline()
    except psutil.Error:
        return []
    return words


@contextmanager
def serving(
    folder: Path, *bundles: Path, workers: int = 1, host: str = "127.0.0.1", grace: int = GRACE, **environment: str
) -> Iterator[Server]:
    """A server started by the launcher in `folder`, ended (and proven to be) when the block ends."""
    log = folder / "server.log"
    process = launch(folder, log, *bundles, workers=workers, host=host, grace=grace, **environment)
    assert process.stdout is not None
    line = process.stdout.readline()
    assert line, log.read_text()
    said = json.loads(line)
    server = Server(process, said["url"], folder / said["home"], said["models"], log)
    everyone = server.processes()
    try:
        yield server
    finally:
        if process.poll() is None:
            process.terminate()
        try:
            process.wait(DEADLINE)
            eventually(lambda: not alive(everyone))
        finally:
            process.kill()
            process.stdout.close()


def launch(
    folder: Path,
    log: Path,
    *bundles: Path,
    workers: int = 1,
    host: str = "127.0.0.1",
    grace: int = GRACE,
    **environment: str,
) -> "subprocess.Popen[str]":
    """The launcher, not yet ready; the caller waits for it."""
    with log.open("w") as file:
        return subprocess.Popen(
            [sys.executable, "-c", LAUNCH, str(grace), host, str(workers), *map(str, bundles)],
            cwd=folder,
            env={**os.environ, **environment},
            stdout=subprocess.PIPE,
            stderr=file,
            text=True,
        )


@contextmanager
def bentoml_serve(
    folder: Path, *options: str, target: str = "dle_serving.service:Service", **environment: str
) -> Iterator[tuple["subprocess.Popen[bytes]", str]]:
    """`bentoml serve` as the documentation has it, in `folder`, on a free port; its process and its address."""
    with running_bentoml(folder, sys.executable, "-m", "bentoml", "serve", target, *options, **environment) as running:
        yield running


@contextmanager
def running_bentoml(folder: Path, *command: str, **environment: str) -> Iterator[tuple["subprocess.Popen[bytes]", str]]:
    """A command that ends in `bentoml serve`, in `folder`, on a free port; it writes to the file `log`."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    own = {"BENTOML_HOME": str(folder / "bentoml"), "BENTOML_DO_NOT_TRACK": "True"}
    with (folder / "log").open("w") as log:
        process = subprocess.Popen(
            [*command, "--port", str(port)],
            cwd=folder,
            env={**os.environ, **own, **environment},
            stdout=log,
            stderr=subprocess.STDOUT,
        )
    try:
        yield process, f"http://127.0.0.1:{port}"
    finally:
        if process.poll() is None:
            process.terminate()
        process.wait(DEADLINE)


def alive(processes: list[psutil.Process]) -> list[psutil.Process]:
    """Those that still run (a zombie that nobody has waited for does not)."""
    return [process for process in processes if process.is_running() and process.status() != psutil.STATUS_ZOMBIE]


def eventually(condition: Callable[[], Any], seconds: float = DEADLINE, pause: float = 0.02) -> Any:
    """Wait until `condition`, asked every `pause` seconds, gives something true; what it gives."""
    end = time.monotonic() + seconds
    while True:
        try:
            found = condition()
        except (httpx.TransportError, psutil.Error):
            found = None
        if found:
            return found
        assert time.monotonic() < end, "it did not happen"
        time.sleep(pause)


def raw(url: str, content: bytes) -> socket.socket:
    """A connection on which `content` was sent as it is."""
    address = httpx.URL(url)
    connection = socket.create_connection((address.host, address.port or 80), timeout=DEADLINE)
    connection.sendall(content)
    return connection


def answer(connection: socket.socket) -> tuple[int, dict[str, Any]]:
    """Status and JSON body of one answer with a content-length."""
    with connection.makefile("rb") as file:
        status = int(file.readline().split()[1])
        length = 0
        while (line := file.readline()) not in (b"\r\n", b""):
            name, _, value = line.partition(b":")
            if name.lower() == b"content-length":
                length = int(value)
        return status, json.loads(file.read(length))


def signalled(process: "subprocess.Popen[str]", number: signal.Signals) -> int:
    """The exit code after a signal."""
    process.send_signal(number)
    return process.wait(DEADLINE)
