"""The images of the Dockerfile, for real: one trains and exports, the other serves just that bundle.

The serving image holds nothing that serving does not need, and writes nowhere but to its directory.
"""

import csv
import fnmatch
import json
import os
import re
import socket
import subprocess
import sys
import tempfile
import tomllib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest
from sklearn.datasets import load_breast_cancer
from tests import commands
from tests.documents import ROOT
from tests.e2e.images import Builder, Container, Image, obstacle
from tests.e2e.servers import DEADLINE, alive, eventually

pytestmark = [pytest.mark.full, pytest.mark.e2e, pytest.mark.timeout(1800)]
HOME = Path("/var/lib/dle")
USER = 10001
COMMAND = ["/opt/dle/bin/python", "/opt/dle/bin/dle-serve"]
UNWANTED = (
    "torch/__init__.py", "torch-*.dist-info", "libtorch*", "pandas/__init__.py", "pandas-*.dist-info",
    "sklearn/__init__.py", "scikit_learn-*.dist-info", "pip/__init__.py", "pip-*.dist-info", "pip-*.whl", "bin/pip*",
    "bin/*cc", "bin/*cc-[0-9]*", "bin/*++", "bin/*++-[0-9]*", "bin/cpp", "bin/clang*", "bin/as", "bin/ld",
)  # fmt: skip
"""Names of files and folders that serving has no use for; compilers by where a shell finds them."""
MODULES = ("torch", "pandas", "sklearn", "pip")


def unwanted(root: Path) -> set[str]:
    """The patterns of UNWANTED that something below `root` fits."""
    found = set()
    for folder, folders, files in os.walk(root):
        for name in (*folders, *files):
            place = f"{Path(folder).name}/{name}"
            found |= {pattern for pattern in UNWANTED if fnmatch.fnmatch(place if "/" in pattern else name, pattern)}
    return found


def importable(container: Container, python: str) -> set[str]:
    """The modules of MODULES that an interpreter of the image can import."""
    probe = f"""
import importlib
for name in {MODULES}:
    try:
        importlib.import_module(name)
    except ImportError:
        continue
    print(name)
"""
    return set(container.run(python, "-c", probe).split())


