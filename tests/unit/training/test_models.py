"""What every network must keep, whichever it is: each registry entry runs through the same tests."""

from dataclasses import replace

import pytest
import torch
from msgspec.structs import replace as replace_struct
from torch import Tensor, nn
from torch.nn import functional as F

from dle_training.models._base import Network
from dle_training.models.backbone import BACKBONE
from dle_training.models.bag import BagConfig
from dle_training.models.cnn import CnnConfig
from dle_training.models.dlinear import DlinearConfig
from dle_training.models.dropout import Dropout
from dle_training.models.families import FAMILIES, ModelConfig
from dle_training.models.family import InputKind
from dle_training.models.mlp import Embeddings
from dle_training.models.pack import PackConfig
from dle_training.models.realmlp import RealMlpConfig
from dle_training.models.registry import build
from dle_training.models.rnn import RnnConfig
from dle_training.models.tabm import Tabm, TabmConfig
from dle_training.models.tcn import TcnConfig
from dle_training.models.transformer import TransformerConfig
from dle_training.preprocessing.shape import Bins, Images, InputShape, Known, Series, Tokens

TABLES = {
    "dense": InputShape(5),
    "codes": InputShape(0, (6, 4), ((0, 3, 1, 1, 1, 1), (0, 0, 5, 2))),
    "both": InputShape(5, (6, 4), ((0, 3, 1, 1, 1, 1), (0, 0, 5, 2))),
    "quantiles": InputShape(5, (6,), ((0, 3, 1, 1, 1, 1),), quantiles=2),
    "bins": InputShape(9, (6,), ((0, 3, 1, 1, 1, 1),), bins=(Bins(0, 3, 4), Bins(2, 7, 2))),
    "numbers": InputShape(5, (6,), ((0, 3, 1, 1, 1, 1),), numbers=3),
}
IMAGES = {
    "grey": InputShape(image=Images(1, 1, 12, 10, (0.4,), (0.2,))),
    "two colour images": InputShape(image=Images(2, 3, 16, 16, (0.4, 0.5, 0.6), (0.2, 0.2, 0.3))),
}
SERIES = {
    "series": InputShape(sequence=Series(2, 20)),
    "known": InputShape(sequence=Series(2, 20), known=Known(channels=3, steps=4)),
}
TEXTS = {"text": InputShape(tokens=Tokens(50, 18))}
MIXED = {
    "everything": replace(
        TABLES["both"], image=IMAGES["grey"].image, sequence=SERIES["series"].sequence, tokens=TEXTS["text"].tokens
    )
}
SHAPES = TABLES | IMAGES | SERIES | TEXTS | MIXED
FORMS: dict[InputKind, dict[str, InputShape]] = {"table": TABLES, "image": IMAGES, "sequence": SERIES, "text": TEXTS}
SMALL = replace_struct(
    ModelConfig(hidden=(16, 8), dropout=0.0),
    cnn=CnnConfig(width=4),
    rnn=RnnConfig(width=6),
    dlinear=DlinearConfig(width=4, kernel=5),
    tcn=TcnConfig(width=4, depth=3, kernel=9),
    transformer=TransformerConfig(width=8, heads=2),
    bag=BagConfig(width=6, buckets=64),
    realmlp=RealMlpConfig(hidden=(16, 8), cosines=3),
    pack=PackConfig(members=5, folds=1, blocks=(1, 2, 0), width=8, cosines=(3, 3)),
    tabm=TabmConfig(heads=3, width=8, number_dim=4),
)
VARIANTS = {
    "plain": SMALL,
    "dropout": replace_struct(SMALL, dropout=0.5),
    "batch_norm": replace_struct(SMALL, batch_norm=True),
    "linear": replace_struct(SMALL, hidden=()),
    "lstm": replace_struct(SMALL, rnn=RnnConfig(width=6, cell="lstm", layers=2, pooling="last")),
    "learned": replace_struct(SMALL, transformer=TransformerConfig(width=8, heads=2, positions="learned")),
}
FURTHER = {"mlp": ("batch_norm", "linear"), "rnn": ("lstm",), "transformer": ("learned",)}
"""The variants of each family beyond plain and dropout."""
CASES = [
    *(
        (family.name, form, variant)
        for family in FAMILIES.values()
        if not family.name.startswith(BACKBONE)  # has tests of its own, since it needs an extra
        for kind in family.reads
        for form in FORMS[kind]
        for variant in ("plain", "dropout", *FURTHER.get(family.name, ()))
    ),
    *((name, "everything", "plain") for name in (None, "transformer", "rnn+transformer")),
]


