"""`dle-train --engine ray` on a real cluster of two nodes: to the bundle, with workers and a node lost, interrupted."""

import importlib.util
import json
import os
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
from tests import commands, people
from tests.e2e import ray_cluster
from tests.e2e.ray_cluster import SURROUNDINGS, Cluster, Node
from tests.e2e.servers import eventually

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.full,
    pytest.mark.skipif(
        not importlib.util.find_spec("ray"), reason="NOT TESTED: one training on Ray, which is not installed"
    ),
]
SHORT = ("sklearn:breast_cancer", "--preset", "fast", "--set", "training.epochs=3", "--set", "model.dropout=0")
EPOCHS = 30
LONG = (
    "people.csv", "--target", "buys", "--preset", "fast",
    "--set", f"training.epochs={EPOCHS}", "--set", "training.patience=0",
    "--set", "training.batch_size=16", "--set", "training.checkpoint_seconds=0.2",
)  # fmt: skip


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    with ray_cluster.running() as made:
        yield made


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("ray")
    people.write_people(folder / "people.csv", 2000)
    return folder


def started(folder: Path, cluster: Cluster, *arguments: str) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        [commands.BIN / "dle-train", *arguments, "--engine", "ray", "--quiet"],
        cwd=folder, env={**SURROUNDINGS, "RAY_ADDRESS": cluster.address},
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip


def ended(process: "subprocess.Popen[str]", code: int = 0) -> str:
    """What a command said that ended with this code."""
    _, said = process.communicate(timeout=200)
    assert process.returncode == code, said
    assert "Traceback" not in said
    return said


def history(run: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (run / "history.jsonl").read_text().splitlines()]


def in_the_middle(process: "subprocess.Popen[str]", run: Path) -> list[dict[str, Any]]:
    """The first three epochs, when they are done and saved."""

    def reached() -> bool:
        assert process.poll() is None, process.communicate()
        checkpoint = run / "checkpoints" / "last.json"
        saved = checkpoint.exists() and json.loads(checkpoint.read_text())["epoch"] >= 3
        return saved and len(history(run)) >= 3  # which the command hears of a moment later

    eventually(reached, seconds=120)
    return history(run)[:3]


def workers(node: Node) -> list[psutil.Process]:
    return [each for each in node.processes() if "RayTrainWorker" in " ".join(each.cmdline())]


def test_two_nodes_train_the_model_that_one_process_does_and_it_is_exported(folder: Path, cluster: Cluster) -> None:
    cluster.second()
    ended(started(folder, cluster, *SHORT, "--jobs", "2", "--out", "together"))
    commands.run("dle-train", *SHORT, "--out", "alone", "--quiet", folder=folder)
    alone, together = history(folder / "alone"), history(folder / "together")
    assert [each["train_loss"] for each in together] == pytest.approx([each["train_loss"] for each in alone], rel=1e-3)
    assert [each["metric"] for each in together] == pytest.approx([each["metric"] for each in alone], rel=1e-3)
    assert {path.name for path in (folder / "together").iterdir()} == {
        path.name for path in (folder / "alone").iterdir()
    }
    commands.run("dle-evaluate", "together", "--quiet", folder=folder)
    commands.run("dle-export", "together", "--to", "bundle", "--quiet", folder=folder)
    assert (folder / "bundle").is_dir()


def test_a_worker_is_killed_and_training_goes_on_from_the_last_checkpoint(folder: Path, cluster: Cluster) -> None:
    second, run = cluster.second(), folder / "killed"
    process = started(folder, cluster, *LONG, "--out", "killed")
    done = in_the_middle(process, run)
    (worker,) = workers(second)
    worker.kill()
    ended(process)
    # gone on with and not begun anew, for each line has the seconds that its epoch took
    assert history(run)[:3] == done
    assert [each["epoch"] for each in history(run)] == list(range(1, EPOCHS + 1))


def test_ctrl_c_saves_the_state_and_one_process_goes_on(folder: Path, cluster: Cluster) -> None:
    cluster.second()
    run = folder / "stopped"
    process = started(folder, cluster, *LONG, "--out", "stopped")
    done = in_the_middle(process, run)
    process.send_signal(signal.SIGINT)
    assert "dle-train --resume --out stopped" in ended(process, 130)
    assert not (run / "workers").exists()
    assert len(history(run)) < EPOCHS
    commands.run("dle-train", "--resume", "--out", "stopped", "--quiet", folder=folder)
    assert history(run)[:3] == done
    assert len(history(run)) == EPOCHS


def test_a_node_is_lost_and_the_other_goes_on_alone(folder: Path, cluster: Cluster) -> None:
    second, run = cluster.second(), folder / "lost"
    process = started(folder, cluster, *LONG, "--out", "lost")
    done = in_the_middle(process, run)
    second.lose()
    ended(process)
    assert history(run)[:3] == done
    assert len(history(run)) == EPOCHS


def test_more_workers_than_there_is_room_for(folder: Path, cluster: Cluster) -> None:
    said = ended(started(folder, cluster, *SHORT, "--jobs", "5", "--out", "many"), 2)
    assert "--jobs: expected at most" in said
    assert not (folder / "many").exists()


def test_a_pack_is_refused_with_the_model_that_ray_trains(folder: Path, cluster: Cluster) -> None:
    said = ended(started(folder, cluster, "sklearn:breast_cancer", "--out", "pack"), 2)
    assert "model.name=pack" in said
    assert "model.name=mlp" in said
    assert not (folder / "pack").exists()
    said = ended(started(folder, cluster, "sklearn:breast_cancer", "--preset", "best", "--out", "pack"), 2)
    assert "--preset fast" in said
    limited = ["--preset", "fast", "--max-latency", "1"]
    said = ended(started(folder, cluster, "sklearn:breast_cancer", *limited, "--out", "limited"), 2)
    assert "leave --max-latency out" in said


def test_without_a_cluster_ray_runs_on_this_machine(folder: Path) -> None:
    surroundings = {key: value for key, value in os.environ.items() if key != "RAY_ADDRESS"}
    process = subprocess.Popen(
        [commands.BIN / "dle-train", *SHORT, "--engine", "ray", "--jobs", "1", "--out", "local", "--quiet"],
        cwd=folder, env=surroundings, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    ended(process)
    assert len(history(folder / "local")) == 3
