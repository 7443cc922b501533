"""A real cluster of Ray on this machine: each of its nodes is a group of processes, which can be lost."""

import os
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import psutil
from tests import commands
from tests.e2e import servers
from tests.e2e.servers import DEADLINE, eventually

SURROUNDINGS = {
    **os.environ,
    "OMP_NUM_THREADS": "1",
    "RAY_AUTH_MODE": "disabled",
    "RAY_USAGE_STATS_ENABLED": "0",
    # a lost node is known to be lost within seconds
    "RAY_health_check_initial_delay_ms": "1000",
    "RAY_health_check_period_ms": "1000",
    "RAY_health_check_timeout_ms": "2000",
    "RAY_health_check_failure_threshold": "3",
}


class Node:
    """A machine of the cluster, as far as Ray knows."""

    def __init__(self, log: Path, *options: str) -> None:
        shape = ("--num-cpus=1", "--object-store-memory=80000000")
        command = [str(commands.BIN / "ray"), "start", *options, *shape, "--block"]
        with log.open("w") as file:
            # it starts the processes of the node, and waits for them
            self._process = subprocess.Popen(command, env=SURROUNDINGS, stdout=file, stderr=subprocess.STDOUT)

        def has_started() -> bool:
            assert self._process.poll() is None, log.read_text()
            return "Ray runtime started" in log.read_text()

        eventually(has_started, pause=0.2)

    def processes(self) -> list[psutil.Process]:
        """Those of the node, the first one first; none once it is lost."""
        if self._process.poll() is not None:
            return []
        first = psutil.Process(self._process.pid)
        return [first, *first.children(recursive=True)]

    def lose(self) -> None:
        """As when the machine is switched off."""
        everyone = self.processes()
        for each in everyone:
            each.kill()
        self._process.wait(DEADLINE)
        eventually(lambda: not servers.alive(everyone))


class Cluster:
    """A head and, when asked for, a second node, each of one CPU."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        port, other = free_port(), free_port()
        self.address = f"127.0.0.1:{port}"
        self._nodes = [
            Node(
                folder / "head.log", "--head", f"--port={port}", f"--ray-client-server-port={other}",
                f"--temp-dir={folder}", "--include-dashboard=false",
            )
        ]  # fmt: skip

    def second(self) -> Node:
        """The second node, a new one unless it is there."""
        if not self._nodes[-1].processes() or len(self._nodes) == 1:
            self._nodes.append(Node(self._folder / "second.log", f"--address={self.address}"))
        return self._nodes[-1]

    def close(self) -> None:
        for node in reversed(self._nodes):
            node.lose()


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port: int = server.getsockname()[1]
    return port


@contextmanager
def running() -> Iterator[Cluster]:
    """A cluster, until it is left."""
    # short, for the names of sockets have at most 107 characters
    with tempfile.TemporaryDirectory(prefix="dle-ray-") as folder, closing(Cluster(Path(folder))) as made:
        yield made
