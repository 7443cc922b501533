"""The model family `bag`: text as a weighted sum of the vectors of its tokens and n-grams.

Joulin et al., "Bag of Tricks for Efficient Text Classification" (2017). The weights, which tf-idf sets by frequency,
are learnt too. Each token has its own row of the table. Longer n-grams share rows by a hash of their tokens' numbers,
which the exported graph computes.
"""

from typing import Annotated

import torch
from msgspec import Meta
from torch import Tensor, nn
from torch.nn import functional as F

from dle_bundle.groups import PADDING
from dle_bundle.text import SEPARATOR
from dle_training.models._base import Encoder
from dle_training.models.dropout import Dropout
from dle_training.models.family import ModelFamily, Recipe
from dle_training.preprocessing.shape import Inputs, InputShape
from dle_training.settings.base import Count, Settings
from dle_training.settings.dimensions import Choice, Float, Int


class BagConfig(Settings, frozen=True):
    """`bag`: a weighted sum of embedded tokens and n-grams, divided by the root of the sum of weights, over text."""

    width: Annotated[Count, Meta(description="Width of the vector of each n-gram.")] = 64
    ngrams: Annotated[Annotated[int, Meta(ge=1, le=4)], Meta(description="Largest number of tokens in an n-gram.")] = 2
    buckets: Annotated[Count, Meta(description="Vectors that n-grams of two or more tokens share by hash.")] = 30_000


_SCALE = 0.01
"""Standard deviation of the first vectors: close to 0, so that rare n-grams keep little influence."""
_FIRST_LOG = -1.0
"""Initial logarithm of the weight of n-grams from two tokens on: most are rare and would soon be memorised."""
_MULTIPLIER, _MODULUS = 1_000_003, 2**31 - 1
"""Primes of the hash of an n-gram; products stay far below 2⁶³."""
_LARGEST_LOG = 8.0
"""Bound of the logarithm of a weight, so that sums of many weights stay finite."""


class BagEncoder(Encoder):
    """Weighted sum of the vectors of all n-grams of up to `bag.ngrams` tokens.

    The sum is divided by the square root of the sum of weights. A mean would have the same size for one word and for a
    hundred, although the hundred carry more evidence. All text columns form one bag; no n-gram crosses from one column
    to the next.

    Shape: {"tokens": (N, L) int64, 0 = padding} → (N, bag.width).

    Example:
        >>> from dle_training.preprocessing.shape import Tokens
        >>> shape = InputShape(tokens=Tokens(vocabulary=100, longest=9))
        >>> BagEncoder(BagConfig(), shape, dropout=0.5).eval()({"tokens": torch.tensor([[7, 5, 2, 0]])}).shape
        torch.Size([1, 64])
    """

    def __init__(self, settings: BagConfig, shape: InputShape, dropout: float) -> None:
        super().__init__()
        assert shape.tokens is not None
        self.width = settings.width
        self.ngrams = settings.ngrams
        self.vocabulary = shape.tokens.vocabulary
        self.buckets = settings.buckets if settings.ngrams > 1 else 0
        rows = self.vocabulary + self.buckets
        self.table = nn.EmbeddingBag(rows, settings.width, mode="sum")
        nn.init.normal_(self.table.weight, std=_SCALE)
        self.log_weights = nn.Parameter(torch.zeros(rows))
        nn.init.constant_(self.log_weights[self.vocabulary :], _FIRST_LOG)
        self.dropout = Dropout(dropout)

    def forward(self, inputs: Inputs) -> Tensor:
        tokens = inputs["tokens"]  # (N, L)
        grams, whole = self._grams(tokens)  # (N, G), G = L · ngrams
        logs = self.log_weights.index_select(0, grams.flatten()).view(grams.shape)  # (N, G)
        weights = torch.exp(torch.clamp(logs, -_LARGEST_LOG, _LARGEST_LOG)) * whole
        if self.training:
            sums = self.table(grams, per_sample_weights=weights)  # no copy of each vector: training is twice as fast
        else:
            sums = (weights.unsqueeze(1) @ F.embedding(grams, self.table.weight)).squeeze(1)  # (N, width)
        scaled: Tensor = self.dropout(sums / torch.sqrt(weights.sum(dim=1, keepdim=True) + 1e-6))
        return scaled

    def _grams(self, tokens: Tensor) -> tuple[Tensor, Tensor]:
        """Table rows (N, G) of the n-grams at each token, from short to long, and a mask: 1.0 for complete n-grams."""
        rows, present = [tokens], [tokens != PADDING]
        mixed, open_ended = tokens, (tokens != PADDING) & (tokens != SEPARATOR)
        for size in range(2, self.ngrams + 1):
            following = F.pad(tokens, (0, size - 1))[:, size - 1 :]
            mixed = torch.remainder(mixed * _MULTIPLIER + following, _MODULUS)
            rows.append(torch.remainder(mixed, self.buckets) + self.vocabulary)
            present.append(open_ended & (following != PADDING))
            open_ended = open_ended & (following != PADDING) & (following != SEPARATOR)
        return torch.stack(rows, dim=2).flatten(1), torch.stack(present, dim=2).flatten(1).to(torch.float32)


FAMILY = ModelFamily(
    name="bag",
    description="Weighted sum of embedded tokens and n-grams: fast, and hard to beat on short text.",
    reads=("text",),
    section="bag",
    settings=BagConfig,
    build=lambda settings, shape, slot: BagEncoder(settings, shape, slot.dropout),
    dropout=0.5,
    recipe=Recipe(lr=3e-3, epochs=6, least_steps=200, largest_batch=256),
    space={
        "model.bag.width": Choice((32, 64, 128, 256)),
        "model.bag.ngrams": Int(1, 3),
        "model.dropout": Float(0.0, 0.8),
        "optimizer.lr": Float(1e-3, 3e-2, log=True),
    },
)
