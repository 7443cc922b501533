"""The code in README and docs does what the pages say.

The tutorial trains, exports and serves once. All other blocks run after it, in its folder and on its service.
"""

import os
import re
import shutil
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests import documents
from tests.commands import BIN
from tests.documents import PAGES, TUTORIAL, Block, Step

pytestmark = pytest.mark.e2e
OTHERS = [
    block
    for page in PAGES
    if page != TUTORIAL
    for block in documents.blocks(page)
    if block.language in ("console", "python")
]


class Terminal:
    """A folder in which commands run. Port 3000 of the documents is a free one here."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._servers: list[subprocess.Popen[str]] = []
        self._environment = {**os.environ, "PATH": f"{BIN}:{os.environ['PATH']}"}
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self._port = str(probe.getsockname()[1])

    def run(self, *command: str) -> str:
        """What the command prints; it must end well."""
        done = subprocess.run(
            [part.replace("3000", self._port) for part in command],
            cwd=self._folder,
            env=self._environment,
            capture_output=True,
            text=True,
            timeout=240,
            check=False,
        )
        assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
        return done.stdout.replace(self._port, "3000")

    def step(self, step: Step) -> str:
        """What a command of a transcript prints; one that ends in & until it says what to do next."""
        if not step.command.endswith("&"):
            return self.run("bash", "-ec", step.command)
        server = subprocess.Popen(
            ["bash", "-c", f"exec {step.command.rstrip(' &').replace('3000', self._port)}"],
            cwd=self._folder,
            env=self._environment,
            stdout=subprocess.PIPE,
            text=True,
        )
        self._servers.append(server)
        assert server.stdout is not None
        printed = ""
        for line in server.stdout:
            printed += line
            if line.startswith("Next:"):
                break
        return printed.replace(self._port, "3000")

    def close(self) -> None:
        """End what still runs."""
        for server in self._servers:
            server.terminate()
            server.wait(60)
            assert server.stdout is not None
            server.stdout.close()


@pytest.fixture(scope="module")
def terminal(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Terminal]:
    if shutil.which("curl") is None:
        pytest.skip("the documents call the service by curl, which is not installed")
    terminal = Terminal(tmp_path_factory.mktemp("documents"))
    yield terminal
    terminal.close()


@pytest.fixture(scope="module")
def tutorial(terminal: Terminal) -> list[tuple[Step, str]]:
    """The tutorial, run from its first command to its last: each command with what it printed."""
    return [(step, terminal.step(step)) for block in documents.blocks(TUTORIAL) for step in documents.steps(block.text)]


def check(step: Step, printed: str) -> None:
    """What is said is what was printed, but for numbers, the rules of tables, and what `…` leaves out."""
    actual, said = plain(printed), plain(step.output)
    first, *middle = [piece.strip() for piece in said.split("…")]
    assert actual.startswith(first), f"{step.command}\n{first}\nis not how this begins:\n{actual}"
    end = len(first)
    for piece in middle:
        found = actual.find(piece, end)
        assert found >= 0, f"{step.command}\n{piece}\nis not in:\n{actual}"
        end = found + len(piece)
    assert actual.endswith(middle[-1]) if middle else actual == first, f"{step.command}\n{said}\nis not:\n{actual}"


def plain(text: str) -> str:
    return " ".join(re.sub(r"[-+]?\d[\d.,]*(?:e[-+]?\d+)?", "#", text.replace("─", "")).split())


def test_the_tutorial(tutorial: list[tuple[Step, str]]) -> None:
    assert tutorial
    for step, printed in tutorial:
        check(step, printed)


@pytest.mark.usefixtures("tutorial")
@pytest.mark.parametrize("block", OTHERS, ids=lambda block: block.place)
def test_a_block(terminal: Terminal, block: Block) -> None:
    if block.language == "python":
        assert terminal.run("python", "-c", block.text)
        return
    for step in documents.steps(block.text):
        check(step, terminal.step(step))
