"""A training within some minutes: what is planned for it, and what is written so that it can be repeated."""

import time
from collections.abc import Callable
from dataclasses import replace
from functools import cache
from pathlib import Path

import pytest
import torch
from tests import people

from dle_bundle.errors import InputError
from dle_training.config import run_config
from dle_training.config.run_config import RunConfig
from dle_training.data.dataset import Dataset
from dle_training.models import registry
from dle_training.runs import budget, prepare, train
from dle_training.runs.prepare import Plan, Prepared
from dle_training.scoring import table_baselines

SMALL = ["model.pack.width=8", "model.pack.cosines=[2,2]", "training.baseline=false", "device=cpu"]
FAST = ["preset=fast", "training.baseline=false", "device=cpu"]
Planned = Callable[..., Prepared]


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return people.write_people(tmp_path_factory.mktemp("budget") / "people.csv", 200)


def asked(table: Path, *settings: str) -> RunConfig:
    return run_config.load(None, list(settings), {"data.source": str(table), "data.target": "buys"})


@cache
def read(table: Path) -> Dataset:
    return prepare.prepare(asked(table)).dataset


@pytest.fixture
def planned(table: Path, monkeypatch: pytest.MonkeyPatch) -> Planned:
    """Plans where an epoch takes a second for a member and a fold, or three seconds of another model."""

    def seconds(config: RunConfig, *_: object) -> float:
        own = registry.pack_settings(config.model)
        return float(own.members * own.folds) if config.model.name == "pack" else 3.0  # type: ignore[operator]

    def plan(seconds: float, *settings: str) -> Prepared:
        config = asked(table, *settings)
        prepared = prepare.resolved(config, read(table))
        # the plan leaves a tenth of the time
        return budget.plan(config, prepared, seconds / 0.9 / 60, time.monotonic(), 0.0)

    monkeypatch.setattr(budget, "_epoch_seconds", seconds)
    return plan


@pytest.mark.parametrize(
    ("seconds", "settings", "members", "folds", "epochs"),
    [
        (8_500, [], 64, 5, 100),  # 25 epochs are usual
        (6_500, [], 32, 5, 100),
        (850, [], 4, 5, 100),
        (450, [], 16, 1, 100),  # four members with folds do not fit
        (850, ["model.pack.folds=5"], 4, 5, 100),
        (450, ["model.pack.folds=5"], 2, 5, 100),
        (850, ["model.pack.members=3"], 3, 5, 100),
        (350, ["model.pack.members=8"], 8, 1, 100),
        (90, [], 2, 1, 100),
        (41, [], 2, 1, 20),
        (40.1, ["training.baseline=true"], 2, 1, 19),  # the baselines take 0.2 s
    ],
)
def test_a_pack_is_as_large_as_the_time_allows(
    planned: Planned, seconds: float, settings: list[str], members: int, folds: int, epochs: int
) -> None:
    found = planned(seconds, "training.epochs=100", *SMALL, *settings)
    own = registry.pack_settings(found.config.model)
    assert (own.members, own.folds, found.config.training.epochs) == (members, folds, epochs)
    assert found.plan is not None
    assert (found.plan.members, found.plan.folds, found.plan.epochs) == (members, folds, epochs)
    assert found.plan.seconds == pytest.approx(min(epochs, 25) * members * folds)
    assert f"{members} members, {'5 folds, ' if folds > 1 else ''}up to {epochs} epochs" in str(found.plan)


def test_another_model_has_as_many_epochs_as_the_time_allows(planned: Planned) -> None:
    assert [planned(seconds, *FAST).config.training.epochs for seconds in (1_000, 61, 4)] == [30, 20, 1]
    assert planned(61, *FAST).config.training.patience == 10  # that of the planned epochs


def test_too_little_time_for_an_epoch_is_refused_with_the_time_that_it_needs(planned: Planned) -> None:
    with pytest.raises(InputError, match=r"an epoch 3\.0 s and baselines 0\.0 s; expected --minutes of at least 0\.06"):
        planned(2, *FAST)


@pytest.mark.parametrize("setting", ["split.folds=3", "training.refit=true", "training.stop_after=2"])
def test_further_trainings_are_refused(planned: Planned, setting: str) -> None:
    with pytest.raises(InputError, match="plans a single training"):
        planned(1_000, *FAST, setting)


@pytest.mark.parametrize("minutes", [-1.0, float("nan"), float("inf")])
def test_minutes_that_are_no_time_are_refused(table: Path, minutes: float) -> None:
    config = asked(table, *FAST)
    with pytest.raises(InputError, match="--minutes: expected a number of at least 0, found"):
        budget.plan(config, prepare.resolved(config, read(table)), minutes, time.monotonic(), 0.0)


def test_a_plan_trains_no_baselines_that_it_has_not_counted(
    table: Path, planned: Planned, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Trees of five folds would take too long, and the plan leaves the folds out."""
    dataset = read(table)
    cells = table_baselines.cells(dataset.schema, len(dataset.split.train), 1)
    monkeypatch.setattr(table_baselines, "MOST_CELLS", cells)
    found = planned(450, "training.epochs=100", *(setting for setting in SMALL if "baseline" not in setting))
    assert registry.folds(found.config.model) == 1
    assert found.config.training.baseline is False


@pytest.mark.parametrize("settings", [SMALL, [*SMALL, "model.pack.folds=1"], FAST])
def test_an_epoch_is_measured_without_a_trace(table: Path, settings: list[str]) -> None:
    prepared, state = prepare.prepare(asked(table, *settings)), torch.get_rng_state()
    sample = budget._sample(prepared, None)
    assert 0 < budget._epoch_seconds(prepared.config, sample, prepared.dataset.split) < float("inf")
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize("settings", [[*SMALL, "model.pack.members=2"], FAST])
def test_time_that_is_up_ends_training_after_an_epoch_and_the_run_can_be_repeated(
    table: Path, tmp_path: Path, settings: list[str]
) -> None:
    prepared = prepare.prepare(asked(table, *settings))
    over = replace(prepared, plan=Plan(1, time.monotonic(), 1, 30, None, None))
    run = prepare.create(tmp_path / "run", over)
    assert len(train.train(run, over).history) == 1
    written = run.read_config()
    assert written.training.stop_after == 1
    assert written.training.epochs == prepared.config.training.epochs
    repeated = prepare.create(tmp_path / "again", prepare.prepare(written))
    train.train(repeated, prepare.prepare(written))
    assert repeated.read_config() == written
    one, other = (train.open_model(each).network.state_dict() for each in (run, repeated))
    assert one.keys() == other.keys()
    assert all(torch.equal(one[name], other[name]) for name in one)
