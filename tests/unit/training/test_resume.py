"""A fit that is stopped, by whatever, ends where it would have ended: the same weights, bit for bit."""

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from tests.configs import resolved

from dle_bundle.errors import InputError, Interrupted
from dle_training.augmentation import augment
from dle_training.fitting import checkpoint, loop
from dle_training.fitting.batches import PreparedRows
from dle_training.fitting.listeners import EpochRecord, Listener
from dle_training.fitting.loop import FitInputs
from dle_training.fitting.state import LoopProgress
from dle_training.models import registry
from dle_training.models._base import Network
from dle_training.optimization import objectives
from dle_training.preprocessing.shape import Images, InputShape, Series

SCRIPT = Path(__file__).with_name("small_fit.py")


def same(one: Network, other: Network) -> bool:
    pairs = zip(one.state_dict().items(), other.state_dict().items(), strict=True)
    return all(
        name == again and left.numpy().tobytes() == right.numpy().tobytes() for (name, left), (again, right) in pairs
    )


def killed(folder: Path, word: str, seconds: float, epoch: int, step: int) -> LoopProgress:
    """Start or continue the fit in a process, kill it with SIGKILL at its `word`, and read what is left."""
    command = [sys.executable, str(SCRIPT), str(folder), str(seconds), str(epoch), str(step)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert any(line.strip() == word for line in process.stdout), "the fit ended too early"
        process.kill()
    assert process.returncode == -signal.SIGKILL
    return checkpoint.read(folder / loop.LAST, LoopProgress)[1]


@pytest.fixture(scope="module")
def uninterrupted(small_fit: SimpleNamespace, tmp_path_factory: pytest.TempPathFactory) -> Network:
    network: Network = small_fit.run(tmp_path_factory.mktemp("whole"))[0]
    return network


def test_killed_again_and_again_at_any_step(small_fit: SimpleNamespace, uninterrupted: Network, tmp_path: Path) -> None:
    # a checkpoint after every step: the state is the one before the step at which the process waits
    left = killed(tmp_path, "paused", 0, 1, 3)
    assert (left.epoch, left.step) == (0, 2)
    left = killed(tmp_path, "paused", 0, 2, 7)
    assert (left.epoch, left.step) == (1, 6)
    # no checkpoint until the kill: what lies since the last one is done over
    left = killed(tmp_path, "paused", 1000, 3, small_fit.STEPS)
    assert (left.epoch, left.step) == (1, 6)
    # the last step of an epoch is saved, its validation is not
    left = killed(tmp_path, "paused", 0, 4, 1)
    assert (left.epoch, left.step) == (2, small_fit.STEPS)
    network, fitted = small_fit.run(tmp_path)
    assert same(network, uninterrupted)
    assert [record.epoch for record in fitted.history] == [1, 2, 3, 4]


def test_killed_while_it_writes(small_fit: SimpleNamespace, uninterrupted: Network, tmp_path: Path) -> None:
    killed(tmp_path, "saved", 0, 0, 0)
    assert same(small_fit.run(tmp_path)[0], uninterrupted)


def test_checkpoints_do_not_change_the_arithmetic(
    small_fit: SimpleNamespace, uninterrupted: Network, tmp_path: Path
) -> None:
    assert same(small_fit.run(tmp_path, "training.checkpoint_seconds=0")[0], uninterrupted)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_interruption_saves_and_says_so(
    small_fit: SimpleNamespace, uninterrupted: Network, tmp_path: Path, number: signal.Signals
) -> None:
    class Press(Listener):
        def on_step(self, epoch: int, step: int) -> None:
            if (epoch, step) == (2, 4):
                os.kill(os.getpid(), number)

    before = signal.getsignal(number)
    with pytest.raises(Interrupted, match="epoch 2"):
        small_fit.run(tmp_path, listeners=[Press()])
    assert signal.getsignal(number) is before
    progress = checkpoint.read(tmp_path / loop.LAST, LoopProgress)[1]
    assert (progress.epoch, progress.step) == (1, 4)
    assert same(small_fit.run(tmp_path)[0], uninterrupted)


def test_images_and_series_that_are_varied(tmp_path: Path) -> None:
    """What varies them is drawn from the generator whose state is in the checkpoint; series stand in lengths' order."""
    draw = torch.Generator().manual_seed(3)
    rows, steps = 50, 12
    lengths = torch.randint(3, steps + 1, (rows,), generator=draw)
    real = (torch.arange(steps) < lengths[:, None]).unsqueeze(2)
    inputs = {
        "image": torch.randint(0, 256, (rows, 1, 12, 12), generator=draw, dtype=torch.uint8),
        "sequence": torch.randn(rows, steps, 2, generator=draw) * real,
        "lengths": lengths,
    }
    part = PreparedRows(inputs, torch.randint(0, 3, (rows,), generator=draw), spans=lengths)
    shape = InputShape(image=Images(1, 1, 12, 12, (0.5,), (0.3,)), sequence=Series(2, steps))
    settings = ["cnn.width=4", "cnn.blocks=[1]", "tcn.width=2", "tcn.depth=3", "dropout=0.2", "name=cnn+tcn"]
    kinds = ["flip=true", "shift=0.2", "rotation=20", "erasing=0.3", "jitter=0.1", "scaling=0.1", "slicing=0.2"]
    config = resolved(
        *(f"model.{each}" for each in settings),
        *(f"augmentation.{each}" for each in kinds),
        *("training.batch_size=16", "training.epochs=3", "optimizer.lr=0.01", "device=cpu"),
        kinds=("image", "sequence"),
    )
    objective = objectives.fit("multiclass", np.array(["a", "b", "c"] * 20), ("a", "b", "c"), None)

    def run(folder: Path, *, listeners: Sequence[Listener] = ()) -> Network:
        torch.manual_seed(config.seed)
        network = registry.build(config.model, shape, objective.outputs)
        vary = augment.build(config.augmentation, shape)
        loop.fit(FitInputs(network, objective, part, part, config, folder, listeners, augment=vary))
        return network

    class Press(Listener):
        def on_step(self, epoch: int, step: int) -> None:
            if (epoch, step) == (2, 2):
                os.kill(os.getpid(), signal.SIGINT)

    whole = run(tmp_path / "whole")
    with pytest.raises(Interrupted):
        run(tmp_path / "parts", listeners=[Press()])
    torch.rand(7)  # as another process would have drawn, or not
    assert same(run(tmp_path / "parts"), whole)


def test_other_threads_leave_signals_alone(small_fit: SimpleNamespace, tmp_path: Path) -> None:
    before = signal.getsignal(signal.SIGINT)
    thread = threading.Thread(target=small_fit.run, args=(tmp_path, "training.epochs=1"))
    thread.start()
    thread.join()
    assert (tmp_path / loop.BEST).exists()
    assert signal.getsignal(signal.SIGINT) is before


def test_a_finished_fit_resumes_to_itself(small_fit: SimpleNamespace, uninterrupted: Network, tmp_path: Path) -> None:
    _, first = small_fit.run(tmp_path)
    network, again = small_fit.run(tmp_path)
    assert same(network, uninterrupted)
    assert again.history == first.history


def test_other_data_or_another_model_is_refused(small_fit: SimpleNamespace, tmp_path: Path) -> None:
    small_fit.run(tmp_path, "training.epochs=1")
    with pytest.raises(InputError, match="another model"):
        small_fit.run(tmp_path, "model.hidden=[8]")
    tensors, progress = checkpoint.read(tmp_path / loop.BEST, LoopProgress)
    progress.data = "0"
    checkpoint.write(tmp_path / loop.BEST, tensors, progress)
    with pytest.raises(InputError, match="other data"):
        small_fit.run(tmp_path)


def test_checkpoint_round_trip_and_faults(tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    record = LoopProgress(data="x", epoch=3, best_score=0.1)
    tensors = {"w": torch.randn(3, 2).t(), "n": torch.zeros((), dtype=torch.float64), "e": torch.zeros(0, 4)}
    checkpoint.write(path, tensors, record)
    read, again = checkpoint.read(path, LoopProgress)
    assert again == record
    assert all(torch.equal(read[name], tensor) and read[name].dtype == tensor.dtype for name, tensor in tensors.items())
    assert '"epoch": 3' in path.with_suffix(".json").read_text()
    assert sorted(file.name for file in tmp_path.iterdir()) == ["a.json", "a.safetensors"]
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(InputError, match="not a checkpoint"):
        checkpoint.read(path, LoopProgress)
    checkpoint.write(
        path,
        {"w": torch.zeros(1)},
        EpochRecord(epoch=1, train_loss=0, validation_loss=0, metric=0, lr=0, seconds=0, rows_per_second=0),
    )
    with pytest.raises(InputError, match="not a checkpoint"):
        checkpoint.read(path, LoopProgress)
