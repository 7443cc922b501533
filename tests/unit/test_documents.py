"""What README and docs name is there, and what is there is named; the code in them runs in tests/e2e."""

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import typer
from docs.generate import COMMANDS
from tests import bundles, documents
from tests.documents import PAGES, ROOT, TUTORIAL
from tests.inprocess import InProcess

from dle_bundle import bundle
from dle_serving import errors
from dle_serving.monitoring.metrics import FAULT_CODES
from dle_serving.settings import ServerSettings
from dle_training.config import run_config
from dle_training.runs.folder import RunFolder

PACKAGES = ("cli/dle_cli", "training/dle_training", "serving/dle_serving", "bundle/dle_bundle")
name = pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)


def read(page: str) -> str:
    return (ROOT / page).read_text(encoding="utf-8")


@pytest.mark.parametrize("script", ["generate.py", "line.py"])
def test_generated_files_are_what_their_scripts_write(script: str) -> None:
    done = subprocess.run(
        [sys.executable, ROOT / "docs" / script, "--check"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


def test_the_quick_start_has_the_commands_of_the_tutorial() -> None:
    start = next(block.text for block in documents.blocks(ROOT / "README.md") if "dle-train" in block.text)
    commands = [line.partition("#")[0].strip() for line in start.splitlines() if line.startswith(("dle-", "curl"))]
    taught = [step.command for block in documents.blocks(TUTORIAL) for step in documents.steps(block.text)]
    assert commands
    assert set(commands) <= set(taught)


@name
def test_links_lead_somewhere(page: Path) -> None:
    for target, anchor in re.findall(r"\]\((?!https?:)([^)#]*)#?([^)]*)\)", documents.prose(page)):
        path = page.parent / target if target else page
        assert path.exists(), target
        if anchor:
            headings = re.findall(r"^#+ (.*)$", path.read_text(encoding="utf-8"), re.MULTILINE)
            assert anchor in {heading.lower().replace(" ", "-") for heading in headings}, anchor


@name
def test_pictures_exist(page: Path) -> None:
    for source in re.findall(r'<img src="([^"]*)"', documents.prose(page)):
        assert (page.parent / source).is_file(), source


@name
def test_paths_of_the_repository_exist(page: Path) -> None:
    folders = r"(?:scripts|docs|tests|benchmarks|cli|training|serving|bundle|\.ci)/"
    for path in re.findall(rf"(?<![^\s`])({folders}[^\s`:,;]*)", page.read_text(encoding="utf-8")):
        assert (ROOT / path).exists(), path


@name
def test_options_of_commands_exist(page: Path) -> None:
    text = re.sub(r"\\\n", " ", page.read_text(encoding="utf-8"))
    for command, rest in re.findall(r"(?:^|[`$] ?)(dle-[a-z]+)((?: [^`\n|#]*)?)", text, re.MULTILINE):
        app: Any = typer.main.get_command(COMMANDS[command])
        known = {option for parameter in app.params for option in parameter.opts} | {"--help"}
        assert set(re.findall(r"(?<= )--[a-z-]+", rest)) <= known, (command, rest)


@name
def test_settings_exist(page: Path) -> None:
    definitions = run_config.json_schema()["$defs"]
    sections = {
        section: set(definitions[value["$ref"].rpartition("/")[2]]["properties"])
        for section, value in definitions["RunConfig"]["properties"].items()
        if "$ref" in value
    }
    for section, key in re.findall(rf"\b({'|'.join(sections)})\.([a-z_]+)\b", documents.prose(page)):
        assert key in sections[section] | {"json", "md", "npz", "onnx", "py"}, f"{section}.{key}"


def test_the_installed_torch_is_the_one_of_the_constraints() -> None:
    (torch,) = re.findall(r"^torch==.*$", read("constraints.txt"), re.MULTILINE)
    assert torch in read("README.md")


def test_the_tree_names_what_there_is() -> None:
    tree = next(block.text for block in documents.blocks(ROOT / "README.md") if "dle_cli/" in block.text)
    named, above = set(), [Path()]
    for line in tree.splitlines():
        path = line.split()[0]
        depth = (len(line) - len(line.lstrip())) // 2
        entry = above[depth] / path
        above[depth + 1 :] = [entry]
        assert (ROOT / entry).is_dir() if path.endswith("/") else (ROOT / entry).is_file(), entry
        named.add(entry)
    rooms = {file.parent.relative_to(ROOT) for package in PACKAGES for file in (ROOT / package).rglob("__init__.py")}
    assert rooms <= named


def test_quoted_errors_are_those_of_the_code() -> None:
    code = "\n".join(
        file.read_text(encoding="utf-8") for package in PACKAGES for file in (ROOT / package).rglob("*.py")
    )
    # a message that is written over two lines of code
    code = re.sub(r'"\s*\n\s*f?"', "", code)
    listed = documents.prose(ROOT / "docs" / "tables.md").split("## Errors")[1]
    for cell in re.findall(r"^\| (`.*?`) \|", listed, re.MULTILINE):
        for message in re.findall(r"`([^`]*)`", cell):
            for piece in message.split("…"):
                assert piece.strip() in code, message


def test_http_is_described_whole(tmp_path: Path) -> None:
    text = read("docs/http.md")

    bundles.write(tmp_path / "income")
    service = InProcess(ServerSettings(bundles=(tmp_path / "income",), home=tmp_path))
    routes = {route.path for route in service.app._router.routes}
    assert set(re.findall(r"`(?:GET|POST) (/[^`]*)`", text)) == routes
    statuses = {kind.status for kind in vars(errors).values() if isinstance(kind, type) and hasattr(kind, "status")}
    assert {int(status) for status in re.findall(r"^\| (\d+) \|", text, re.MULTILINE)} == statuses
    for code in FAULT_CODES:
        assert f"| `{code}`" in text
    series = re.findall(r"^# TYPE (\S+)", service.get("/metrics").text, re.MULTILINE)
    rows = re.findall(r"^\| (`dle_[^|]+)\|", text, re.MULTILINE)
    assert {name for row in rows for name in re.findall(r"`(dle_[a-z_0-9]+)`", row)} == set(series)
    service.close()


def test_files_are_described_whole() -> None:
    training, exported = read("docs/training.md"), read("docs/bundle.md")
    folder = RunFolder(Path("run"))
    kept = [
        value for value in (getattr(folder, key) for key in dir(folder) if key[0] != "_") if isinstance(value, Path)
    ]
    for path in kept:
        assert path == folder.path or f"`{path.name}" in training, path
    for file in (bundle.MANIFEST, *bundle.FILES):
        assert f"| `{file}` |" in exported, file
