"""Trainings in a pack come to what each comes to alone, whatever the others do."""

import os
import shutil
import signal
from collections.abc import Sequence
from dataclasses import replace
from itertools import count
from pathlib import Path

import msgspec
import numpy as np
import pytest
import torch
from torch import Tensor, nn

from dle_bundle.errors import InputError, Interrupted, WorkError
from dle_training import packed
from dle_training.config import run_config
from dle_training.config.resolve import resolve
from dle_training.fitting import checkpoint, loop, tensors
from dle_training.fitting.listeners import EpochRecord, HistoryFile, Listener, Stopped, TrainingPlan, read_history
from dle_training.fitting.loop import FitInputs
from dle_training.fitting.state import LoopProgress
from dle_training.fitting.tensors import TrainingData
from dle_training.optimization import objectives, optimizers
from dle_training.packed import Member, MemberFailure, MemberResult
from dle_training.runs import folder as run_folder
from dle_training.runs import prepare, train

ROWS = 500
ENDED = "ended.safetensors"
TARGETS = ("binary", "multiclass", "regression")
DIFFERENT = (
    ["optimizer.lr=0.01", "model.dropout=0.3", "training.ema=0.9"],
    ["optimizer.lr=0.003", "model.dropout=0", "seed=5", "optimizer.weight_decay=0.1", "optimizer.momentum=0"],
    ["optimizer.lr=0.005", "model.dropout=0.1", "seed=6", "schedule.name=exponential", "optimizer.momentum=0.5"],
)


