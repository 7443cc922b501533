"""The commands of this environment, for scripts that measure what they do."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any


def document(command: list[str]) -> dict[str, Any]:
    """The document that a command prints with --json; its errors end the script."""
    program = Path(sys.executable).with_name(command[0])
    print("$", *command, file=sys.stderr)
    done = subprocess.run([str(program), *command[1:], "--json"], stdout=subprocess.PIPE, text=True, check=False)
    if done.returncode:
        sys.exit(done.returncode)
    said: dict[str, Any] = json.loads(done.stdout)
    return said
