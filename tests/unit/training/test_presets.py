"""Presets choose the model of a table of columns alone, and settings that the model does not read are refused."""

import re
from pathlib import Path

import msgspec
import pandas as pd
import pytest
from tests.configs import resolved

from dle_bundle.errors import InputError
from dle_bundle.schema import Task
from dle_training.config import run_config
from dle_training.models import registry
from dle_training.models.family import Facts
from dle_training.runs import prepare


@pytest.mark.parametrize(
    ("preset", "name", "members"), [("fast", "mlp", 8), ("default", "pack", 8), ("best", "pack", 32)]
)
def test_the_preset_chooses_the_model_of_a_table(preset: str, name: str, members: int) -> None:
    config = resolved(f"preset={preset}", kinds=["numeric", "categorical"])
    assert config.model.name == name
    assert registry.pack_settings(config.model).members == members


def test_packs_learn_with_muon_and_those_of_a_regression_without_folds_are_deeper() -> None:
    """As `docs/results.md` measures by validation."""
    tasks: tuple[Task, ...] = ("binary", "regression")
    found = {
        (task, rows): registry.pack_settings(resolved("preset=default", "split.by=random", task=task, rows=rows).model)
        for task in tasks
        for rows in (3_499, 3_500)
    }
    assert {key: (own.blocks, own.muon_lr) for key, own in found.items()} == {
        ("binary", 3_499): ((1, 2, 0), (1.0, 50.0)),
        ("binary", 3_500): ((1, 2), (1.0, 50.0)),
        ("regression", 3_499): ((1, 2, 0), (1.0, 50.0)),
        ("regression", 3_500): ((1, 2, 3), (1.0, 50.0)),
    }


@pytest.mark.parametrize(
    ("settings", "noted"),
    [
        (["preset=fast", "model.name=pack"], True),
        (["preset=fast", "model.name=tabm"], True),
        (["preset=fast", "model.name=mlp"], False),
        (["preset=fast"], False),
        (["model.name=pack"], False),
    ],
)
def test_a_preset_without_effect_is_noted(tmp_path: Path, settings: list[str], noted: bool) -> None:
    source = tmp_path / "rows.csv"
    pd.DataFrame({"x": [index / 7 for index in range(40)], "y": ["a", "b"] * 20}).to_csv(source, index=False)
    config = run_config.load(None, [f"data.source={source}", "data.target=y", "device=cpu", *settings])
    notes = [note for note in prepare.prepare(config).dataset.notes if "preset=fast has no effect" in note]
    assert bool(notes) is noted
    assert all("model.name=mlp trains the model of the preset" in note for note in notes)


@pytest.mark.parametrize("preset", ["fast", "default"])
@pytest.mark.parametrize(("kinds", "name"), [(["image"], "cnn"), (["image", "numeric"], "cnn+mlp")])
def test_other_inputs_have_the_same_model_with_every_preset(preset: str, kinds: list[str], name: str) -> None:
    assert resolved(f"preset={preset}", kinds=kinds).model.name == name  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("settings", "kinds", "model"),
    [(["model.name=mlp"], ["numeric"], "mlp"), ([], ["image"], "cnn"), ([], ["numeric", "text"], "bag+mlp")],
)
def test_best_is_refused_for_other_models(settings: list[str], kinds: list[str], model: str) -> None:
    with pytest.raises(InputError, match=f"the model is {re.escape(model)}; set --preset default"):
        resolved("preset=best", *settings, kinds=kinds)  # type: ignore[arg-type]


def test_best_proposes_another_preset_where_a_pack_cannot_follow() -> None:
    """The option is typed after `--preset best`, and a `--set` would not win over that."""
    with pytest.raises(InputError, match="or set --preset fast") as error:
        resolved("preset=best", "optimizer.name=sgd", "training.refit=true")
    assert len(error.value.details) == 2
    assert resolved("preset=fast", "optimizer.name=sgd", "training.refit=true").model.name == "mlp"


def test_a_pack_that_is_cross_validated_has_no_folds_of_its_own() -> None:
    """They would learn from the rows that score the fold."""
    config = resolved("preset=default", "split.by=random", "split.folds=3")
    assert registry.pack_settings(config.model).folds == 1
    with pytest.raises(InputError) as error:
        resolved("preset=default", "split.by=random", "split.folds=3", "model.pack.folds=4")
    assert error.value.details == ("model.pack.folds=4: it is cross-validated already, on split.folds",)


def test_a_pack_has_no_more_folds_than_rows() -> None:
    found = [
        registry.pack_settings(resolved("preset=default", "split.by=random", rows=rows).model).folds
        for rows in (1, 2, 3, 6)
    ]
    assert found == [1, 2, 3, 5]
    with pytest.raises(InputError) as error:
        resolved("preset=default", "split.by=random", "model.pack.folds=7", rows=6)
    assert error.value.details == ("model.pack.folds=7: expected at most one for each of 6 training rows",)


def test_a_pack_with_class_weights_refuses_a_metric_without_them() -> None:
    weights = "objective.class_weights=balanced"
    assert resolved("preset=default", weights).training.metric == "loss"
    with pytest.raises(InputError) as error:
        resolved("preset=default", weights, "training.metric=log_loss")
    assert "chosen by weighted loss" in error.value.details[0]


def test_settings_of_another_family_are_refused_with_that_family() -> None:
    config = run_config.load(None, ["model.hidden=[8]", "model.batch_norm=true", "model.cnn.width=4"])
    with pytest.raises(InputError) as error:
        registry.refuse_unread(config.model, {"table": ["pack"]}, Facts(["table"], 1_000))
    assert [*error.value.details] == [
        "model.hidden: set model.name=mlp, which reads it",
        "model.batch_norm: set model.name=mlp, which reads it",
        "model.cnn.width",
    ]
    registry.refuse_unread(config.model, {"table": ["mlp"], "image": ["cnn"]}, Facts(["table", "image"], 1_000))


@pytest.mark.parametrize("preset", ["fast", "default", "best"])
def test_a_resolved_configuration_replays(preset: str) -> None:
    config = resolved(f"preset={preset}")
    facts = Facts(["table"], 1_000, preset=config.preset)
    registry.refuse_unread(config.model, {"table": [config.model.name or ""]}, facts)
    assert resolved(*_assignments(run_config.dump(config))) == config


def _assignments(text: str) -> list[str]:
    tree = msgspec.yaml.decode(text)
    return [f"{key}={msgspec.json.encode(value).decode()}" for key, value in tree.items()]
