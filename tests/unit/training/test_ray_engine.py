"""Trials on Ray, as far as it takes no cluster: what a task gets of the machines, and what is said without Ray."""

import importlib.util
import sys
from pathlib import Path

import pytest
from tests import people
from typer.testing import CliRunner

import dle_training.search
from dle_bundle.errors import InputError
from dle_cli import tune

needs_ray = pytest.mark.skipif(
    not importlib.util.find_spec("ray"), reason="NOT TESTED: shares of a Ray cluster, for Ray is not installed"
)
CPUS, GPUS = {"CPU": 16.0, "memory": 1e9}, {"CPU": 16.0, "GPU": 4.0}


@needs_ray
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
def test_the_share_of_a_task_lets_so_many_run(
    nodes: list[dict[str, float]], jobs: int | None, device: str, expected: tuple[int, int, float]
) -> None:
    from dle_training.search.ray_engine import Share, share_of

    assert share_of(nodes, jobs, device) == Share(*expected)


@needs_ray
def test_a_cluster_without_a_gpu_is_none_for_cuda() -> None:
    from dle_training.search.ray_engine import share_of

    with pytest.raises(InputError, match="has no GPU"):
        share_of([CPUS], None, "cuda")


def test_without_ray_the_extra_is_named_before_anything_is_read(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    monkeypatch.delitem(sys.modules, "dle_training.search.ray_engine", raising=False)
    monkeypatch.delattr(dle_training.search, "ray_engine", raising=False)
    people.write_people(tmp_path / "people.csv", 100)
    out = tmp_path / "study"
    done = CliRunner().invoke(
        tune.app, [str(tmp_path / "people.csv"), "--target", "buys", "--engine", "ray", "--out", str(out)]
    )
    assert isinstance(done.exception, InputError)
    assert done.exception.exit_code == 2
    assert "pip install 'deep-learning-essentials[ray]'" in str(done.exception)
    assert not out.exists()
