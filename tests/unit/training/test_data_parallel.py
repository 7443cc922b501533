"""Several processes train what one process would: batches that do not divide, a common stop, resumption."""

import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import msgspec
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file

from dle_training.fitting import checkpoint, loop
from dle_training.fitting.state import LoopProgress

PROGRAM = Path(__file__).with_name("data_parallel_fit.py")
SMALL = ("model.hidden=[16, 16]", "optimizer.lr=0.01", "training.epochs=3", "device=cpu")
EXACT = (*SMALL, "model.dropout=0", "optimizer.name=sgd", "optimizer.lr=0.2")
DRAWING = (*SMALL, "model.dropout=0.3", "model.batch_norm=true", "training.batch_size=32")


def trained(folder: Path, count: int, *assignments: str, stop: int = 0) -> list[dict[str, Any]]:
    """What each of `count` processes has left in `folder`, where they continue from checkpoints."""
    folder.mkdir(exist_ok=True)
    processes = [
        subprocess.Popen(
            [sys.executable, PROGRAM, folder, str(rank), str(count), str(stop), *assignments],
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        )
        for rank in range(count)
    ]  # fmt: skip
    said = [process.communicate(timeout=120)[0] for process in processes]
    assert not any(process.returncode for process in processes), said
    assert all(("Interrupted in epoch" in each) == bool(stop) for each in said), said
    left = [load_file(folder / str(rank) / "left.safetensors") for rank in range(count)]
    return [{"drawn": each.pop("drawn"), "weights": each} for each in left]


def farthest(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> float:
    assert one.keys() == other.keys()
    return max(float((one[name].double() - other[name].double()).abs().max()) for name in one)


def saved_names(file: Path) -> set[str]:
    with safe_open(file, "pt") as tensors:
        return set(tensors.keys())


@pytest.mark.parametrize(
    ("count", "size", "ema"),
    # 321 rows: a last batch of 33, and one of 3, which is too small to be shared
    [(2, 53, 0.9), pytest.param(2, 32, 0, marks=pytest.mark.full), pytest.param(3, 32, 0.9, marks=pytest.mark.full)],
)
def test_several_processes_come_to_the_weights_of_one(count: int, size: int, ema: float, tmp_path: Path) -> None:
    asked = (*EXACT, f"training.batch_size={size}", f"training.ema={ema}")
    alone = trained(tmp_path / "alone", 1, *asked)[0]["weights"]
    together = [each["weights"] for each in trained(tmp_path / "together", count, *asked)]
    assert all(farthest(each, together[0]) == 0 for each in together)
    assert farthest(alone, together[0]) < 1e-5
    one, other = (loop.read_ended(tmp_path / name / "0") for name in ("alone", "together"))
    assert len(one.history) == len(other.history) == 3
    for record, expected in zip(other.history, one.history, strict=True):
        assert record.train_loss == pytest.approx(expected.train_loss, abs=1e-5)
        assert record.metric == pytest.approx(expected.metric, abs=1e-5)


@pytest.mark.full
@pytest.mark.parametrize(("before", "after"), [(2, 1), (1, 2), (2, 3)])
def test_another_number_of_processes_resumes_a_training(before: int, after: int, tmp_path: Path) -> None:
    asked = (*EXACT, "training.batch_size=53")
    whole = trained(tmp_path / "whole", 1, *asked)[0]["weights"]
    trained(tmp_path / "begun", before, *asked, stop=10)  # of the 21 steps, in the middle of the second epoch
    for rank in range(after):  # as Ray's workers do with the first one's checkpoint
        shutil.copytree(tmp_path / "begun" / "0", tmp_path / "resumed" / str(rank))
    resumed = trained(tmp_path / "resumed", after, *asked)[0]["weights"]
    assert farthest(whole, resumed) < 1e-5
    one, other = (tmp_path / name / "0" for name in ("whole", "resumed"))
    losses = [[each.train_loss for each in loop.read_ended(folder).history] for folder in (one, other)]
    assert losses[0] == pytest.approx(losses[1], abs=1e-5)
    assert saved_names(one / loop.BEST) == saved_names(other / loop.BEST)


def test_each_process_draws_for_itself(tmp_path: Path) -> None:
    """After one step, in which both draw as many numbers."""
    left = trained(tmp_path / "two", 2, *DRAWING, stop=1)
    assert not torch.equal(left[0]["drawn"], left[1]["drawn"])


@pytest.mark.full
def test_all_end_with_the_same_weights_though_each_draws_its_own_dropout(tmp_path: Path) -> None:
    left = trained(tmp_path / "two", 2, *DRAWING)
    assert farthest(left[0]["weights"], left[1]["weights"]) == 0


@pytest.mark.full
@pytest.mark.parametrize("ema", [0, 0.9])
def test_running_statistics_are_those_of_all_shares(ema: float, tmp_path: Path) -> None:
    """Weights that do not move, so that the first normalisation sees in shares what it sees in whole batches."""
    asked = (*EXACT, "model.batch_norm=true", "optimizer.lr=1e-12", "training.batch_size=107", f"training.ema={ema}")
    alone, together = (trained(tmp_path / str(count), count, *asked)[0]["weights"] for count in (1, 2))
    name = next(name for name in alone if name.endswith("running_mean"))
    assert torch.allclose(together[name], alone[name], atol=5e-4)


def test_one_process_is_asked_to_stop_and_all_stop_after_the_same_step(tmp_path: Path) -> None:
    trained(tmp_path / "two", 2, *EXACT, "training.batch_size=32", stop=13)
    first, second = (checkpoint.read(tmp_path / "two" / rank / loop.LAST, LoopProgress)[1] for rank in "01")
    assert (first.epoch, first.step) == (1, 3)
    assert msgspec.structs.replace(first, seconds=0, history=[]) == msgspec.structs.replace(
        second, seconds=0, history=[]
    )
