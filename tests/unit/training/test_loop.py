"""The loop: what it learns, when it stops, which weights it leaves, and what it tells its listeners."""

import math
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from tests.configs import resolved

from dle_bundle.errors import InputError, WorkError
from dle_training.config import devices
from dle_training.fitting import batches as parts
from dle_training.fitting import checkpoint, loop
from dle_training.fitting.batches import PreparedRows
from dle_training.fitting.listeners import EpochRecord, HistoryFile, Listener, TrainingPlan, read_history
from dle_training.fitting.loop import FitInputs
from dle_training.fitting.state import LoopProgress
from dle_training.fitting.tensorboard import TensorBoard
from dle_training.models._base import Network
from dle_training.models.registry import build
from dle_training.optimization import objectives
from dle_training.preprocessing.shape import InputShape
from dle_training.scoring import metrics


def validation_score(small_fit: SimpleNamespace, network: Network, name: str) -> float | None:
    objective, _, validation, _ = small_fit.problem()
    answers = objective.link(loop.predict(network, validation)).numpy()
    return metrics.all_scores(objective.task, answers, objective.actual(validation.targets))[name]


def test_it_learns(small_fit: SimpleNamespace, tmp_path: Path) -> None:
    network, fitted = small_fit.run(tmp_path, "training.epochs=30", "model.dropout=0")
    assert fitted.history[-1].train_loss < 0.3 < fitted.history[0].train_loss
    accuracy = validation_score(small_fit, network, "accuracy")
    assert accuracy is not None
    assert accuracy > 0.85


def test_same_seed_same_weights_and_another_seed_others(small_fit: SimpleNamespace, tmp_path: Path) -> None:
    first, again, other = (
        small_fit.run(tmp_path / name, "training.epochs=2", f"seed={seed}")[0].state_dict()
        for name, seed in (("first", 1), ("again", 1), ("other", 2))
    )
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert not torch.equal(first["head.weight"], other["head.weight"])


def test_the_best_weights_are_left(small_fit: SimpleNamespace, tmp_path: Path) -> None:
    """A learning rate that ruins the weights makes a later epoch worse than the best."""
    network, fitted = small_fit.run(tmp_path, "optimizer.lr=0.3", "schedule.name=constant", "training.epochs=12")
    assert fitted.best_epoch < len(fitted.history)
    assert fitted.best_score == min(record.metric for record in fitted.history)
    assert validation_score(small_fit, network, "log_loss") == fitted.best_score
    objective, _, _, shape = small_fit.problem()
    config = resolved("model.hidden=[16, 16]", "model.batch_norm=true")
    loaded = build(config.model, shape, objective.outputs)
    assert loop.load_best(loaded, tmp_path) == fitted.history[fitted.best_epoch - 1]
    assert validation_score(small_fit, loaded, "log_loss") == fitted.best_score
    with pytest.raises(InputError, match="another model"):
        loop.load_best(build(resolved().model, shape, 3), tmp_path)


def test_patience(small_fit: SimpleNamespace, tmp_path: Path) -> None:
    stop = ["optimizer.lr=0.3", "schedule.name=constant", "training.epochs=60", "training.patience=3"]
    _, fitted = small_fit.run(tmp_path / "few", *stop)
    assert len(fitted.history) == fitted.best_epoch + 3 < 60
    _, fitted = small_fit.run(tmp_path / "all", *stop, "training.patience=0", "training.epochs=20")
    assert len(fitted.history) == 20


def test_a_metric_of_which_more_is_better(small_fit: SimpleNamespace, tmp_path: Path) -> None:
    _, fitted = small_fit.run(tmp_path, "training.metric=accuracy", "training.epochs=6")
    assert fitted.best_score == max(record.metric for record in fitted.history)


def test_rates_follow_the_schedule(small_fit: SimpleNamespace, tmp_path: Path) -> None:
    _, fitted = small_fit.run(tmp_path, "schedule.name=step", "schedule.step_epochs=2", "schedule.gamma=0.1")
    assert [record.lr for record in fitted.history] == pytest.approx([0.01, 0.01, 0.001, 0.001])