def inputs(shape: InputShape, rows: int) -> dict[str, Tensor]:
    given = {"dense": torch.randn(rows, shape.dense)} if shape.dense else {}
    if shape.cardinalities:
        given["codes"] = torch.stack([torch.randint(2, size, (rows,)) for size in shape.cardinalities], dim=1)
    if (image := shape.image) is not None:
        size = (rows, image.columns * image.channels, image.height, image.width)
        given["image"] = torch.randint(256, size, dtype=torch.uint8)
    if (series := shape.sequence) is not None:
        given["lengths"] = torch.randint(1, series.steps + 1, (rows,))
        within = torch.arange(series.steps) < given["lengths"][:, None]
        given["sequence"] = torch.randn(rows, series.steps, series.channels) * within[..., None]
    if (known := shape.known) is not None:
        given["known"] = torch.randn(rows, known.steps, known.channels)
    if (tokens := shape.tokens) is not None:
        lengths = torch.randint(1, tokens.longest + 1, (rows, 1))
        within = torch.arange(tokens.longest) < lengths
        given["tokens"] = torch.randint(1, tokens.vocabulary, (rows, tokens.longest)) * within
    return given


@pytest.mark.parametrize(("name", "form", "variant"), CASES)
class TestEveryNetwork:
    @pytest.fixture
    def shape(self, form: str) -> InputShape:
        return SHAPES[form]

    @pytest.fixture
    def config(self, name: str | None, variant: str) -> ModelConfig:
        return replace_struct(VARIANTS[variant], name=name)

    @pytest.fixture
    def make(self, config: ModelConfig, shape: InputShape) -> Network:
        return build(config, shape, 3)

    @pytest.mark.parametrize("rows", [2, 7])
    def test_shape_and_finite(self, make: Network, shape: InputShape, rows: int) -> None:
        for training in (True, False):
            output = make.train(training)(inputs(shape, rows))
            heads = (make.heads,) if training and isinstance(make, Tabm) else ()
            assert output.shape == (*heads, rows, 3)
            assert output.dtype == torch.float32
            assert torch.isfinite(output).all()

    def test_any_number_of_rows_in_evaluation(self, make: Network, shape: InputShape) -> None:
        make.eval()
        assert make(inputs(shape, 1)).shape == (1, 3)
        assert make(inputs(shape, 0)).shape == (0, 3)

    def test_no_bias_is_taken_away_by_what_follows(self, make: Network, shape: InputShape) -> None:
        """Such a bias has no gradient but rounding errors, which Adam turns into whole steps."""
        given = inputs(shape, 7)

        def output() -> Tensor:
            torch.manual_seed(3)  # of dropout
            answers: Tensor = make.train()(given)
            return answers.detach()

        before = output()
        for name, module in make.named_modules():
            if isinstance(module, nn.Linear | nn.Conv1d | nn.Conv2d) and module.bias is not None:
                own = module.bias.data
                module.bias.data = own + torch.randn_like(own)
                assert (output() - before).abs().max() > 1e-3, name
                module.bias.data = own

    def test_rows_do_not_influence_each_other(self, make: Network, shape: InputShape) -> None:
        given = inputs(shape, 9)
        make.eval()
        alone = make({name: tensor[4:5] for name, tensor in given.items()})
        torch.testing.assert_close(make(given)[4:5], alone, rtol=1e-4, atol=1e-5)

    def test_padding_changes_nothing(self, make: Network, shape: InputShape) -> None:
        given = inputs(shape, 5)
        make.eval()
        padded = {
            name: F.pad(tensor, (0, 7) if name == "tokens" else (0, 0, 0, 7))
            if name in ("tokens", "sequence")
            else tensor
            for name, tensor in given.items()
        }
        torch.testing.assert_close(make(padded), make(given), rtol=1e-4, atol=1e-5)

    def test_gradient_reaches_every_parameter(self, make: Network, shape: InputShape) -> None:
        # a gain or an output that is 0 at first lets the gradient pass after one step
        optimizer = torch.optim.SGD(make.parameters(), 1e-3)
        (make(inputs(shape, 64)) - 1).square().sum().backward()
        optimizer.step()
        (make(inputs(shape, 64)) - 1).square().sum().backward()
        for name, parameter in make.named_parameters():
            assert parameter.grad is not None, name
            assert parameter.grad.abs().sum() > 0, name

    def test_hidden_matrices_are_weights_that_map_units_to_units(self, make: Network, shape: InputShape) -> None:
        hidden, own = make.hidden_matrices(), list(make.parameters())
        assert all(any(weight is each for each in own) for weight in hidden)
        assert len({id(weight) for weight in hidden}) == len(hidden)
        assert all(weight.dim() == 2 and min(weight.shape) > 3 for weight in hidden), "3 is the number of outputs"

    def test_evaluation_is_deterministic(self, make: Network, shape: InputShape) -> None:
        given = inputs(shape, 8)
        make.eval()
        assert torch.equal(make(given), make(given))

    def test_state_dict_round_trip(self, make: Network, shape: InputShape, config: ModelConfig) -> None:
        make.train()(inputs(shape, 32))
        make.before_evaluation()
        again = build(config, replace(shape, frequencies=()), 3, fresh=False)
        again.load_state_dict(make.state_dict())
        given = inputs(shape, 8)
        assert torch.equal(make.eval()(given), again.eval()(given))
        again.before_evaluation()
        assert torch.equal(make(given), again(given))

    def test_before_evaluation_changes_no_known_row(self, make: Network, shape: InputShape) -> None:
        given = inputs(shape, 32)
        make.eval()
        before = make(given)
        make.before_evaluation()
        assert torch.equal(make(given), before)

    def test_same_seed_same_weights(self, config: ModelConfig, shape: InputShape) -> None:
        pair = []
        for _ in range(2):
            torch.manual_seed(5)
            pair.append(build(config, shape, 3).state_dict())
        assert all(torch.equal(pair[0][key], pair[1][key]) for key in pair[0])


