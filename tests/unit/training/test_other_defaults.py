"""Runs and studies do not depend on defaults: with all of them changed a run replays, and a study goes on."""

from copy import copy
from dataclasses import replace
from functools import partial
from pathlib import Path
from types import NoneType
from typing import Annotated, Any, Literal, get_args, get_origin, get_type_hints

import msgspec
import numpy as np
import pytest
from optuna.trial import TrialState
from safetensors.numpy import load_file
from tests import many_inputs, people

from dle_training.config import resolve, run_config
from dle_training.config.run_config import RunConfig
from dle_training.data.dataset import Dataset
from dle_training.data.images import pictures
from dle_training.export import bundle as export
from dle_training.models import mlp
from dle_training.models.families import FAMILIES
from dle_training.optimization.optimizers import OPTIMIZERS
from dle_training.optimization.schedules import SCHEDULES
from dle_training.runs import contents, evaluate, prepare, train
from dle_training.runs.folder import RunFolder
from dle_training.search import leaderboard, points, selection, space, trial_locks, work
from dle_training.search import settings as study_settings
from dle_training.search import study as studies
from dle_training.search.settings import StudyConfig
from dle_training.search.shared_data import PreparedData
from dle_training.search.study import Study, StudyFolder
from dle_training.search.trial import Watcher
from dle_training.settings.base import Settings


def changed(kind: type[Settings]) -> type[Settings]:
    """The same settings with another default for each."""
    hints = get_type_hints(kind, include_extras=True)
    fields: list[tuple[str, Any, Any]] = []
    for field in msgspec.structs.fields(kind):
        default = field.default_factory() if field.default is msgspec.NODEFAULT else field.default
        if isinstance(default, Settings):
            own = changed(type(default))
            fields.append((field.name, own, msgspec.field(default_factory=own)))
        else:
            value = other(default, hints[field.name])
            assert value != default, f"{kind.__name__}.{field.name}"
            fields.append((field.name, hints[field.name], msgspec.field(default_factory=partial(copy, value))))
    made = msgspec.defstruct(kind.__name__, fields, bases=(kind,), frozen=True, kw_only=True)
    assert issubclass(made, Settings)
    return made


def other(default: Any, hint: Any) -> Any:
    """Another value of a type; of several types the first that is not the default's own null."""
    if isinstance(default, bool):
        return not default
    if isinstance(default, int):
        return default * 2 or 1
    if isinstance(default, float):
        return default / 2 or 0.25
    if isinstance(default, tuple) and default and all(isinstance(value, float) for value in default):
        return tuple(value / 2 for value in default)  # a range stays one
    kinds = [kind for kind in alternatives(hint) if kind is not NoneType]
    literals = [value for kind in kinds if get_origin(kind) is Literal for value in get_args(kind) if value != default]
    if literals:
        return literals[0]
    first = get_origin(kinds[0]) or kinds[0]
    samples = {bool: True, int: 7, float: 0.3, str: "other", dict: {"other": "numeric"}, tuple: (16, 16)}
    return samples[first]


def alternatives(hint: Any) -> list[Any]:
    """The types that a hint allows."""
    if get_origin(hint) is Annotated:
        return alternatives(get_args(hint)[0])
    if get_origin(hint) in (Literal, dict, tuple) or not get_args(hint):
        return [hint]
    return [kind for argument in get_args(hint) for kind in alternatives(argument)]


