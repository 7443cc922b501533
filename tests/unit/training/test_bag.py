"""The bag of n-grams: what is in it, padding that does not count, and the same answer from the graph."""

import pytest
import torch
from tests.unit.training.exported import answers
from torch import Tensor

from dle_bundle.groups import PADDING
from dle_bundle.text import SEPARATOR
from dle_training.models.bag import BagConfig, BagEncoder
from dle_training.preprocessing.shape import InputShape, Tokens

VOCABULARY = 50


def encoder(ngrams: int = 2, dropout: float = 0.0, buckets: int = 500) -> BagEncoder:
    """One whose weights differ, in evaluation mode."""
    config = BagConfig(width=8, ngrams=ngrams, buckets=buckets)
    built = BagEncoder(config, InputShape(tokens=Tokens(VOCABULARY, 40)), dropout)
    torch.nn.init.normal_(built.table.weight)
    torch.nn.init.normal_(built.log_weights)
    return built.eval()


def batch(rows: int, longest: int) -> Tensor:
    """Rows of any length, of one text each."""
    tokens = torch.zeros(rows, longest, dtype=torch.int64)
    for row in range(rows):
        length = int(torch.randint(1, longest + 1, ()))
        tokens[row, :length] = torch.randint(3, VOCABULARY, (length,))
        tokens[row, length - 1] = SEPARATOR
    return tokens


def by_hand(built: BagEncoder, texts: list[list[int]]) -> Tensor:
    """What the encoder makes of one row with these columns, in plain words; each ends with its separator."""
    total, weights = torch.zeros(8), torch.zeros(())
    for text in texts:
        for size in range(1, built.ngrams + 1):
            for start in range(len(text) - size + 1):
                place = text[start]
                for token in text[start + 1 : start + size]:
                    place = (place * 1_000_003 + token) % (2**31 - 1)
                place = place if size == 1 else place % built.buckets + VOCABULARY
                weight = torch.exp(built.log_weights[place])
                total = total + weight * built.table.weight[place]
                weights = weights + weight
    return total / torch.sqrt(weights + 1e-6)


@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize("ngrams", [1, 2, 3])
def test_all_ngrams_and_no_others(ngrams: int, training: bool) -> None:
    built = encoder(ngrams).train(training)
    rows = [[[5, 7, 7, 9, SEPARATOR], [SEPARATOR]], [[SEPARATOR], [SEPARATOR]], [[4, SEPARATOR], [6, 7, SEPARATOR]]]
    flat = [[token for text in row for token in text] for row in rows]
    tokens = torch.tensor([row + [PADDING] * (7 - len(row)) for row in flat])
    expected = torch.stack([by_hand(built, row) for row in rows])
    torch.testing.assert_close(built({"tokens": tokens}), expected)


@pytest.mark.parametrize("ngrams", [1, 2, 4])
def test_training_and_evaluation_are_one(ngrams: int) -> None:
    built, given = encoder(ngrams), {"tokens": batch(16, 12)}
    evaluated = built(given)
    torch.testing.assert_close(built.train()(given), evaluated)


def test_order_counts_with_pairs_only() -> None:
    one, other = torch.tensor([[5, 6, 7, SEPARATOR]]), torch.tensor([[7, 6, 5, SEPARATOR]])
    alone, pairs = encoder(1), encoder(2)
    torch.testing.assert_close(alone({"tokens": one}), alone({"tokens": other}))
    assert not torch.allclose(pairs({"tokens": one}), pairs({"tokens": other}))


@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize("ngrams", [1, 2, 3])
def test_padding_does_not_count(ngrams: int, training: bool) -> None:
    built, tokens = encoder(ngrams).train(training), batch(5, 9)
    longer = torch.nn.functional.pad(tokens, (0, 11))
    torch.testing.assert_close(built({"tokens": longer}), built({"tokens": tokens}))


def test_rows_do_not_influence_each_other() -> None:
    built, tokens = encoder(), batch(9, 12)
    torch.testing.assert_close(built({"tokens": tokens})[4:5], built({"tokens": tokens[4:5]}))


def test_every_answer_is_finite() -> None:
    built = encoder(3)
    with torch.no_grad():
        built.log_weights.fill_(1e9)
    extremes = [torch.zeros(2, 1, dtype=torch.int64), batch(3, 200), torch.full((1, 1), SEPARATOR), batch(0, 5)]
    for training in (False, True):
        for tokens in extremes:
            found = built.train(training)({"tokens": tokens})
            assert found.shape == (len(tokens), built.width)
            assert found.dtype == torch.float32
            assert torch.isfinite(found).all()


def test_hashes_of_the_largest_vocabulary_are_rows() -> None:
    config = BagConfig(width=1, ngrams=4, buckets=997)
    built = BagEncoder(config, InputShape(tokens=Tokens(200_000, 40)), 0.0)
    grams, _ = built._grams(torch.randint(199_000, 200_000, (20, 30)))
    assert grams.min() >= 0
    assert grams.max() < 200_000 + 997


def test_pairs_spread_over_all_buckets() -> None:
    built = encoder(buckets=500)
    first, second = torch.meshgrid(torch.arange(3, VOCABULARY), torch.arange(3, VOCABULARY), indexing="ij")
    grams, _ = built._grams(torch.stack([first.flatten(), second.flatten()], dim=1))
    counts = torch.bincount(grams[:, 1] - VOCABULARY, minlength=500)
    assert counts.max() <= 4 * counts.float().mean()


@pytest.mark.parametrize("ngrams", [1, 2, 3])
def test_gradient_reaches_every_parameter(ngrams: int) -> None:
    built = encoder(ngrams).train()
    built({"tokens": batch(8, 10)}).square().sum().backward()
    for name, parameter in built.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.abs().sum() > 0, name


def test_gradients_are_those_of_the_plain_sum() -> None:
    built, given = encoder(), {"tokens": batch(8, 10)}
    found = []
    for training in (False, True):
        built.zero_grad()
        built.train(training)(given).square().sum().backward()
        found.append([parameter.grad for parameter in built.parameters()])
    for one, other in zip(*found, strict=True):
        torch.testing.assert_close(one, other)


def test_dropout_is_for_training() -> None:
    built, given = encoder(dropout=0.5), {"tokens": batch(8, 10)}
    assert torch.equal(built(given), built(given))
    assert (built.train()(given) == 0).float().mean() > 0.3


@pytest.mark.parametrize("ngrams", [1, 2, 3])
def test_the_graph_answers_alike_at_other_sizes(ngrams: int) -> None:
    built = encoder(ngrams)
    others = [{"tokens": batch(rows, longest)} for rows, longest in ((1, 1), (1, 30), (2, 2), (7, 3), (64, 57))]
    for given, graph in answers(built, {"tokens": batch(3, 11)}, others):
        torch.testing.assert_close(graph, built(given), atol=1e-5, rtol=1e-5)
