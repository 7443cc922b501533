"""Runs the commands of this environment for the benchmark scripts."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any


def document(command: list[str]) -> dict[str, Any]:
    """Run a command with --json and return the document that it prints. If the command fails, the script ends."""
    program = Path(sys.executable).with_name(command[0])
    print("$", *command, file=sys.stderr)
    done = subprocess.run([str(program), *command[1:], "--json"], stdout=subprocess.PIPE, text=True, check=False)
    if done.returncode:
        sys.exit(done.returncode)
    said: dict[str, Any] = json.loads(done.stdout)
    return said