@pytest.fixture
def other_defaults(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Changes every default of the code when it is called."""

    def change() -> None:
        settings = changed(RunConfig)
        for module in (run_config, points, space):
            monkeypatch.setattr(module, "RunConfig", settings)
        monkeypatch.setattr(studies, "StudyConfig", changed(StudyConfig))
        monkeypatch.setattr(study_settings, "_LEAST_HALVED", 1)
        monkeypatch.setattr(study_settings, "_LEAST_EPOCHS", 1)
        values = {"LEAST_PATIENCE": 1, "PIECEWISE_BINS": 5, "LEAST_ROWS_FOR_BINS": 10, "LARGEST_BATCH": 16}
        for name, value in values.items():
            monkeypatch.setattr(resolve, name, value)
        monkeypatch.setattr(resolve, "BATCH_SIZES", ((100, 8), (10**9, 16)))
        monkeypatch.setattr(mlp, "ALONE", (24,))
        monkeypatch.setattr(mlp, "BESIDE_OTHERS", (12,))
        monkeypatch.setattr(pictures, "LARGEST_NATIVE", 8)
        monkeypatch.setattr(pictures, "DEFAULT_SIZE", 48)
        for name, family in FAMILIES.items():
            recipe = replace(family.recipe, lr=family.recipe.lr * 3, epochs=3, least_steps=0, largest_batch=8)
            monkeypatch.setitem(FAMILIES, name, replace(family, dropout=0.35, recipe=recipe))
        for name, optimizer in OPTIMIZERS.items():
            lr = None if optimizer.lr is None else optimizer.lr * 3
            monkeypatch.setitem(OPTIMIZERS, name, replace(optimizer, lr=lr))
        for name, schedule in SCHEDULES.items():
            gamma = None if schedule.gamma is None else schedule.gamma / 2
            monkeypatch.setitem(SCHEDULES, name, replace(schedule, gamma=gamma))

    return change


def weights(run: RunFolder) -> dict[str, bytes]:
    return {name: tensor.tobytes() for name, tensor in load_file(run.checkpoints / "best.safetensors").items()}


@pytest.mark.parametrize(
    ("source", "settings"),
    [
        ("people.csv", ["data.target=buys", "training.epochs=3", "schedule.name=exponential"]),
        ("people.csv", ["preset=fast", "data.target=buys", "optimizer.name=sgd", "training.epochs=3"]),
        ("pictures", ["training.epochs=1"]),
        ("reviews.parquet", ["data.target=kind", "training.epochs=2"]),
        ("signals.npz", ["training.epochs=1"]),
        ("power.csv", ["data.target=load", "data.time=hour", "data.window=24", "data.horizon=3", "training.epochs=1"]),
    ],
)
def test_with_every_default_changed_a_run_opens_exports_and_replays(
    tmp_path: Path, other_defaults: Any, source: str, settings: list[str]
) -> None:
    many_inputs.write_sources(tmp_path)
    people.write_people(tmp_path / "people.csv", 200)
    given = [f"data.source={tmp_path / source}", *settings]
    made = prepare.prepare(run_config.load(None, given))
    run = prepare.create(tmp_path / "run", made)
    train.train(run, made)
    groups, _ = contents.read_part(run, "test")
    answers = train.open_model(run).predict(groups)
    config = run.read_config()

    other_defaults()
    assert differing(run_config.load(None, given), config) > 20, "the defaults are others now"
    assert msgspec.to_builtins(run.read_config()) == msgspec.to_builtins(config)
    np.testing.assert_array_equal(train.open_model(run).predict(groups), answers)
    assert evaluate.evaluate(run).rows == len(groups)
    assert export.export_run(run, tmp_path / "bundle").parity.rows > len(groups)
    again = prepare.prepare(run_config.load(run.config))
    assert run_config.dump(again.config) == run.config.read_text()
    replayed = prepare.create(tmp_path / "again", again)
    train.train(replayed, again)
    assert weights(replayed) == weights(run)


@pytest.mark.parametrize("folds", [[], ["split.folds=2"]])
def test_with_every_default_changed_a_study_goes_on(tmp_path: Path, other_defaults: Any, folds: list[str]) -> None:
    """A complete trial, one that was stopped, and one that begins later are trained, timed and selected alike."""
    people.write_people(tmp_path / "people.csv", 200)
    flags = {"data.source": str(tmp_path / "people.csv"), "data.target": "buys", "study.trials": 2}
    given = ["study.seeds=2", "study.refit=true", *folds]
    spaces = ["optimizer.lr={log: [1e-3, 1e-2]}", "training.epochs={choice: [2, 3]}"]
    planned = studies.plan(studies.request({}, given, flags, spaces))
    study = studies.create(StudyFolder(tmp_path / "study"), planned)
    trained(study, planned.prepared.dataset, trials=1)
    (stopped,) = trial_locks.claim(study, 1)
    study.begin(stopped.number, stopped.point)
    stopped.lock.release()
    texts = [study.folder.trial(number).config.read_text() for number in range(2)]
    settings = msgspec.to_builtins(study.request.settings)
    pruner = vars(study.trials.study.pruner)

    other_defaults()
    study = trial_locks.grown(studies.open_study(study.folder), 3)
    assert msgspec.to_builtins(study.request.settings) == {**settings, "trials": 3}
    assert vars(study.trials.study.pruner) == pruner
    dataset = studies.read_again(study)
    trained(study, dataset, trials=2)
    assert [each.state for each in study.trials.all()] == [TrialState.COMPLETE] * 3
    assert [study.folder.trial(number).config.read_text() for number in range(2)] == texts
    old, new = (leaves(msgspec.to_builtins(study.config(number))) for number in (0, 2))
    varied = {"optimizer.lr", "training.epochs", "training.patience"}
    assert {name for name in old if old[name] != new[name]} <= varied, "a trial of later has the same settings"
    with selection.concluding(study):
        selected = selection.select(study, lambda: dataset, lambda _: [])
        assert leaderboard.measure_latencies(study, lambda: dataset, lambda *_: None)
    chosen = leaves(msgspec.to_builtins(study.config(selected.selection.number)))
    final = leaves(msgspec.to_builtins(study.folder.selected.read_config()))
    assert final == {**chosen, "training.refit": True, "split.folds": None}


def trained(study: Study, dataset: Dataset, trials: int) -> None:
    with PreparedData(study, lambda: dataset) as data:
        for _ in range(trials):
            work.work_once(study, data, Watcher(), work.Deadline(None), study.count, {})


def differing(one: RunConfig, other: RunConfig) -> int:
    """How many settings differ."""
    left, right = (leaves(msgspec.to_builtins(config)) for config in (one, other))
    return sum(left.get(name) != right.get(name) for name in left | right)


def leaves(tree: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, value in tree.items():
        if isinstance(value, dict) and value and all(isinstance(key, str) for key in value):
            found |= leaves(value, f"{prefix}{name}.")
        else:
            found[f"{prefix}{name}"] = value
    return found