def test_rows_without_examples_get_the_mean_of_their_column() -> None:
    embeddings = Embeddings((4, 3), ((0, 0, 3, 1), (0, 5, 5)), 2)
    table = torch.tensor([[9.0, 9], [9, 9], [1, 2], [5, 6], [9, 9], [1, 0], [3, 4]])
    embeddings.table.data.copy_(table)
    embeddings.fill_untrained()
    expected = torch.tensor([[2.0, 3], [2, 3], [1, 2], [5, 6], [2, 2], [1, 0], [3, 4]])
    torch.testing.assert_close(embeddings.table.data, expected)
    torch.testing.assert_close(embeddings(torch.tensor([[0, 2]])), torch.tensor([[2.0, 3, 3, 4]]))


@pytest.mark.parametrize("p", [0.1, 0.5, 0.999])
def test_dropout_drops_its_share_and_keeps_the_mean(p: float) -> None:
    units = torch.ones(501, 401, requires_grad=True)
    dropped = Dropout(p)(units)
    share = (dropped == 0).float().mean().item()
    assert share == pytest.approx(p, abs=0.005)
    kept = dropped[dropped != 0].unique()
    assert kept.tolist() == pytest.approx([1 / (1 - round(p * 65536) / 65536)])
    assert dropped.mean().item() == pytest.approx(1.0, abs=0.1)
    dropped.sum().backward()
    assert units.grad is not None
    assert torch.equal(units.grad, dropped.detach())


def test_dropout_rests_in_evaluation_and_at_zero() -> None:
    units = torch.randn(5, 3)
    assert Dropout(0.5).eval()(units) is units
    assert Dropout(0.0)(units) is units


def test_dropout_of_no_rows_and_odd_sizes() -> None:
    assert Dropout(0.5)(torch.ones(0, 3)).shape == (0, 3)
    assert Dropout(0.5)(torch.ones(1, 3)).shape == (1, 3)


def test_dropout_follows_the_global_generator() -> None:
    units = torch.ones(64, 64)
    torch.manual_seed(1)
    first, second = Dropout(0.5)(units), Dropout(0.5)(units)
    torch.manual_seed(1)
    assert torch.equal(Dropout(0.5)(units), first)
    assert not torch.equal(first, second)