@pytest.mark.parametrize(
    ("rows", "size", "sizes"),
    [(10, 4, [4, 4, 2]), (9, 4, [4, 5]), (8, 4, [4, 4]), (1, 4, [1]), (3, 8, [3]), (3, 1, [1, 1, 1]), (5, 4, [5])],
)
def test_batches_cover_all_rows_and_leave_none_alone(rows: int, size: int, sizes: list[int]) -> None:
    batches = loop.split_batches(rows, size)
    assert [batch.stop - batch.start for batch in batches] == sizes
    assert [row for batch in batches for row in range(batch.start, batch.stop)] == list(range(rows))


def test_each_epoch_sees_every_row_once_in_another_order(small_fit: SimpleNamespace, tmp_path: Path) -> None:
    seen: list[list[float]] = []

    class Spy(Network):
        def forward(self, inputs: dict[str, torch.Tensor]) -> torch.Tensor:
            if self.training:
                seen[-1].extend(inputs["dense"][:, 0].tolist())
            output: torch.Tensor = network(inputs)
            return output

        def before_evaluation(self) -> None:
            seen.append([])

    objective, train, validation, shape = small_fit.problem()
    config = resolved("training.epochs=2", "model.hidden=[4]")
    network = build(config.model, shape, objective.outputs)
    spy = Spy()
    spy.network = network
    seen.append([])
    loop.fit(FitInputs(spy, objective, train, validation, config, tmp_path))
    assert sorted(seen[0]) == sorted(seen[1]) == sorted(train.inputs["dense"][:, 0].tolist())
    assert seen[0] != seen[1]


def test_regression_to_its_own_unit(tmp_path: Path) -> None:
    draw = np.random.default_rng(0)
    X = draw.normal(size=(400, 3)).astype(np.float32)
    target = 5000 + 300 * X[:, 0] - 100 * X[:, 1]
    objective = objectives.fit("regression", target[:300])
    every = PreparedRows({"dense": torch.from_numpy(X)}, objective.encode(target))
    config = resolved("model.hidden=[16]", "training.epochs=40", "training.batch_size=16", task="regression")
    network = build(config.model, InputShape(3), 1)
    train, validation = every.slice(slice(300)), every.slice(slice(300, None))
    fitted = loop.fit(FitInputs(network, objective, train, validation, config, tmp_path))
    assert fitted.metric.name == "rmse"
    assert fitted.best_score < 60
    values = objective.link(loop.predict(network, every)).numpy()
    assert np.corrcoef(values, target)[0, 1] > 0.98


def test_a_loss_that_is_not_finite(small_fit: SimpleNamespace, tmp_path: Path) -> None:
    ended = []

    class End(Listener):
        def on_end(self) -> None:
            ended.append(True)

    with pytest.raises(WorkError, match="not finite in epoch 1") as caught:
        small_fit.run(tmp_path, "optimizer.name=sgd", "optimizer.lr=1e30", "model.batch_norm=false", listeners=[End()])
    assert caught.value.exit_code == 1
    assert "set 'optimizer.lr=1e+29'" in caught.value.details[0]
    assert ended


def test_a_metric_without_meaning_on_the_validation_part(small_fit: SimpleNamespace, tmp_path: Path) -> None:
    objective, train, validation, shape = small_fit.problem()
    alike = validation.take(torch.nonzero(validation.targets == 0)[:, 0])
    config = resolved("training.metric=roc_auc", "model.hidden=[4]")
    network = build(config.model, shape, objective.outputs)
    with pytest.raises(InputError, match="roc_auc is undefined"):
        loop.fit(FitInputs(network, objective, train, alike, config, tmp_path))


