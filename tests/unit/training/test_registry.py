"""Which encoder reads which input, by one name or several; and the settings that suit it."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import msgspec
import pytest
from tests.configs import resolved
from torch import nn

from dle_bundle.errors import InputError
from dle_bundle.schema import Kind, Task
from dle_training.models import registry
from dle_training.models._base import EncoderNetwork
from dle_training.models.families import FAMILIES, ModelConfig
from dle_training.models.family import NO_AUGMENTATION, Facts, InputKind
from dle_training.models.rnn import RnnConfig
from dle_training.models.tcn import TcnConfig
from dle_training.preprocessing.shape import InputShape, Tokens
from dle_training.settings import yaml_text


@pytest.mark.parametrize(
    ("name", "kinds", "chosen"),
    [
        (None, ("table",), {"table": "pack"}),
        (
            None,
            ("image", "sequence", "text", "table"),
            {"image": "cnn", "sequence": "tcn", "text": "bag", "table": "mlp"},
        ),
        ("transformer", ("sequence", "text"), {"sequence": "transformer", "text": "transformer"}),
        ("transformer", ("text", "table"), {"text": "transformer", "table": "mlp"}),
        ("rnn+transformer", ("sequence", "text"), {"sequence": "rnn", "text": "transformer"}),
        ("rnn + tcn", ("sequence", "text"), {"sequence": "tcn", "text": "rnn"}),
        ("timm:resnet18", ("image", "table"), {"image": "timm:resnet18", "table": "mlp"}),
    ],
)
def test_choices(name: str | None, kinds: tuple[InputKind, ...], chosen: dict[InputKind, str]) -> None:
    found = registry.choose(name, kinds)
    assert found == chosen
    assert registry.choose(registry.joined(found), kinds) == chosen


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("resnet", r"no model 'resnet'.*known: mlp, pack, linear"),
        ("transfomer", r"did you mean 'transformer'"),
        ("cnn", r"cnn reads images.*the data has none; choose from rnn, transformer, bag"),
        ("rnn+transformer", r"transformer reads series or text"),
        ("timm:", "no model 'timm:'"),
    ],
)
def test_names_that_cannot_be_used(name: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        registry.choose(name, ("text",))


@pytest.mark.parametrize("name", [family.name for family in FAMILIES.values() if family.alone])
def test_a_family_alone_is_refused_beside_other_inputs_with_one_that_is_not(name: str) -> None:
    with pytest.raises(InputError, match=f"{name} reads columns alone") as caught:
        resolved(f"model.name={name}", kinds=("image", "numeric"))
    cure = caught.value.message.rpartition("set ")[2]
    assert cure == "model.name=mlp"
    assert resolved(cure, kinds=("image", "numeric")).model.name == "cnn+mlp"
    assert registry.choose(name, ["table"]) == {"table": name}


def test_all_wrong_names_are_told_together() -> None:
    with pytest.raises(InputError) as caught:
        registry.choose("cnn+zzz", ("text",))
    assert len(caught.value.details) == 2


def test_what_is_left_open_follows_the_family_that_is_dearest_to_train() -> None:
    few = resolved(rows=50, kinds=("sequence",))
    assert few.training.epochs is not None
    assert few.training.batch_size is not None
    assert few.training.epochs * -(-50 // few.training.batch_size) >= FAMILIES["tcn"].recipe.least_steps
    assert few.training.patience == few.training.epochs // 3
    table = resolved(rows=50)
    assert (table.training.epochs, table.training.patience, table.optimizer.lr) == (30, 10, 2e-3)
    assert table.augmentation == NO_AUGMENTATION
    own = "training.epochs=3", "optimizer.lr=0.5", "augmentation.flip=true", "training.patience=0"
    kept = resolved(*own, rows=60_000, kinds=("image", "numeric"))
    assert (kept.training.epochs, kept.optimizer.lr, kept.augmentation.flip) == (3, 0.5, True)
    assert kept.training.patience == 0
    assert kept.augmentation.shift == FAMILIES["cnn"].recipe.augmentation.shift


@pytest.mark.parametrize("kinds", [("numeric",), ("image", "numeric"), ("sequence",), ("text", "numeric")])
@pytest.mark.parametrize("task", ["binary", "multiclass", "regression"])
@pytest.mark.parametrize("preset", ["fast", "default"])
def test_a_resolved_configuration_has_no_open_choice(kinds: Sequence[Kind], task: Task, preset: str) -> None:
    config = resolved(f"preset={preset}", task=task, kinds=kinds)
    of_files = ("source", "sheet", "delimiter", "encoding", "comment", "header", "decimal", "thousands")
    means_none = {"split.by", *(f"data.{key}" for key in (*of_files, "sequence_id", "time", "window", "season"))}
    means_none |= {"split.folds", "objective.class_weights", "schedule.gamma"}
    means_none |= {"training.stop_after", "training.max_latency", "model.pack.keep"}
    means_none |= set() if "image" in kinds else {"preprocessing.image_size", "preprocessing.image_fit"}
    settings = _leaves(msgspec.to_builtins(config))
    assert {key for key, value in settings.items() if value is None} == means_none
    assert config.device in ("cpu", "cuda")
    written = (f"{key}={yaml_text.inline(value)}" for key, value in settings.items())
    again = resolved(*written, task=task, kinds=kinds, rows=7)
    assert again == config, "what is written is what is used, whatever the data"


def _leaves(tree: dict[str, Any], before: str = "") -> dict[str, Any]:
    """Every setting by its dotted key; a mapping that is a value of its own stays whole."""
    found: dict[str, Any] = {}
    for key, value in tree.items():
        section = isinstance(value, dict) and before + key not in ("data.kinds", "data.date_formats", "model.dropout")
        found |= _leaves(value, f"{before}{key}.") if section else {before + key: value}
    return found


def test_each_family_has_its_own_dropout_unless_one_is_given() -> None:
    kinds: Sequence[Kind] = ("text", "numeric")
    assert resolved(kinds=kinds).model.dropout == {"bag": 0.5, "mlp": 0.1}
    assert resolved("model.dropout=0.3", kinds=kinds).model.dropout == 0.3
    assert resolved("model.dropout={mlp: 0.2}", kinds=kinds).model.dropout == {"bag": 0.5, "mlp": 0.2}
    assert resolved().model.dropout == 0.1
    with pytest.raises(InputError, match=r"families that this model does not have") as caught:
        resolved("model.dropout={bga: 0.2}", kinds=kinds)
    assert caught.value.details == ("bga (did you mean 'bag'?)",)


def test_every_family_with_a_section_of_its_own_stands_in_the_configuration() -> None:
    for family in FAMILIES.values():
        assert isinstance(registry.section(ModelConfig(), family), family.settings)


def test_a_family_completes_its_own_settings_from_the_data(monkeypatch: pytest.MonkeyPatch) -> None:
    def wide(settings: TcnConfig, facts: Facts) -> TcnConfig:
        return msgspec.structs.replace(settings, width=facts.rows + len(facts.kinds))

    monkeypatch.setitem(FAMILIES, "tcn", replace(FAMILIES["tcn"], complete=wide))
    config = registry.complete(ModelConfig(), Facts(("sequence", "text"), 1000))
    assert registry.section(config, FAMILIES["tcn"]) == TcnConfig(width=1002)
    assert registry.section(config, FAMILIES["rnn"]) == RnnConfig()


def test_columns_beside_others_have_smaller_layers() -> None:
    text = Tokens(vocabulary=10, longest=5)
    cases: tuple[tuple[InputShape, Sequence[Kind], list[str], list[int]], ...] = (
        (InputShape(dense=3), ["numeric"], [], [256, 256, 256]),
        (InputShape(dense=3, tokens=text), ["numeric", "text"], [], [64, 64]),
        (InputShape(dense=3, tokens=text), ["numeric", "text"], ["model.hidden=[5]"], [5]),
        (InputShape(dense=3), ["numeric"], ["model.hidden=[]"], []),
    )
    for shape, kinds, settings, widths in cases:
        network = registry.build(resolved(*settings, kinds=kinds).model, shape, 2)
        assert isinstance(network, EncoderNetwork)
        layers = [layer for layer in network.encoders["table"].modules() if isinstance(layer, nn.Linear)]
        assert [layer.out_features for layer in layers] == widths
