"""Text as a bag of n-grams: each token and each pair of neighbours has a vector, and a text is their mean.

Joulin et al., "Bag of Tricks for Efficient Text Classification" (2017). Tokens have vectors of their own; the many
pairs share a table by hash, computed in the graph from the tokens' numbers.
"""

import torch
from torch import Tensor, nn

from dle_bundle.groups import PADDING
from dle_training.config import ModelConfig
from dle_training.models._base import Encoder, Inputs, InputShape
from dle_training.models.dropout import Dropout

_SCALE = 0.01
"""Vectors begin close to nothing, so that what is rare in training stays so."""
_MULTIPLIERS = (1_000_003, 8_191, 131)
"""Odd numbers by which the tokens of an n-gram are mixed; products stay far below 2⁶³."""


class BagEncoder(Encoder):
    """Mean of the vectors of all n-grams of up to `bag.ngrams` tokens.

    Shape: {"tokens": (N, L) int64, 0 = padding} → (N, bag.width).
    """

    def __init__(self, config: ModelConfig, shape: InputShape) -> None:
        super().__init__()
        assert shape.tokens is not None
        bag = config.bag
        self.width = bag.width
        self.ngrams = bag.ngrams
        self.vocabulary = shape.tokens.vocabulary
        self.buckets = bag.buckets if bag.ngrams > 1 else 0
        rows = self.vocabulary + self.buckets
        self.table = nn.EmbeddingBag(rows, bag.width, mode="sum")
        nn.init.normal_(self.table.weight, std=_SCALE)
        self.dropout = Dropout(config.dropout)

    def forward(self, inputs: Inputs) -> Tensor:
        tokens = inputs["tokens"]
        grams = torch.cat([tokens, *(self._hashed(tokens, size) for size in range(2, self.ngrams + 1))], dim=1)
        weights = self._present(tokens)  # (N, grams)
        total = weights.sum(dim=1, keepdim=True)
        mean: Tensor = self.dropout(self._sum(grams, weights) / torch.clamp(total, min=1).sqrt())
        return mean

    def _sum(self, grams: Tensor, weights: Tensor) -> Tensor:
        """The weighted sum (N, width) of rows of the table; in training without a copy of each row."""
        if self.training:
            total: Tensor = self.table(grams, per_sample_weights=weights)
            return total
        return (nn.functional.embedding(grams, self.table.weight) * weights.unsqueeze(2)).sum(dim=1)

    def _hashed(self, tokens: Tensor, size: int) -> Tensor:
        """The table rows of n-grams of `size` tokens, (N, L): those that begin at each token, with padding beyond."""
        mixed = tokens
        for step in range(1, size):
            following = nn.functional.pad(tokens, (0, step))[:, step:]
            mixed = mixed * _MULTIPLIERS[step - 1] + following
        return torch.remainder(mixed, self.buckets) + self.vocabulary

    def _present(self, tokens: Tensor) -> Tensor:
        """1 for each n-gram that is whole, else 0: (N, L · ngrams) float32."""
        real = (tokens != PADDING).to(torch.float32)
        sizes = range(2, self.ngrams + 1)
        return torch.cat(
            [real, *(nn.functional.pad(real, (0, size - 1))[:, size - 1 :] * real for size in sizes)], dim=1
        )
