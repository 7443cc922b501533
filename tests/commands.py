"""The real commands, in processes of their own, as a person runs them."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

BIN = Path(sys.executable).parent


def run(name: str, *arguments: object, folder: Path, code: int = 0) -> subprocess.CompletedProcess[str]:
    """Run a command in `folder` and insist on its exit code; no command ever shows a traceback."""
    done = subprocess.run(
        [BIN / name, *map(str, arguments)], cwd=folder, capture_output=True, text=True, timeout=240, check=False
    )
    said = f"{name} {' '.join(map(str, arguments))}\n{done.stdout}\n{done.stderr}"
    assert "Traceback" not in done.stderr, said
    assert done.returncode == code, said
    return done


def document(name: str, *arguments: object, folder: Path) -> dict[str, Any]:
    """The JSON document of a command run with `--json`."""
    content: dict[str, Any] = json.loads(run(name, *arguments, "--json", folder=folder).stdout)
    return content


def refusal(name: str, *arguments: object, folder: Path) -> str:
    """What a command says when arguments or data must change (exit code 2)."""
    done = run(name, *arguments, folder=folder, code=2)
    assert not done.stdout
    return done.stderr
