"""Encoders over steps as ONNX: any number of rows and steps, whatever was exported before, and the same answers."""

import pytest
import torch
from tests.unit.training.exported import answers
from torch import Tensor, nn

from dle_training.models._base import Encoder
from dle_training.models.bag import BagConfig, BagEncoder
from dle_training.models.rnn import RnnConfig, RnnEncoder
from dle_training.models.steps import Pool, StepsInput
from dle_training.models.tcn import TcnConfig, TcnEncoder
from dle_training.models.transformer import MOST_PATCHES, TransformerConfig, TransformerEncoder
from dle_training.preprocessing.shape import Inputs, InputShape, Series, Tokens

SIZES = ((1, 1), (1, 8), (2, 5), (7, 8), (33, 21), (5, 90))
SERIES, TOKENS = InputShape(sequence=Series(2, 20)), InputShape(tokens=Tokens(50, 20))
LONG = InputShape(sequence=Series(2, 5 * MOST_PATCHES))
STRIDED = InputShape(sequence=Series(2, 2048))


def series(rows: int, steps: int) -> Inputs:
    lengths = torch.randint(1, steps + 1, (rows,))
    within = torch.arange(steps) < lengths[:, None]
    return {"sequence": torch.randn(rows, steps, 2) * within[..., None], "lengths": lengths}


def tokens(rows: int, steps: int) -> Inputs:
    within = torch.arange(steps) < torch.randint(1, steps + 1, (rows, 1))
    return {"tokens": torch.randint(1, 50, (rows, steps)) * within}


MAKERS = {"sequence": series, "tokens": tokens}


def check(encoder: Encoder, source: StepsInput, steps: int = 8) -> None:
    """Answers at other sizes than those of the example that is exported, which has 3 rows and so many steps."""
    make = MAKERS[source]
    encoder.eval()
    for inputs, found in answers(encoder, make(3, steps), [make(*size) for size in SIZES]):
        with torch.inference_mode():
            torch.testing.assert_close(found, encoder(inputs), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("source", MAKERS)
@pytest.mark.parametrize(
    ("cell", "bidirectional", "pooling", "layers"),
    [
        ("gru", True, "attention", 1),
        ("gru", False, "last", 2),
        ("gru", True, "last", 1),
        ("lstm", True, "mean", 2),
        ("lstm", False, "attention", 1),
        ("lstm", True, "last", 1),
    ],
)
def test_recurrent(cell: str, bidirectional: bool, pooling: str, layers: int, source: StepsInput) -> None:
    rnn = RnnConfig(width=6, cell=cell, bidirectional=bidirectional, pooling=pooling, layers=layers)  # type: ignore[arg-type]
    check(RnnEncoder(rnn, SERIES if source == "sequence" else TOKENS, source, 0.0), source)


@pytest.mark.parametrize(("shape", "steps"), [(SERIES, 8), (STRIDED, 2048)], ids=["short", "long"])
def test_convolutional(shape: InputShape, steps: int) -> None:
    check(TcnEncoder(TcnConfig(width=4, depth=4, kernel=9), shape, 0.0), "sequence", steps)


@pytest.mark.parametrize("shape", [SERIES, STRIDED], ids=["short", "long"])
def test_padding_changes_nothing_in_training_either(shape: InputShape) -> None:
    """Convolutions are followed by normalisation, whose statistics are those of the real steps alone."""
    encoder = TcnEncoder(TcnConfig(width=4, depth=3, kernel=9), shape, 0.0).train()
    given = series(5, 11)
    given["lengths"][0] = 11
    padded = {"sequence": nn.functional.pad(given["sequence"], (0, 0, 0, 9)), "lengths": given["lengths"]}
    torch.testing.assert_close(encoder(padded), encoder(given))
    whole = {"sequence": given["sequence"][:1], "lengths": given["lengths"][:1]}
    apart = encoder({**whole, "sequence": nn.functional.pad(whole["sequence"], (0, 0, 0, 2))})
    torch.testing.assert_close(apart, encoder(whole))


def test_a_single_step_is_trained_on_too() -> None:
    encoder = TcnEncoder(TcnConfig(width=4, depth=3, kernel=9), SERIES, 0.0).train()
    assert encoder({"sequence": torch.randn(1, 1, 2), "lengths": torch.tensor([1])}).isfinite().all()
    assert encoder({"sequence": torch.randn(2, 3, 2), "lengths": torch.tensor([1, 1])}).isfinite().all()


@pytest.mark.parametrize("positions", ["sinusoidal", "learned"])
@pytest.mark.parametrize(("shape", "source"), [(SERIES, "sequence"), (LONG, "sequence"), (TOKENS, "tokens")])
def test_attention(shape: InputShape, source: StepsInput, positions: str) -> None:
    config = TransformerConfig(width=8, heads=2, positions=positions)  # type: ignore[arg-type]
    check(TransformerEncoder(config, shape, source, 0.0), source)


def test_bag_beside_others() -> None:
    check(BagEncoder(BagConfig(width=6, buckets=64, ngrams=3), TOKENS, 0.0), "tokens")


def test_the_second_direction_reads_what_is_real_alone() -> None:
    """The last state of the second direction is that of a network run over the reversed steps of the row by itself."""
    encoder = RnnEncoder(RnnConfig(width=5, pooling="last"), SERIES, "sequence", 0.0).eval()
    given = series(4, 9)
    with torch.inference_mode():
        found = encoder(given)[:, 5:]
        layer = encoder.layers[0][1]  # type: ignore[index]
        vectors, _ = encoder.steps(given)
        for row, length in enumerate(given["lengths"].tolist()):
            alone: Tensor = layer(vectors[row : row + 1, :length].flip(1))[0][0, -1]
            torch.testing.assert_close(found[row], alone)


@pytest.mark.parametrize("pooling", ["last", "mean", "attention"])
def test_pooling(pooling: str) -> None:
    vectors = torch.randn(3, 6, 4)
    real = torch.tensor([[1, 1, 1, 1, 1, 1], [1, 1, 0, 0, 0, 0], [1, 0, 0, 0, 0, 0]], dtype=torch.bool)
    pool = Pool(4, pooling)  # type: ignore[arg-type]
    found = pool(vectors, real)
    changed = torch.where(real.unsqueeze(2), vectors, torch.full_like(vectors, 7.0))
    torch.testing.assert_close(pool(changed, real), found)
    torch.testing.assert_close(found[2], vectors[2, 0])
    if pooling == "last":
        torch.testing.assert_close(found[1], vectors[1, 1])
    if pooling == "mean":
        torch.testing.assert_close(found[1], vectors[1, :2].mean(0))


def test_long_series_are_cut_into_patches() -> None:
    encoder = TransformerEncoder(TransformerConfig(), LONG, "sequence", 0.0)
    assert encoder.patch == 5
    vectors, real = encoder._patched(torch.randn(2, 12, 128), torch.arange(12) < torch.tensor([[12], [6]]))
    assert vectors.shape == (2, 3, 128)
    assert real.tolist() == [[True, True, True], [True, True, False]]