def test_listeners_hear_everything_in_order(small_fit: SimpleNamespace, tmp_path: Path) -> None:
    heard: list[object] = []

    class Ear(Listener):
        def on_start(self, plan: TrainingPlan) -> None:
            heard.append((plan.epochs, plan.steps, plan.rows, plan.metric.name, len(plan.history)))

        def on_step(self, epoch: int, step: int) -> None:
            heard.append((epoch, step))

        def on_epoch(self, history: Sequence[EpochRecord], best_epoch: int) -> None:
            heard.append([record.epoch for record in history])

        def on_checkpoint(self, path: Path) -> None:
            heard.append(path.name)

        def on_end(self) -> None:
            heard.append("end")

    small_fit.run(tmp_path, "training.epochs=2", listeners=[Listener(), Ear()])
    steps = small_fit.STEPS
    assert heard[0] == (2, steps, small_fit.ROWS, "log_loss", 0)
    assert heard[1 : steps + 1] == [(1, step) for step in range(1, steps + 1)]
    assert heard[steps + 1] == [1]
    assert heard[-2:] == [[1, 2], "end"]


def test_history_file(small_fit: SimpleNamespace, tmp_path: Path) -> None:
    path = tmp_path / "history.jsonl"
    _, fitted = small_fit.run(tmp_path, listeners=[HistoryFile(path)])
    assert read_history(path) == list(fitted.history)
    assert len(path.read_text().splitlines()) == small_fit.EPOCHS
    assert all(record.seconds > 0 and record.rows_per_second > 0 for record in fitted.history)
    path.write_bytes(path.read_bytes()[:-5])
    assert read_history(path) == list(fitted.history)[:-1], "a torn line is no epoch"


def test_tensorboard_scalars_read_back(small_fit: SimpleNamespace, tmp_path: Path) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    _, fitted = small_fit.run(tmp_path, listeners=[TensorBoard(tmp_path / "tensorboard")])
    events = EventAccumulator(str(tmp_path / "tensorboard")).Reload()
    expected = {
        "loss/train": [record.train_loss for record in fitted.history],
        "loss/validation": [record.validation_loss for record in fitted.history],
        "validation/log_loss": [record.metric for record in fitted.history],
        "learning_rate": [record.lr for record in fitted.history],
        "rows_per_second": [record.rows_per_second for record in fitted.history],
    }
    assert set(events.Tags()["scalars"]) == set(expected)
    for name, values in expected.items():
        points = events.Scalars(name)
        assert [point.step for point in points] == [1, 2, 3, 4]
        assert [point.value for point in points] == pytest.approx(values, rel=1e-6)


def test_best_checkpoint_holds_the_network_and_its_epoch(small_fit: SimpleNamespace, tmp_path: Path) -> None:
    network, fitted = small_fit.run(tmp_path)
    tensors, progress = checkpoint.read(tmp_path / loop.BEST, LoopProgress)
    assert progress.best_epoch == fitted.best_epoch
    assert not (tmp_path / loop.LAST).exists()
    assert tensors.keys() == network.state_dict().keys()


def test_prediction_in_chunks(small_fit: SimpleNamespace, monkeypatch: pytest.MonkeyPatch) -> None:
    objective, train, _, shape = small_fit.problem()
    network = build(resolved().model, shape, objective.outputs)
    whole = loop.predict(network, train)
    assert not network.training
    assert not whole.requires_grad
    monkeypatch.setattr(parts, "rows_at_once", lambda cells: 50)
    torch.testing.assert_close(loop.predict(network, train), whole)
    assert loop.predict(network, train.slice(slice(0))).shape == (0, 3)


def test_device() -> None:
    assert devices.choose("cpu") == torch.device("cpu")
    if torch.cuda.is_available():
        assert devices.choose("auto").type == "cuda"
    else:
        assert devices.choose("auto").type == "cpu"
        with pytest.raises(InputError, match="no CUDA device"):
            devices.choose("cuda")


@pytest.mark.gpu
def test_it_learns_on_a_gpu(small_fit: SimpleNamespace, tmp_path: Path) -> None:
    _, fitted = small_fit.run(tmp_path, "device=cuda", "training.checkpoint_seconds=0")
    _, again = small_fit.run(tmp_path, "device=cuda")
    assert fitted.history == again.history
    assert math.isfinite(fitted.best_score)


@pytest.mark.parametrize(("rows", "size"), [(100, 32), (2_800, 64), (27_000, 256), (1_000_000, 1024)])
def test_small_data_get_small_batches(rows: int, size: int) -> None:
    assert resolved(rows=rows).training.batch_size == size
    assert resolved("training.batch_size=7", rows=rows).training.batch_size == 7
