"""The notebook of the docs runs from its first cell to its last, and each cell that ends in a value shows one."""

import ast
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from tests.documents import ROOT

pytestmark = pytest.mark.e2e
NOTEBOOK: dict[str, Any] = json.loads((ROOT / "docs" / "notebook.ipynb").read_text(encoding="utf-8"))
CELLS = {cell["id"]: "".join(cell["source"]) for cell in NOTEBOOK["cells"] if cell["cell_type"] == "code"}


def shows_its_value(name: str, source: str) -> str:
    """The cell as Python runs it; a value at its end is written to a file, as a notebook shows it."""
    tree = ast.parse(source)
    if isinstance(last := tree.body[-1], ast.Expr):
        show = f"open({name + '.shown'!r}, 'w').write(getattr(it, '_repr_html_', it.__repr__)())"
        shown = f"it = {ast.unparse(last)}\n{show}"
        tree.body[-1:] = ast.parse(shown).body
    return ast.unparse(tree)


def test_the_notebook(tmp_path: Path) -> None:
    program = "\n".join(shows_its_value(name, source) for name, source in CELLS.items())
    done = subprocess.run(
        [sys.executable, "-c", program],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "Target: diagnosis, binary with 2 classes" in done.stdout
    assert "epoch 1/20: loss " in done.stdout
    shown = {path.stem: path.read_text() for path in tmp_path.glob("*.shown")}
    assert set(shown) == {"data", "scores", "page", "answers", "bundle", "request"}
    assert shown["page"].startswith("<iframe")
    assert "'accuracy': 0.9" in shown["scores"]
    for name in ("answers", "bundle", "request"):
        assert "probability_malignant" in shown[name]


def test_the_notebook_holds_no_output() -> None:
    """Output would go stale; who opens the notebook runs it."""
    assert all(not cell["outputs"] for cell in NOTEBOOK["cells"] if cell["cell_type"] == "code")
