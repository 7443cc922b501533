"""What a user of BentoML does: model store, `bentoml build`, `bentoml serve` of the bento, BentoML's clients."""

import os
import shutil
import signal
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import bentoml
import httpx
import psutil
import pytest
import yaml
from bentoml.exceptions import BentoMLException
from tests import bundles, commands, trained
from tests.documents import ROOT
from tests.e2e.servers import DEADLINE, bentoml_serve, command, eventually, running_bentoml

from dle_serving import auth

pytestmark = pytest.mark.e2e
ROW = dict(bundles.EXAMPLE)
STORE = """
import sys
from pathlib import Path
from dle_serving.models import model_store
model_store.store(model_store.free_tag("Income", 1), Path(sys.argv[1]))
"""


@dataclass(frozen=True)
class Home:
    """A BENTOML_HOME of its own, with the model income:1 and the bento dle:first that contains it."""

    folder: Path

    @property
    def bento(self) -> Path:
        return self.folder / "bentos" / "dle" / "first"

    def run(self, *words: str, **environment: str) -> str:
        """What a command in the root of the project says; it insists on success."""
        own = {"BENTOML_HOME": str(self.folder), "BENTOML_DO_NOT_TRACK": "True"}
        done = subprocess.run(
            [sys.executable, *words],
            cwd=ROOT,
            env={**os.environ, **own, **environment},
            capture_output=True,
            text=True,
            check=False,
            timeout=DEADLINE,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Home:
    folder = tmp_path_factory.mktemp("bentoml")
    made = Home(folder / "home")
    made.run("-c", STORE, str(bundles.write(folder / "income")))
    built = made.run("-m", "bentoml", "build", "--version", "first", "-o", "tag", DLE_BENTO_MODELS="income:1")
    assert "__tag__:dle:first" in built
    return made


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """A file of API keys, and its only key."""
    file = tmp_path_factory.mktemp("keys") / "api.keys"
    return file, auth.add(file, "caller", ["predict", "feedback"])


def workers(process: "subprocess.Popen[bytes]") -> list[psutil.Process]:
    found = psutil.Process(process.pid).children(recursive=True)
    return [one for one in found if "_bentoml_impl.worker.service" in " ".join(command(one))]


def ready(url: str) -> bool:
    return httpx.get(f"{url}/readyz").status_code == 200


def test_a_bento_contains_the_model_and_what_its_image_installs(home: Home) -> None:
    described = yaml.safe_load((home.bento / "bento.yaml").read_text())
    (service,) = described["services"]
    assert [model["tag"] for model in service["models"]] == ["income:1"]
    assert {route["name"] for route in described["schema"]["routes"]} == {"predict", "feedback"}
    source = home.bento / "src"
    assert (source / "serving/dle_serving/service.py").read_bytes() == (
        ROOT / "serving/dle_serving/service.py"
    ).read_bytes()
    assert not list(source.glob("tests"))
    requirements = (home.bento / "env/python/requirements.txt").read_text().splitlines()
    assert requirements[0] == "deep-learning-essentials[cpu,serve]@file:."
    dockerfile = (home.bento / "env/docker/Dockerfile").read_text()
    assert "ENV BENTOML_CONTAINERIZED=true" in dockerfile
    assert "ARG UV_CONSTRAINT=constraints.txt" in dockerfile
    copied = [line.split()[-1] for line in dockerfile.splitlines() if line.startswith("COPY") and "./src/" in line]
    assert all((home.bento / name).exists() for name in copied)
    assert {"./src/pyproject.toml", "./src/constraints.txt", "./src/serving"} <= set(copied)


def test_bentoml_serves_the_bento_and_its_client_calls_it(home: Home, keys: tuple[Path, str], tmp_path: Path) -> None:
    settings = {"BENTOML_HOME": str(home.folder), "DLE_HOME": "state", "DLE_API_KEYS_FILE": str(keys[0])}
    with bentoml_serve(tmp_path, target="dle:first", **settings) as (_, url):  # listens on every address
        eventually(lambda: ready(url))
        with bentoml.SyncHTTPClient(url, token=keys[1]) as client:
            answered = client.predict(rows=[ROW])
            (prediction,) = answered["predictions"]
            outcome = client.feedback(items=[{"id": prediction["id"], "actual": "<=50K"}])
        assert outcome == {"accepted": 1, "duplicates": 0, "rejected": []}
        bearer = {"authorization": f"Bearer {keys[1]}"}
        plain = httpx.post(f"{url}/predict", json={"rows": [ROW]}, headers=bearer).json()
        assert plain["predictions"][0]["probabilities"] == prediction["probabilities"]
        assert plain.keys() == answered.keys()
        with bentoml.SyncHTTPClient(url, token="wrong") as stranger, pytest.raises(BentoMLException) as caught:
            stranger.predict(rows=[ROW])
        assert caught.value.error_code == 401
        pickled = {**bearer, "content-type": "application/vnd.bentoml+pickle"}
        assert httpx.post(f"{url}/predict", content=b"x", headers=pickled).status_code == 415
    assert (tmp_path / "state" / "token.keys").is_file()  # also the workers, which run in the bento, use this folder
    assert not (home.bento / "src" / "state").exists()


def test_it_runs_as_its_container_starts_it(home: Home, keys: tuple[Path, str], tmp_path: Path) -> None:
    home.run("-m", "bentoml", "export", "dle:first", str(tmp_path / "exported.tar"))
    shutil.unpack_archive(tmp_path / "exported.tar", tmp_path / "bento")
    start = ("bash", str(tmp_path / "bento/env/docker/entrypoint.sh"))
    inside = {
        "BENTO_PATH": str(tmp_path / "bento"),
        "BENTOML_CONTAINERIZED": "true",
        "PATH": f"{commands.BIN}{os.pathsep}{os.environ['PATH']}",
    }
    with running_bentoml(tmp_path, *start, "serve", **inside) as (process, _):
        assert process.wait(DEADLINE) == 2
    said = (tmp_path / "log").read_text()
    assert "Error: Anyone who can reach 0.0.0.0 could use a server that listens there without API keys" in said
    assert "create a key with dle-key NAME --file FILE, and set DLE_API_KEYS_FILE=FILE" in said
    assert "Traceback" not in said
    with running_bentoml(tmp_path, *start, "serve", **inside, DLE_API_KEYS_FILE=str(keys[0])) as (process, url):
        eventually(lambda: ready(url))
        (worker,) = workers(process)
        worker.send_signal(signal.SIGKILL)
        (other,) = eventually(lambda: [one for one in workers(process) if one.pid != worker.pid])
        eventually(lambda: ready(url))
        assert other.is_running()
        with bentoml.SyncHTTPClient(url, token=keys[1]) as client:
            assert client.predict(rows=[ROW])["model"] == "income"


def test_a_model_that_is_not_stored_is_refused(home: Home, tmp_path: Path) -> None:
    with bentoml_serve(
        tmp_path, "--host", "127.0.0.1", target="dle:first", BENTOML_HOME=str(home.folder), DLE_BENTO_MODELS="price:7"
    ) as (process, _):
        assert process.wait(DEADLINE) == 2
    said = (tmp_path / "log").read_text()
    assert "Error: DLE_BENTO_MODELS: price:7 is not in BentoML's model store: dle-export RUN --bentoml puts" in said
    assert "Traceback" not in said
    with bentoml_serve(tmp_path, DLE_BENTO_MODELS="price") as (process, _):
        assert process.wait(DEADLINE) == 2
    said = (tmp_path / "log").read_text()
    assert "DLE_BENTO_MODELS: expected NAME:VERSION, or several with commas between them, found 'price'" in said
    assert "Traceback" not in said


def test_a_run_is_exported_to_the_model_store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BENTOML_HOME", str(tmp_path / "bentoml"))
    run = tmp_path / "people"
    shutil.copytree(trained.small("buys").run.path, run)
    said = commands.refusal("dle-export", "people", folder=tmp_path)
    assert "--to BUNDLE for a folder, or --bentoml for BentoML's model store" in said
    words = ("dle-export", "people", "--bentoml", "--version", "3")
    done = commands.run(*words, folder=tmp_path, own_process=True)
    proposed = "DLE_BENTO_MODELS=people:3 bentoml serve dle_serving.service:Service --host 127.0.0.1"
    assert done.stdout.splitlines()[-1] == f"Next: {proposed}"
    assert "people:3" in done.stdout
    assert sorted(path.name for path in tmp_path.iterdir()) == ["bentoml", "people"]
    said = commands.run(*words, folder=tmp_path, code=2, own_process=True).stderr
    assert "people:3 is in BentoML's model store already: choose another --version" in said
    settings = {"DLE_BENTO_MODELS": "people:3"}
    with bentoml_serve(tmp_path, "--host", "127.0.0.1", **settings) as (_, url):
        eventually(lambda: ready(url))
        (model,) = httpx.get(f"{url}/readyz").json()["models"]
    assert (model["model"], model["version"]) == ("people", 3)


@pytest.mark.full
@pytest.mark.timeout(1800)
def test_an_engine_makes_a_container_of_it(home: Home) -> None:
    engine = shutil.which("docker")
    if engine is None or subprocess.run([engine, "info"], capture_output=True, check=False).returncode:
        pytest.skip("bentoml containerize: not tested, because no Docker engine answers here (docker info)")
    image = "dle-bento-test"
    subprocess.run(
        [sys.executable, "-m", "bentoml", "containerize", "dle:first", "-t", image],
        env={**os.environ, "BENTOML_HOME": str(home.folder), "BENTOML_DO_NOT_TRACK": "True"},
        check=True,
    )
    try:
        done: Any = subprocess.run([engine, "run", "--rm", image], capture_output=True, text=True, check=False)
        assert done.returncode == 2, done.stdout + done.stderr
        assert "listens there without API keys" in done.stderr
    finally:
        subprocess.run([engine, "rmi", image], check=False)