@pytest.mark.parametrize(
    "path",
    [
        "lib/torch/__init__.py", "lib/torch-2.13.0.dist-info", "lib/libtorch_cpu.so", "lib/pandas/__init__.py",
        "lib/sklearn/__init__.py",
        "usr/lib/python3/dist-packages/pip/__init__.py", "bin/pip3", "usr/bin/gcc", "usr/bin/x86_64-linux-gnu-gcc-12",
        "usr/bin/g++", "usr/bin/cc", "usr/bin/clang-14",
    ],
)  # fmt: skip
def test_the_search_finds(path: str, tmp_path: Path) -> None:
    assert not unwanted(tmp_path)
    (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
    (tmp_path / path).touch()
    assert unwanted(tmp_path)


@pytest.fixture(scope="module")
def builder() -> Iterator[Builder]:
    with tempfile.TemporaryDirectory(prefix="dle-images-") as name:
        if reason := obstacle(Path(name)):
            pytest.skip(f"NOT TESTED: images, for {reason}")
        builder = Builder(Path(name))
        try:
            builder.make_base()
            yield builder
        finally:
            builder.close()


@pytest.fixture(scope="module")
def serve(builder: Builder) -> Image:
    return builder.build("serve")


@pytest.fixture(scope="module")
def train(builder: Builder) -> Image:
    return builder.build("train")


@pytest.fixture(scope="module")
def work(train: Image, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder in which the training image trained, evaluated and exported."""
    folder = tmp_path_factory.mktemp("work")
    os.chown(folder, USER, USER)
    container = train.container()
    for line in (
        "dle-train sklearn:breast_cancer",
        "dle-evaluate runs/breast_cancer",
        "dle-export runs/breast_cancer --to bundles/breast_cancer",
    ):
        container.run(*line.split(), volumes=[f"{folder}:/work"])
    return folder


@dataclass(frozen=True)
class Served:
    """A container that is ready. `process` is buildah, `launcher` the image's command."""

    container: Container
    process: "subprocess.Popen[bytes]"
    launcher: psutil.Process
    client: httpx.Client
    port: int


@contextmanager
def served(image: Image, *volumes: str, **environment: str) -> Iterator[Served]:
    """The image's own entry point and command, but for the port, which is this machine's."""
    container = image.container()
    port = free_port()
    process = subprocess.Popen(
        container.command(*own_command(image, port), volumes=volumes, **environment), env=container.builder.environment
    )
    try:
        with httpx.Client(base_url=f"http://127.0.0.1:{port}", trust_env=False) as client:

            def ready() -> bool:
                assert process.poll() is None, "it ended"
                return client.get("/readyz").status_code == 200

            eventually(ready)
            yield Served(container, process, launchers(process)[0], client, port)
    finally:
        for launcher in launchers(process):  # not buildah, which would kill it
            launcher.terminate()
        process.wait(DEADLINE)


def launchers(process: "subprocess.Popen[bytes]") -> list[psutil.Process]:
    """The processes below `process` that are the image's command."""
    if process.poll() is not None:
        return []
    below = psutil.Process(process.pid).children(recursive=True)
    return [child for child in below if child.cmdline()[:2] == COMMAND]


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("", 0))
        number: int = probe.getsockname()[1]
        return number


def own_command(image: Image, port: int) -> list[str]:
    entry, words = image.config["Entrypoint"], image.config["Cmd"]
    assert words[-2:] == ["--port", "3000"]
    return [*entry, *words[:-1], str(port)]


def test_the_training_image_makes_a_bundle(work: Path) -> None:
    assert (work / "runs/breast_cancer/report.html").is_file()
    assert (work / "bundles/breast_cancer/manifest.json").is_file()
    assert {path.stat().st_uid for path in work.rglob("*")} == {USER}


def test_the_serving_image_serves_just_that_bundle(serve: Image, work: Path, tmp_path: Path) -> None:
    keys = tmp_path / "keys"
    keys.mkdir()
    os.chown(keys, USER, USER)
    made = serve.container().run(
        "dle-key", "web", "--file=/keys/api.keys", "--scopes=predict,metrics", "--quiet", volumes=[f"{keys}:/keys"]
    )
    rows, expected, actual = table(work / "bundles/breast_cancer", tmp_path)
    volumes = [f"{work}/bundles:/bundles:ro", f"{keys}:/keys:ro"]
    with served(serve, *volumes, DLE_API_KEYS_FILE="/keys/api.keys") as server:
        assert server.client.post("/predict", json={"rows": rows}).status_code == 401
        bearer = {"authorization": f"Bearer {made.strip()}"}
        answer = server.client.post("/predict", json={"rows": rows}, headers=bearer, timeout=30)
        assert answer.status_code == 200, answer.text
        assert answer.json()["model"] == "breast_cancer"
        labels = [prediction["label"] for prediction in answer.json()["predictions"]]
        probabilities = [prediction["probability"] for prediction in answer.json()["predictions"]]
        assert labels == [row["label"] for row in expected]
        assert probabilities == pytest.approx([float(row["probability"]) for row in expected], abs=1e-6)
        assert sum(map(str.__eq__, labels, actual)) / len(actual) > 0.9
        assert healthy(serve, server.port)

        everyone = [server.launcher, *server.launcher.children(recursive=True)]
        assert len(everyone) > 1
        assert {number for process in everyone for number in process.uids()} == {USER}
        server.launcher.terminate()
        assert server.process.wait(DEADLINE) == 0
        eventually(lambda: not alive(everyone))
        assert not healthy(serve, server.port)
        home = server.container.root() / HOME.relative_to("/")
        left = {path.name for path in home.iterdir()}
        assert "token.keys" in left
        # neither temporary folders nor what ONNX Runtime keeps to report by
        assert [name for name in left if name.startswith((".", "tmp", "bentoml-"))] == [".lock"]


def table(bundle: Path, folder: Path) -> tuple[list[dict[str, Any]], list[dict[str, str]], list[str]]:
    """Rows of the data set as requests have them, what dle-predict says of them here, and the truth."""
    data = load_breast_cancer(as_frame=True)
    frame = data.data.sample(100, random_state=0)
    frame.to_csv(folder / "rows.csv", index=False)
    commands.run("dle-predict", bundle, "rows.csv", "--out", "predictions.csv", folder=folder)
    with (folder / "predictions.csv").open(newline="") as file:
        predicted = list(csv.DictReader(file))
    truth = [str(data.target_names[number]) for number in data.target.loc[frame.index]]
    return json.loads(frame.to_json(orient="records", double_precision=15)), predicted, truth


def healthy(image: Image, port: int) -> bool:
    """What the image's health check says, run here."""
    kind, _, *words = image.config["Healthcheck"]["Test"]
    assert kind == "CMD"
    done = subprocess.run(
        [sys.executable, *(word.replace("3000", str(port)) for word in words)], capture_output=True, check=False
    )
    return done.returncode == 0


def test_without_keys_it_serves_only_where_that_is_asked_for(serve: Image, work: Path) -> None:
    volume = f"{work}/bundles:/bundles:ro"
    container = serve.container()
    refused = subprocess.run(
        container.command(*own_command(serve, free_port()), volumes=[volume]),
        env=container.builder.environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert refused.returncode == 2, refused.stderr
    assert "--insecure" in refused.stderr
    assert "Traceback" not in refused.stderr
    with served(serve, volume, DLE_INSECURE="true") as server:
        assert server.client.get("/schema").status_code == 200


def test_the_serving_image_holds_no_training_and_no_tools(serve: Image) -> None:
    container = serve.container()
    assert unwanted(container.root()) == set()
    for python in ("/opt/dle/bin/python", "/usr/bin/python3"):
        assert importable(container, python) == set()


def test_the_same_search_finds_them_where_they_are(train: Image) -> None:
    container = train.container()
    assert unwanted(container.root()) >= {name for name in UNWANTED if re.match("torch|libtorch|pandas|sk|sci", name)}
    assert importable(container, "/opt/dle/bin/python") == {"torch", "pandas", "sklearn"}


@pytest.mark.parametrize("name", ["serve", "train"])
def test_the_user_is_a_number_and_not_root(request: pytest.FixtureRequest, name: str) -> None:
    image: Image = request.getfixturevalue(name)
    user, _, group = image.config["User"].partition(":")
    assert int(user) == int(group) == USER
    assert image.container().run("id", "-u").strip() == str(USER)


def test_nothing_but_its_directory_is_writable(serve: Image) -> None:
    apart = r"\( -path /proc -o -path /sys -o -path /dev \) -prune"
    look = f"find / {apart} -o ! -type l -writable -print 2>/dev/null || true"  # nor look into what is root's alone
    container = serve.container()
    assert container.run("sh", "-c", look).split() == [str(HOME)]
    assert container.run("python", "-c", "import tempfile; print(tempfile.gettempdir())").strip() == str(HOME)


@pytest.mark.parametrize("name", ["serve", "train"])
def test_the_labels_are_those_of_the_project(request: pytest.FixtureRequest, name: str) -> None:
    image: Image = request.getfixturevalue(name)
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert image.config["Labels"]["org.opencontainers.image.licenses"] == project["license"]
