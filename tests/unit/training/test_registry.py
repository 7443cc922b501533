"""Which encoder reads which input, by one name or several; and the settings that suit it."""

import pytest
from torch import nn

from dle_bundle.errors import InputError
from dle_training.config import resolve, run_config
from dle_training.models import registry
from dle_training.models.registry import Input
from dle_training.preprocessing.shape import InputShape, Tokens


@pytest.mark.parametrize(
    ("name", "kinds", "chosen"),
    [
        (None, ("table",), {"table": "mlp"}),
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
def test_choices(name: str | None, kinds: tuple[Input, ...], chosen: dict[Input, str]) -> None:
    found = registry.choose(name, kinds)
    assert found == chosen
    assert registry.choose(registry.joined(found), kinds) == chosen


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("resnet", r"no model 'resnet'.*known: mlp, cnn"),
        ("transfomer", r"did you mean 'transformer'"),
        ("cnn", r"cnn reads images.*there are none here; choose from rnn, transformer, bag"),
        ("rnn+transformer", r"transformer reads series or text"),
        ("timm:", "no model 'timm:'"),
    ],
)
def test_names_that_cannot_be_used(name: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        registry.choose(name, ("text",))


def test_all_wrong_names_are_told_together() -> None:
    with pytest.raises(InputError) as caught:
        registry.choose("cnn+zzz", ("text",))
    assert len(caught.value.details) == 2


def test_recipes() -> None:
    assert {*resolve.RECIPES} == {name.split(":")[0] for name in registry.MODELS}
    few = resolve._suited(run_config.load(), {"sequence": "tcn"}, 50)
    steps = few.training.epochs * -(-50 // few.training.batch_size)  # type: ignore[operator]
    assert steps >= resolve.RECIPES["tcn"].least_steps
    assert few.training.patience == few.training.epochs // 3  # type: ignore[operator]
    table = resolve._suited(run_config.load(), {"table": "mlp"}, 50)
    assert (table.training.epochs, table.training.patience, table.optimizer.lr) == (30, 10, 2e-3)
    assert table.augmentation == resolve.NONE
    own = run_config.load(
        None, ["training.epochs=3", "optimizer.lr=0.5", "augmentation.flip=true", "training.patience=0"]
    )
    kept = resolve._suited(own, {"image": "cnn"}, 60_000)
    assert (kept.training.epochs, kept.optimizer.lr, kept.augmentation.flip) == (3, 0.5, True)
    assert kept.training.patience == 0
    assert kept.augmentation.shift == resolve.RECIPES["cnn"].augmentation.shift
    assert resolve._suited(kept, {"image": "cnn"}, 60_000) == kept


def test_columns_beside_others_have_smaller_layers() -> None:
    text = Tokens(vocabulary=10, longest=5)
    for shape, settings, widths in (
        (InputShape(dense=3), [], [256, 256, 256]),
        (InputShape(dense=3, tokens=text), [], [64, 64]),
        (InputShape(dense=3, tokens=text), ["model.hidden=[5]"], [5]),
        (InputShape(dense=3), ["model.hidden=[]"], []),
    ):
        encoder = registry.build(run_config.load(None, settings).model, shape, 2).encoders["table"]
        layers = [layer for layer in encoder.modules() if isinstance(layer, nn.Linear)]
        assert [layer.out_features for layer in layers] == widths
