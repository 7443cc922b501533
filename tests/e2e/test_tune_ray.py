"""`dle-tune --engine ray` on a real cluster of two nodes: lost, interrupted, and where there is no cluster."""

import importlib.util
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
from tests import commands, people
from tests.e2e import ray_cluster
from tests.e2e.ray_cluster import SURROUNDINGS, Cluster, Node
from tests.e2e.servers import DEADLINE, eventually
from tests.e2e.test_tune import SLOW, epochs, results

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.full,
    pytest.mark.skipif(not importlib.util.find_spec("ray"), reason="NOT TESTED: trials on Ray, which is not installed"),
]
EPOCHS = 60  # enough to be lost or interrupted in the middle
ASKED = (*SLOW, "--set", f"training.epochs={EPOCHS}", "--set", "training.checkpoint_seconds=0.01")


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    with ray_cluster.running() as made:
        yield made


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the file and one study of it by this machine alone."""
    folder = tmp_path_factory.mktemp("ray")
    people.write_people(folder / "people.csv", 1000)
    commands.run("dle-tune", *ASKED, "--out", "whole", "--quiet", folder=folder)
    return folder


def started(folder: Path, address: str, out: str, *options: str) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        [commands.BIN / "dle-tune", *ASKED, "--engine", "ray", "--out", out, "--quiet", *options],
        cwd=folder, env={**SURROUNDINGS, "RAY_ADDRESS": address},
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip


def locked(trial: Path, node: Node) -> bool:
    """Whether a process of the node has the trial's lock."""
    return any(str(trial / "lock") in open_files(process) for process in node.processes())


def open_files(process: psutil.Process) -> list[str]:
    try:
        return [file.path for file in process.open_files()]
    except psutil.Error:
        return []


def test_a_node_is_lost_and_its_trial_is_gone_on_with_elsewhere(folder: Path, cluster: Cluster) -> None:
    second, study = cluster.second(), folder / "lost"
    trials = [study / "trials" / f"{number:03}" for number in range(4)]
    process = started(folder, cluster.address, "lost")

    def lost() -> int | None:
        """A trial in the middle on the second node, while another one has ended."""
        assert process.poll() is None, process.communicate()
        if not any((trial / "metrics.json").exists() for trial in trials):
            return None
        middle = (number for number in range(4) if 2 < epochs(study, number) < EPOCHS / 2)
        return next((number for number in middle if locked(trials[number], second)), None)

    number = eventually(lambda: (found := lost()) is not None and (found,), seconds=120)[0]
    ended = {path: path.stat().st_mtime_ns for path in study.glob("trials/*/metrics.json")}
    second.lose()
    done = (trials[number] / "history.jsonl").read_text().splitlines()
    _, said = process.communicate(timeout=240)
    assert process.returncode == 0, said
    assert "Traceback" not in said
    assert results(study) == results(folder / "whole")
    assert {path: path.stat().st_mtime_ns for path in ended} == ended
    history = (trials[number] / "history.jsonl").read_text().splitlines()
    assert len(done) < len(history) == EPOCHS
    # gone on with and not begun anew, for each line has the seconds that its epoch took
    assert history[: len(done) - 1] == done[:-1]


def test_ctrl_c_saves_every_trial_and_another_engine_finishes_them(folder: Path, cluster: Cluster) -> None:
    cluster.second()
    study = folder / "stopped"
    process = started(folder, cluster.address, "stopped", "--set", "training.checkpoint_seconds=1000")

    def in_the_middle() -> bool:
        assert process.poll() is None, process.communicate()
        return any(2 < epochs(study, number) < EPOCHS / 2 for number in range(4))

    eventually(in_the_middle, seconds=120)
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=DEADLINE)
    assert process.returncode == 130, said
    assert "Traceback" not in said
    assert "dle-tune --resume --out stopped" in said
    assert list(study.glob("trials/*/checkpoints/last.json"))  # which they write when they are asked to stop
    commands.run("dle-tune", "--resume", "--engine", "local", "--out", "stopped", "--quiet", folder=folder)
    assert results(study) == results(folder / "whole")


def test_a_cluster_that_is_not_there(folder: Path) -> None:
    process = started(folder, "127.0.0.1:1", "nowhere")
    _, said = process.communicate(timeout=DEADLINE)
    assert process.returncode == 1, said
    assert "Ray cluster at 127.0.0.1:1 (RAY_ADDRESS) cannot be reached" in said
    assert "Traceback" not in said
