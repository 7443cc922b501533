"""Distillation: one network learns the answers of an ensemble, never those of a fold that it is to answer."""

import copy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from msgspec.structs import replace
from tests.people import write_people

from dle_bundle.groups import Groups
from dle_training.config import run_config
from dle_training.config.run_config import RunConfig
from dle_training.data.rows import shuffled_rows
from dle_training.ensembles import choice, distillation, folds
from dle_training.ensembles import loop as ensembles
from dle_training.ensembles.distillation import Students
from dle_training.fitting import loop, tensors
from dle_training.fitting.loop import FitInputs
from dle_training.fitting.state import TrainingState
from dle_training.fitting.tensors import TrainingData
from dle_training.models.pack import Ensemble
from dle_training.optimization import objectives
from dle_training.preprocessing.shape import Inputs
from dle_training.runs import prepare

SMALL = [
    "model.name=pack", "model.pack.members=4", "model.pack.width=16", "model.pack.cosines=[3,3]",
    "model.pack.blocks=[1]", "model.pack.most=3", "training.epochs=12", "optimizer.lr=0.01", "device=cpu",
]  # fmt: skip


class Trained:
    """A pack, its data, and rows with shuffled columns."""

    def __init__(self, folder: Path, target: str, count: int) -> None:
        source = write_people(folder / "people.csv", 300, target=target)
        flags = {"data.source": str(source), "data.target": target}
        prepared = prepare.prepare(run_config.load(None, [*SMALL, f"model.pack.folds={count}"], flags))
        self.config: RunConfig = prepared.config
        self.data: TrainingData = tensors.make(prepared.dataset, prepared.config)
        network = self.data.network(self.config)
        assert isinstance(network, Ensemble)
        self.pack = network
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(choice, "LEAST_GAIN", -1.0)  # several members, even if one alone is best
            objective = objectives.restore(self.data.objective)
            parts = (self.data.train, self.data.validation)
            ensembles.fit(FitInputs(network, objective, *parts, self.config, folder / "checkpoints"))
        self.shuffled: Inputs = self.data.preprocessing.prepare(
            shuffled_rows.make(prepared.dataset.part("train")[0], 600, np.random.default_rng(0))
        )
        self.member = copy.deepcopy(network)
        self.member.keep([0])

    def distil(self, folder: Path) -> Students:
        return distillation.fit(self.pack, self.member, self.data, self.shuffled, self.config, folder)


@pytest.fixture(autouse=True)
def brief(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(distillation, "_STEPS", 12)


@pytest.fixture(scope="module", params=[("buys", 1), ("level", 3), ("spent", 3)], ids=str)
def trained(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Trained:
    target, count = request.param
    return Trained(tmp_path_factory.mktemp(target), target, count)


def test_the_student_answers_more_like_the_ensemble_than_the_member_it_began_as(
    trained: Trained, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of rows that neither learnt from."""
    monkeypatch.setattr(distillation, "_STEPS", 400)
    students, seed = trained.distil(tmp_path), trained.config.seed
    assert (len(students.last()), students.last().copies) == (1, 1)
    objective = objectives.restore(trained.data.objective)
    rows, outputs = ensembles.validated(trained.pack, trained.data, seed)
    whole, member, student = (
        distillation._answer(each, objective.task)
        for each in (
            outputs,
            ensembles.validated(trained.member, trained.data, seed)[1],
            distillation.validated(students, trained.data, seed)[1],
        )
    )
    assert len(student) == len(rows) == len(whole)
    assert (student - whole).square().mean() < 0.6 * (member - whole).square().mean()


def test_the_same_seed_gives_the_same_weights_and_they_can_be_opened(trained: Trained, tmp_path: Path) -> None:
    one, other = trained.distil(tmp_path / "one"), trained.distil(tmp_path / "other")
    for name, tensor in one.state_dict().items():
        assert torch.equal(tensor, other.state_dict()[name]), name
    assert not (tmp_path / "one" / "answers.safetensors").exists()
    network = trained.data.network(replace(trained.config, seed=5))
    assert isinstance(network, Ensemble)
    opened = distillation.open_last(network, tmp_path / "one")
    rows = trained.data.validation
    assert torch.equal(loop.predict(opened, rows), loop.predict(one.last(), rows))


def test_an_interrupted_distillation_ends_with_the_same_weights(
    trained: Trained, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = trained.distil(tmp_path / "whole")
    often = replace(trained.config, training=replace(trained.config.training, checkpoint_seconds=0.0))
    save = TrainingState.save

    def killed(self: TrainingState, path: Path) -> None:
        save(self, path)
        if (self.progress.epoch, self.progress.step) == (2, 1):
            raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(TrainingState, "save", killed)
        distillation.fit(trained.pack, trained.member, trained.data, trained.shuffled, often, tmp_path / "again")

    def fail(*_: Any) -> None:
        raise AssertionError("the answers of the ensemble were computed again")

    monkeypatch.setattr(distillation, "_answered", fail)
    resumed = trained.distil(tmp_path / "again")
    for name, tensor in whole.state_dict().items():
        assert torch.equal(tensor, resumed.state_dict()[name]), name


def test_no_student_learns_from_a_target_of_the_fold_that_it_answers(tmp_path: Path) -> None:
    """The copies of the ensemble that trained on a fold have no part in what the student of that fold learns."""
    trained = Trained(tmp_path, "level", 3)
    rows = ensembles.validation_rows(trained.pack, trained.data, trained.config.seed)
    fold = rows.inputs[folds.FOLD]
    plain = distillation._answered(trained.pack, trained.data, rows, trained.shuffled, "cpu")
    for members in trained.pack.running:  # the copy without fold 0 stays as it is; the others have seen fold 0
        for parameter in members.parameters():
            parameter.data[members.fold != 0] *= 3
    changed = distillation._answered(trained.pack, trained.data, rows, trained.shuffled, "cpu")
    own, other = (known["train"][:, 0] for known in (plain, changed))
    assert torch.equal(torch.isnan(own[: len(rows), 0]), fold == 0), "and it learns no row of the fold"
    assert torch.equal(own.nan_to_num(nan=-1), other.nan_to_num(nan=-1))
    assert not torch.allclose(plain["train"][:, -1], changed["train"][:, -1])
    unseen = plain["validation"][torch.arange(len(rows)), fold]
    assert torch.equal(plain["train"][: len(rows), -1], unseen), "the last student learns out-of-fold answers"


def test_shuffled_rows_keep_the_values_of_each_column() -> None:
    draw = np.random.default_rng(1)
    numbers = draw.normal(size=(50, 3))
    rows = Groups(numbers, np.array([[f"c{row}"] for row in range(50)], object), np.arange(50).reshape(50, 1))
    one, again = (shuffled_rows.make(rows, 230, np.random.default_rng(0)) for _ in range(2))
    assert len(one) == 230
    np.testing.assert_array_equal(one.numeric, again.numeric)
    for column in range(3):
        assert set(one.numeric[:, column]) <= set(numbers[:, column])
    own = [list(numbers[:, 0]).index(value) for value in one.numeric[:, 0]]
    moved = np.mean([names != f"c{row}" for names, row in zip(one.categorical[:, 0], own, strict=True)])
    assert 0.3 < moved < 0.6  # one of the two values or both came from another row
    assert one.datetime.dtype == np.int64
