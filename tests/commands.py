"""The real commands as a person runs them: in this process, which has their packages loaded, or in one of its own."""

import contextlib
import importlib.metadata
import io
import json
import subprocess
import sys
from pathlib import Path
from typing import Any
from unittest import mock

BIN = Path(sys.executable).parent


def run(
    name: str, *arguments: object, folder: Path, code: int = 0, own_process: bool = False, sent: bytes = b""
) -> "subprocess.CompletedProcess[str]":
    """Run a command in `folder` and insist on its exit code; no command ever shows a traceback.

    `sent` is its standard input. A process of its own takes seconds to load PyTorch: it is for claims about processes.
    It is called as `quick` says.
    """
    words = quick(name, *arguments)
    done = _in_own_process(words, folder, sent) if own_process else _here(words, folder, sent)
    said = f"{' '.join(words)}\n{done.stdout}\n{done.stderr}"
    assert "Traceback" not in done.stderr, said
    assert done.returncode == code, said
    return done


def quick(name: str, *arguments: object) -> list[str]:
    """The words of a command; `dle-train` trains no baselines unless it is asked to, because few tests look at them."""
    words = [name, *map(str, arguments)]
    asked = {"--baseline", "--no-baseline", "--resume"} & set(words)
    return [*words, "--no-baseline"] if name == "dle-train" and not asked else words


def _in_own_process(words: list[str], folder: Path, sent: bytes) -> "subprocess.CompletedProcess[str]":
    done = subprocess.run(
        [BIN / words[0], *words[1:]], cwd=folder, input=sent, capture_output=True, timeout=240, check=False
    )
    return subprocess.CompletedProcess(words, done.returncode, done.stdout.decode(), done.stderr.decode())


def _here(words: list[str], folder: Path, sent: bytes) -> "subprocess.CompletedProcess[str]":
    (command,) = importlib.metadata.entry_points(group="console_scripts", name=words[0])
    out, err = (io.TextIOWrapper(io.BytesIO(), encoding="utf-8", write_through=True) for _ in range(2))
    code: object = 0
    with (
        contextlib.chdir(folder),
        contextlib.redirect_stdout(out),
        contextlib.redirect_stderr(err),
        mock.patch.object(sys, "argv", words),
        mock.patch.object(sys, "stdin", io.TextIOWrapper(io.BytesIO(sent))),
    ):
        try:
            command.load()()
        except SystemExit as ended:
            code = ended.code or 0
    assert isinstance(code, int), code
    said = [stream.buffer.getvalue().decode() for stream in (out, err)]
    return subprocess.CompletedProcess(words, code, *said)


def document(name: str, *arguments: object, folder: Path, own_process: bool = False) -> dict[str, Any]:
    """The JSON document of a command run with `--json`."""
    done = run(name, *arguments, "--json", folder=folder, own_process=own_process)
    content: dict[str, Any] = json.loads(done.stdout)
    return content


def refusal(name: str, *arguments: object, folder: Path, own_process: bool = False) -> str:
    """What a command says when arguments or data must change (exit code 2)."""
    done = run(name, *arguments, folder=folder, code=2, own_process=own_process)
    assert not done.stdout
    return done.stderr
