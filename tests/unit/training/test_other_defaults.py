"""A run does not depend on defaults: with all of them changed it opens, exports and replays to the same weights."""

from copy import copy
from dataclasses import replace
from functools import partial
from pathlib import Path
from types import NoneType
from typing import Annotated, Any, Literal, get_args, get_origin, get_type_hints

import msgspec
import numpy as np
import pytest
from safetensors.numpy import load_file
from tests import many_inputs, people

from dle_training.config import resolve, run_config
from dle_training.config.run_config import RunConfig
from dle_training.data import pictures
from dle_training.export import bundle as export
from dle_training.models import mlp
from dle_training.models.families import FAMILIES
from dle_training.optimization.optimizers import OPTIMIZERS
from dle_training.optimization.schedules import SCHEDULES
from dle_training.runs import contents, evaluate, prepare, train
from dle_training.runs.folder import RunFolder
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
    kinds = [kind for kind in alternatives(hint) if kind is not NoneType]
    literals = [value for kind in kinds if get_origin(kind) is Literal for value in get_args(kind) if value != default]
    if literals:
        return literals[0]
    first = get_origin(kinds[0]) or kinds[0]
    samples = {bool: True, int: 7, float: 0.3, str: "other", dict: {"other": "numeric"}, tuple: (16,)}
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
        monkeypatch.setattr(run_config, "RunConfig", changed(RunConfig))
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
        ("people.csv", ["data.target=buys", "optimizer.name=sgd", "training.epochs=3"]),
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
