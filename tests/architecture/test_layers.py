"""What importing a package brings along, proven in processes of their own.

import-linter reads the source; this sees what really happens, also through third-party packages.
"""

import json
import os
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest
from tests import bundles

ROOT = Path(__file__).parents[2]
COMMANDS: dict[str, str] = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["scripts"]

TRAINING_STACK = {"torch", "pandas", "sklearn", "matplotlib", "seaborn", "onnx", "onnxscript", "tensorboard"}
FORBIDDEN = {
    "dle_bundle": TRAINING_STACK | {"bentoml", "onnxruntime", "starlette", "dle_training", "dle_serving", "dle_cli"},
    "dle_serving": TRAINING_STACK | {"dle_training", "dle_cli"},
    "dle_training": {"bentoml", "starlette", "dle_serving", "dle_cli"},
}
HEAVY = TRAINING_STACK | {
    "bentoml",
    "dle_serving",
    "dle_training",
    "numpy",
    "onnxruntime",
    "pyarrow",
    "starlette",
}

IMPORT_ALL = """
import importlib, json, pkgutil, sys
package = importlib.import_module(sys.argv[1])
for module in pkgutil.walk_packages(package.__path__, package.__name__ + "."):
    importlib.import_module(module.name)
print(json.dumps({"modules": sorted(sys.modules)}))
"""

IMPORT = """
import importlib, json, sys
importlib.import_module(sys.argv[1])
print(json.dumps({"modules": sorted(sys.modules)}))
"""

# Predicts as if nothing of the training stack were installed. PyArrow looks for pandas itself.
PREDICT = """
import json, sys
class Nothing:
    def find_spec(self, name, path, target=None):
        if name in sys.argv[3:]:
            raise ModuleNotFoundError(name)
sys.meta_path.insert(0, Nothing())
import dle_serving
found = dle_serving.load(sys.argv[1]).predict(json.loads(sys.argv[2]))
print(json.dumps({"columns": found.column_names}))
"""

HELP = """
import contextlib, importlib, io, json, sys
module, function = sys.argv[1].split(":")
sys.argv = [sys.argv[2], "--help"]
code, out = None, io.StringIO()
with contextlib.redirect_stdout(out):
    try:
        getattr(importlib.import_module(module), function)()
    except SystemExit as stop:
        code = stop.code
print(json.dumps({"modules": sorted(sys.modules), "code": code, "help": out.getvalue()}))
"""
BARE_TYPER = """
import contextlib, io, json, sys, typer
app = typer.Typer()
@app.command()
def bare(name: str = "") -> None: ...
sys.argv = ["bare", "--help"]
with contextlib.redirect_stdout(io.StringIO()), contextlib.suppress(SystemExit):
    app()
print(json.dumps({"modules": sorted(sys.modules)}))
"""


# Opens a graph with each of the modules that import ONNX Runtime.
OPEN = """
import importlib, sys
module = importlib.import_module(sys.argv[1])
module.onnxruntime.InferenceSession(sys.argv[2])
print("{}")
"""


def run(program: str, *arguments: str) -> dict[str, Any]:
    done = subprocess.run(
        [sys.executable, "-c", program, *arguments], capture_output=True, text=True, check=False, timeout=120
    )
    assert done.returncode == 0, done.stderr
    answer: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return answer


def test_the_process_that_supervises_a_server_imports_no_server_and_no_runtime() -> None:
    forbidden = {"bentoml", "circus", "onnxruntime", "starlette", "uvicorn"}
    assert not forbidden & set(run(IMPORT, "dle_serving.server.launcher")["modules"])


@pytest.mark.parametrize("package", FORBIDDEN)
def test_no_module_of_a_package_imports_what_its_floor_forbids(package: str) -> None:
    assert not FORBIDDEN[package] & set(run(IMPORT_ALL, package)["modules"])


@pytest.mark.parametrize("package", FORBIDDEN)
def test_importing_a_package_is_light(package: str) -> None:
    modules = set(run(IMPORT, package)["modules"])
    assert package in modules
    assert not HEAVY - {package} & modules


def test_python_predicts_without_torch_or_pandas(tmp_path: Path) -> None:
    bundle = bundles.write(tmp_path / "bundle")
    answer = run(PREDICT, str(bundle), json.dumps([bundles.EXAMPLE]), *FORBIDDEN["dle_serving"])
    assert answer["columns"] == ["label", "probability", "probability_<=50K", "probability_>50K"]


@pytest.mark.parametrize("command", COMMANDS)
def test_help_imports_nothing_heavy(command: str) -> None:
    answer = run(HELP, COMMANDS[command], command)
    assert not answer["code"]
    assert command in answer["help"]
    assert not HEAVY & set(answer["modules"])


@pytest.fixture(scope="module")
def bare_typer() -> set[str]:
    return set(run(BARE_TYPER)["modules"])


@pytest.mark.parametrize("command", COMMANDS)
def test_help_imports_less_than_that_of_a_bare_typer_app(command: str, bare_typer: set[str]) -> None:
    """`benchmarks/startup.py` measures the seconds."""
    modules = set(run(HELP, COMMANDS[command], command)["modules"])
    assert len(modules) < len(bare_typer)
    beyond = {module.partition(".")[0] for module in modules - bare_typer} - sys.stdlib_module_names
    assert beyond <= {"dle_cli", "dle_bundle", "msgspec", "typing_extensions"}


@pytest.mark.parametrize("module", ["dle_serving.models.runtime", "dle_training.export.parity"])
def test_onnx_runtime_reports_to_nobody(module: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bundle = bundles.write(tmp_path / "bundle")
    (home := tmp_path / "home").mkdir()
    monkeypatch.setenv("HOME", str(home))
    for name in [name for name in os.environ if name.startswith(("XDG_", "ORT_"))]:
        monkeypatch.delenv(name)
    run(OPEN, module, str(bundle / "model.onnx"))
    assert not list(home.rglob("*onnxruntime*")), "it keeps a device id there for its reports"