@pytest.fixture(scope="module")
def tables(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A table for each kind of target: two numbers and a category that is embedded."""
    folder, draw = tmp_path_factory.mktemp("tables"), np.random.default_rng(3)
    lines: dict[str, list[str]] = {kind: ["a,b,place,y"] for kind in TARGETS}
    for _ in range(ROWS):
        a, b, place = draw.normal(), draw.normal(), draw.integers(12)
        signal = a + b + (place > 6) + 0.3 * draw.normal()
        labels = ("no" if signal < 0.5 else "yes", f"c{int(signal > 0) + int(signal > 1.5)}", f"{signal:.4f}")
        for kind, label in zip(TARGETS, labels, strict=True):
            lines[kind].append(f"{a:.4f},{b:.4f},town_{place},{label}")
    for kind, text in lines.items():
        (folder / f"{kind}.csv").write_text("\n".join(text) + "\n")
    return folder


@pytest.fixture(autouse=True)
def last_states(monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep what a training that ends has no more use for: the last weights, the optimizer, the generators."""
    end = loop.Training.end

    def saved(training: loop.Training) -> loop.FitResult:
        training.state.save(training.inputs.checkpoints / ENDED)
        return end(training)

    monkeypatch.setattr(loop.Training, "end", saved)


class Bench:
    """Trains members on one table, alone or packed, each into a folder of its own."""

    def __init__(self, folder: Path, table: Path, *assignments: str) -> None:
        small = ["preset=fast", "model.hidden=[16, 16]", "training.batch_size=32", "training.epochs=2", "device=cpu"]
        source = [f"data.source={table}", "data.target=y"]
        prepared = prepare.prepare(run_config.load(None, [*small, *source, *assignments]))
        self.data = tensors.make(prepared.dataset, prepared.config)
        self.schema = prepared.dataset.schema
        self._folder, self._numbers = folder, count()
        self._config = folder / "config.yaml"
        self._config.write_text(run_config.dump(prepared.config))

    def member(self, *assignments: str, data: TrainingData | None = None, listeners: Sequence[Listener] = ()) -> Member:
        config = resolve(run_config.load(self._config, list(assignments)), self.schema, ROWS)
        return Member(config, data or self.data, self._folder / str(next(self._numbers)), listeners)

    def again(self, member: Member) -> Member:
        """The same training, from its start, in another folder."""
        return replace(member, checkpoints=self._folder / str(next(self._numbers)), listeners=())

    def alone(self, member: Member) -> MemberResult:
        """What `loop.fit` makes of it, or goes on to."""
        data, network = member.data, member.data.network(member.config)
        objective = objectives.restore(data.objective)
        inputs = FitInputs(
            network, objective, data.train, data.validation, member.config, member.checkpoints, member.listeners
        )
        return MemberResult(network, loop.fit(inputs))


def fit(*members: Member) -> list[MemberResult]:
    """A pack in which nobody fails."""
    outcomes = packed.fit(members)
    assert all(isinstance(outcome, MemberResult) for outcome in outcomes)
    return [outcome for outcome in outcomes if isinstance(outcome, MemberResult)]


def state(member: Member) -> tuple[dict[str, Tensor], LoopProgress]:
    """The last state: after the last step, where the training has come to its end."""
    ended = member.checkpoints / ENDED
    return checkpoint.read(ended if ended.exists() else member.checkpoints / loop.LAST, LoopProgress)


def assert_alike(one: Member, other: Member, tolerance: float = 1e-4) -> None:
    """The last states are the same up to the rounding of sums."""
    (left, progress), (right, again) = state(one), state(other)
    assert left.keys() == right.keys()
    for name, tensor in left.items():
        assert (tensor.shape, tensor.dtype) == (right[name].shape, right[name].dtype), name
        if name.startswith("generator"):
            assert torch.equal(tensor, right[name]), name
        else:
            assert torch.allclose(tensor, right[name], atol=tolerance, rtol=tolerance), name
    assert (progress.epoch, progress.step, progress.finished) == (again.epoch, again.step, again.finished)
    for record, twin in zip(progress.history, again.history, strict=True):
        assert record.epoch == twin.epoch
        assert record.lr == twin.lr
        assert record.train_loss == pytest.approx(twin.train_loss, rel=1e-3)
        assert record.validation_loss == pytest.approx(twin.validation_loss, rel=1e-3)
        assert record.metric == pytest.approx(twin.metric, rel=1e-3)


@pytest.mark.parametrize("optimizer", ["adamw", "adam", "sgd"])
@pytest.mark.parametrize(
    ("target", "assignments"),
    [
        ("binary", ["model.batch_norm=true"]),
        ("binary", ["objective.class_weights=balanced", "model.hidden=[]"]),
        ("multiclass", ["objective.class_weights={c0: 3}", "training.metric=accuracy"]),
        ("multiclass", ["preprocessing.one_hot_limit=20"]),
        ("regression", []),
    ],
)
def test_the_first_steps_are_those_of_each_alone(
    tables: Path, tmp_path: Path, target: str, assignments: list[str], optimizer: str
) -> None:
    bench = Bench(tmp_path, tables / f"{target}.csv", f"optimizer.name={optimizer}", *assignments)
    members = [bench.member(*different) for different in DIFFERENT]
    assert len({packed.signature(member.config, member.data) for member in members}) == 1
    for member, fitted in zip(members, fit(*members), strict=True):
        alone = bench.again(member)
        expected = bench.alone(alone)
        assert_alike(member, alone)
        assert fitted.fit.best_epoch == expected.fit.best_epoch
        best, progress = checkpoint.read(member.checkpoints / loop.BEST, LoopProgress)
        assert progress.history == list(fitted.fit.history)
        weights = fitted.network.state_dict()
        assert all(torch.equal(tensor, weights[name]) for name, tensor in best.items())
        assert all(tensor.untyped_storage().nbytes() == tensor.nbytes for tensor in weights.values())


@pytest.mark.gpu
def test_the_first_steps_on_a_gpu_are_those_of_each_alone(tables: Path, tmp_path: Path) -> None:
    bench = Bench(tmp_path, tables / "binary.csv", "device=cuda")
    members = [bench.member(*different) for different in DIFFERENT]
    fit(*members)
    for member in members:
        alone = bench.again(member)
        bench.alone(alone)
        assert_alike(member, alone)


def test_it_learns_as_well(tables: Path, tmp_path: Path) -> None:
    bench = Bench(tmp_path, tables / "regression.csv", "training.epochs=12")
    members = [bench.member(*different) for different in DIFFERENT]
    for member, fitted in zip(members, fit(*members), strict=True):
        assert fitted.fit.best_score == pytest.approx(bench.alone(bench.again(member)).fit.best_score, abs=1e-3)
        assert fitted.fit.history[-1].metric < fitted.fit.history[0].metric


def folds(data: TrainingData) -> list[TrainingData]:
    """Other rows, other weights of classes; the last batches have 30, 31 and, with the one left over, 33 rows."""
    rows = 10 * 32
    return [
        replace(
            data,
            train=data.train.slice(slice(start, start + rows + more)),
            validation=data.validation.slice(slice(start, None)),
            objective=msgspec.structs.replace(data.objective, class_weights=(1.0 + start / 10, 1.0)),
        )
        for start, more in ((0, -2), (5, -1), (10, 1))
    ]


@pytest.mark.parametrize("norm", ["true", "false"])
def test_folds(tables: Path, tmp_path: Path, norm: str) -> None:
    bench = Bench(tmp_path, tables / "binary.csv", f"model.batch_norm={norm}", "optimizer.name=sgd")
    assert len(bench.data.train) > 331
    members = [bench.member(data=data) for data in folds(bench.data)]
    assert len({packed.signature(member.config, member.data) for member in members}) == 1
    fit(*members)
    for member in members:
        alone = bench.again(member)
        bench.alone(alone)
        assert_alike(member, alone)


class Stop(Listener):
    def __init__(self, epoch: int) -> None:
        self.epoch = epoch

    def on_epoch(self, history: Sequence[EpochRecord], best_epoch: int) -> None:
        if len(history) == self.epoch:
            raise Stopped("enough")


def test_those_who_leave_do_not_disturb_the_others(tables: Path, tmp_path: Path) -> None:
    bench = Bench(tmp_path, tables / "binary.csv", "training.epochs=5", "optimizer.name=sgd", "model.batch_norm=true")
    first, last = (bench.member(*different) for different in DIFFERENT[:2])
    stopped = bench.member(listeners=[Stop(2)])
    diverging = bench.member("optimizer.lr=1e30")
    short = bench.member("training.epochs=3")
    impatient = bench.member("training.patience=1", "optimizer.lr=3", "schedule.name=constant")
    outcomes = packed.fit([first, stopped, diverging, short, impatient, last])
    assert isinstance(outcomes[1], MemberFailure)
    assert isinstance(outcomes[1].error, Stopped)
    assert isinstance(outcomes[2], MemberFailure)
    assert isinstance(outcomes[2].error, WorkError)
    assert "not finite in epoch 1" in str(outcomes[2].error)
    assert isinstance(outcomes[3], MemberResult)
    assert len(outcomes[3].fit.history) == 3
    assert isinstance(outcomes[4], MemberResult)
    assert len(outcomes[4].fit.history) == outcomes[4].fit.best_epoch + 1 < 5
    for member in (first, last, short):
        alone = bench.again(member)
        bench.alone(alone)
        assert_alike(member, alone)


class Press(Listener):
    def on_step(self, epoch: int, step: int) -> None:
        if (epoch, step) == (2, 4):
            os.kill(os.getpid(), signal.SIGINT)


@pytest.mark.parametrize("optimizer", ["adamw", "sgd"])
def test_interrupted_and_resumed_alone_or_packed(tables: Path, tmp_path: Path, optimizer: str) -> None:
    settings = ["training.epochs=3", f"optimizer.name={optimizer}", "model.batch_norm=true"]
    bench = Bench(tmp_path, tables / "binary.csv", *settings)
    members = [bench.member(*different) for different in DIFFERENT]
    whole = [bench.again(member) for member in members]
    fit(*whole)
    with pytest.raises(Interrupted, match="the states of 3 trainings"):
        packed.fit([replace(members[0], listeners=[Press()]), *members[1:]])
    assert [(state(member)[1].epoch, state(member)[1].step) for member in members] == [(1, 4)] * 3
    singly = bench.again(members[2])
    shutil.copytree(members[2].checkpoints, singly.checkpoints)
    bench.alone(singly)
    assert_alike(singly, whole[2])
    again = fit(*members)
    for member, fitted, other in zip(members, again, whole, strict=True):
        assert all(torch.equal(tensor, state(other)[0][name]) for name, tensor in state(member)[0].items())
        assert [record.epoch for record in fitted.fit.history] == [1, 2, 3]
    # who is finished resumes to itself
    twice = fit(*members)
    assert [fitted.fit.history for fitted in twice] == [fitted.fit.history for fitted in again]


def test_begun_alone_and_killed_then_packed_with_others(tables: Path, tmp_path: Path) -> None:
    """Members go on from different steps of different epochs."""
    bench = Bench(tmp_path, tables / "multiclass.csv", "training.epochs=4")

    class Copy(Listener):
        """What a kill at that moment would leave."""

        def __init__(self, epoch: int, step: int, folder: Path) -> None:
            self.when, self.now, self.folder = (epoch, step), (0, 0), folder

        def on_step(self, epoch: int, step: int) -> None:
            self.now = (epoch, step)

        def on_checkpoint(self, path: Path) -> None:
            if self.now == self.when:
                shutil.copytree(path.parent, self.folder)

    members = [bench.member(*different) for different in DIFFERENT]
    whole = [bench.again(member) for member in members]
    steps = len(loop.split_batches(len(bench.data.train), 32))
    for other, member, when in zip(whole[:2], members[:2], [(2, 3), (3, steps)], strict=True):
        always = msgspec.structs.replace(other.config.training, checkpoint_seconds=0.0)
        config = msgspec.structs.replace(other.config, training=always)
        bench.alone(replace(other, config=config, listeners=[Copy(*when, member.checkpoints)]))
    bench.alone(whole[2])
    fit(*members)
    for member, other in zip(members, whole, strict=True):
        assert_alike(member, other)


def test_listeners_hear_of_their_own_training(tables: Path, tmp_path: Path) -> None:
    bench = Bench(tmp_path, tables / "binary.csv", "training.checkpoint_seconds=0")

    class Ear(Listener):
        def __init__(self) -> None:
            self.heard: list[object] = []

        def on_start(self, plan: TrainingPlan) -> None:
            self.heard.append((plan.epochs, plan.steps, plan.rows, plan.metric.name, len(plan.history)))

        def on_step(self, epoch: int, step: int) -> None:
            self.heard.append((epoch, step))

        def on_epoch(self, history: Sequence[EpochRecord], best_epoch: int) -> None:
            self.heard.append([record.epoch for record in history])

        def on_checkpoint(self, path: Path) -> None:
            self.heard.append(path)

        def on_end(self) -> None:
            self.heard.append("end")

    ears, history = [Ear(), Ear(), Ear()], tmp_path / "history.jsonl"
    member, longer = (
        bench.member(listeners=[ears[0], HistoryFile(history)]),
        bench.member("training.epochs=3", listeners=[ears[1]]),
    )
    fitted = fit(member, longer)[0]
    alone = replace(bench.again(member), listeners=[ears[2]])
    bench.alone(alone)
    moved = [alone.checkpoints / loop.LAST if isinstance(event, Path) else event for event in ears[0].heard]
    assert moved == ears[2].heard
    assert ears[0].heard[1:3] == [(1, 1), member.checkpoints / loop.LAST]
    assert ears[1].heard[-2:] == [[1, 2, 3], "end"]
    assert read_history(history) == list(fitted.fit.history)
    assert all(record.seconds > 0 and record.rows_per_second > 0 for record in fitted.fit.history)


def test_signature(tables: Path, tmp_path: Path) -> None:
    bench = Bench(tmp_path, tables / "binary.csv", "training.epochs=6")

    def of(*assignments: str, data: TrainingData = bench.data) -> object:
        return packed.signature(bench.member(*assignments).config, data)

    same = of()
    assert same is not None
    free = ["training.patience=2", "training.epochs=9", "schedule.name=step", "optimizer.lr=0.3", "model.dropout=0.7"]
    assert of(*free, "training.ema=0.9", "seed=4", "optimizer.weight_decay=0.4", "optimizer.momentum=0.2") == same
    for bound in (
        "model.hidden=[16]",
        "model.batch_norm=true",
        "model.embedding_dim=3",
        "optimizer.name=sgd",
        "optimizer.beta2=0.95",
        "training.batch_size=16",
        "training.metric=accuracy",
    ):
        assert of(bound) not in (same, None), bound
    assert of("schedule.regularisation=flat_cosine") is None
    assert of(data=replace(bench.data, train=bench.data.train.slice(slice(32)))) != same
    weighted = msgspec.structs.replace(bench.data.objective, class_weights=(1.0, 2.0))
    assert of(data=replace(bench.data, objective=weighted)) != same


def test_what_has_no_packed_form_is_trained_alone(
    tables: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An optimizer or a layer that is added later needs no packed form."""
    bench = Bench(tmp_path, tables / "binary.csv")
    assert packed.signature(bench.member("optimizer.name=muon").config, bench.data) is None
    member = bench.member()
    lion = msgspec.structs.replace(member.config.optimizer, name="lion")
    config = msgspec.structs.replace(member.config, optimizer=lion)
    monkeypatch.setitem(
        optimizers.OPTIMIZERS, "lion", replace(optimizers.OPTIMIZERS["sgd"], name="lion", description="Made up.")
    )
    assert packed.signature(config, bench.data) is None
    assert bench.alone(replace(member, config=config)).fit.best_epoch >= 1
    monkeypatch.setattr("dle_training.models.mlp.Dropout", nn.ELU)
    assert packed.fit_if_possible([bench.member(), bench.member()]) is None
    assert not packed.faster([bench.member(), bench.member()])


def test_only_columns_are_packed(tmp_path: Path) -> None:
    lines = [f"{'good' if row % 2 else 'bad'} {'word ' * (row % 7 + 4)}number {row},{row % 2}" for row in range(60)]
    (tmp_path / "texts.csv").write_text("\n".join(["review,y", *lines]) + "\n")
    bench = Bench(tmp_path, tmp_path / "texts.csv", "data.kinds={review: text}")
    assert packed.signature(bench.member().config, bench.data) is None


def test_a_metric_without_meaning_is_told_before_anything_is_trained(tables: Path, tmp_path: Path) -> None:
    bench = Bench(tmp_path, tables / "binary.csv", "training.metric=roc_auc")
    validation = bench.data.validation
    alike = validation.take(torch.nonzero(validation.targets == 0)[:, 0])
    with pytest.raises(InputError, match="roc_auc is undefined"):
        packed.fit([bench.member(), bench.member(data=replace(bench.data, validation=alike))])


def test_faster_leaves_no_trace(tables: Path, tmp_path: Path) -> None:
    bench = Bench(tmp_path, tables / "binary.csv")
    files, drawn = set(tmp_path.iterdir()), torch.get_rng_state()
    members = [bench.member(*DIFFERENT[index % 3], listeners=[Stop(1)]) for index in range(16)]
    assert packed.faster(members)
    assert set(tmp_path.iterdir()) == files
    assert torch.equal(torch.get_rng_state(), drawn)


def test_the_rest_of_a_run_follows(tables: Path, tmp_path: Path) -> None:
    """Calibration and scores of a packed network are those of the run."""
    bench = Bench(tmp_path, tables / "binary.csv")
    member = bench.member()
    (fitted,) = fit(member)
    run = run_folder.RunFolder(tmp_path / "packed")
    run.path.mkdir()
    packed_scores = train.finish(run, member.config, bench.schema, bench.data, fitted.network, fitted.fit).validation
    alone = run_folder.RunFolder(tmp_path / "alone")
    alone.path.mkdir()
    scores = train.fit(alone, member.config, bench.schema, bench.data).validation
    assert packed_scores == pytest.approx(scores, abs=1e-3)
    assert run_folder.read_metrics(run)["validation"] == packed_scores
