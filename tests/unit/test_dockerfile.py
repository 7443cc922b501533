"""The Dockerfile keeps to the rules of its craft; tests/e2e/test_images.py builds it and runs what comes of it."""

import re
import subprocess
import sys
from pathlib import Path

from tests.documents import ROOT


def test_hadolint_finds_nothing() -> None:
    hadolint = Path(sys.executable).parent / "hadolint"
    done = subprocess.run([hadolint, ROOT / "Dockerfile"], capture_output=True, text=True, check=False)
    assert not done.returncode, done.stdout + done.stderr


def test_what_it_copies_reaches_the_builder() -> None:
    allowed = re.findall(r"^!/(.*)$", (ROOT / ".dockerignore").read_text(encoding="utf-8"), re.MULTILINE)
    assert all((ROOT / name).exists() for name in allowed)
    packages = re.search(r"^packages = (.*)$", (ROOT / "pyproject.toml").read_text(encoding="utf-8"), re.MULTILINE)
    assert packages is not None
    assert set(re.findall(r'"(\w+)/', packages[1])) <= set(allowed)
