"""Work on Ray that needs no cluster: the CPUs and GPUs of each task, and the requests that are refused."""

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pytest
from typer.testing import CliRunner

from dle_bundle.errors import InputError
from dle_cli import train, tune
from dle_training.distributed.cluster import Allocation, allocate

CPUS, GPUS = {"CPU": 16.0, "memory": 1e9}, {"CPU": 16.0, "GPU": 4.0}


@pytest.mark.parametrize(
    ("nodes", "jobs", "device", "expected"),
    [
        ([], None, "auto", (1, 1, 0)),  # machines may come later
        ([CPUS], None, "auto", (16, 1, 0)),
        ([CPUS, CPUS], 2, "auto", (2, 16, 0)),
        ([CPUS, CPUS], 3, "auto", (3, 8, 0)),  # 10 each would leave room for two
        ([CPUS], 100, "auto", (100, 1, 0)),
        ([CPUS, GPUS], None, "auto", (4, 4, 1)),
        ([CPUS, GPUS], None, "cpu", (32, 1, 0)),
        ([GPUS, GPUS], None, "cuda", (8, 4, 1)),
        ([GPUS], 2, "cuda", (2, 8, 1)),
        ([GPUS], 8, "cuda", (8, 2, 0.5)),
    ],
)
def test_each_task_gets_as_much_as_lets_all_run(
    nodes: list[dict[str, float]], jobs: int | None, device: str, expected: tuple[int, int, float]
) -> None:
    assert allocate(nodes, jobs, device) == Allocation(*expected)


def test_cuda_is_refused_on_a_cluster_without_a_gpu() -> None:
    with pytest.raises(InputError, match="has no GPU"):
        allocate([CPUS], None, "cuda")


@pytest.mark.parametrize("command", [train, tune], ids=["train", "tune"])
def test_without_ray_the_extra_is_named_before_anything_is_read(
    command: ModuleType, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for module in [name for name in sys.modules if name.startswith("ray.")]:  # an earlier test may have imported them
        monkeypatch.delitem(sys.modules, module)
    monkeypatch.setitem(sys.modules, "ray", None)
    done = CliRunner().invoke(command.app, ["nowhere.csv", "--engine", "ray", "--out", str(tmp_path / "out")])
    assert isinstance(done.exception, InputError)
    assert done.exception.exit_code == 2
    assert "pip install 'deep-learning-essentials[ray]'" in str(done.exception)


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        (["--engine", "spark"], "--engine: expected local, ray, found 'spark'"),
        (["--jobs", "2"], "--jobs: expected only with --engine ray"),
    ],
)
def test_where_a_training_cannot_run(options: list[str], expected: str) -> None:
    done = CliRunner().invoke(train.app, ["nowhere.csv", *options])
    assert isinstance(done.exception, InputError)
    assert expected in str(done.exception)


@pytest.mark.skipif(
    not importlib.util.find_spec("ray"),
    reason="NOT TESTED: the settings that Ray's workers refuse; Ray is not installed",
)
def test_settings_that_workers_refuse_are_reported_before_anything_is_read() -> None:
    settings = ["--set", "training.refit=true", "--set", "model.name=pack"]
    asked = ["nowhere.csv", "--engine", "ray", "--folds", "3", *settings]
    done = CliRunner().invoke(train.app, asked)
    assert isinstance(done.exception, InputError)
    assert "split.folds" in str(done.exception)
    assert "training.refit" in str(done.exception)
    assert "set model.name=mlp" in str(done.exception)
