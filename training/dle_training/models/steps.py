"""Shared parts of encoders over series and tokens: step vectors, the mask of real steps, and pooling."""

from typing import Literal

import torch
from torch import Tensor, nn

from dle_bundle.groups import PADDING
from dle_training.models.family import InputKind
from dle_training.preprocessing.shape import Inputs, InputShape

StepsInput = Literal["sequence", "tokens"]
STEPS_INPUTS: dict[InputKind, StepsInput] = {"sequence": "sequence", "text": "tokens"}
"""The tensor that holds the steps of each kind of input."""
Pooling = Literal["last", "mean", "attention"]


class Steps(nn.Module):
    """Turns the steps of a series (by a linear map) or tokens (by a table) into vectors, and masks the padding.

    Vectors of padding are 0; the mask is True at real steps.

    Shape: {"sequence": (N, T, C), "lengths": (N,)} or {"tokens": (N, T)} → (N, T, width) float32, (N, T) bool.

    Example:
        >>> from dle_training.preprocessing.shape import Tokens
        >>> steps = Steps(InputShape(tokens=Tokens(vocabulary=100, longest=9)), "tokens", width=8)
        >>> vectors, real = steps({"tokens": torch.tensor([[7, 5, 0]])})
        >>> vectors.shape, real.tolist()
        (torch.Size([1, 3, 8]), [[True, True, False]])
    """

    def __init__(self, shape: InputShape, source: StepsInput, width: int) -> None:
        super().__init__()
        self.source = source
        if source == "sequence":
            assert shape.sequence is not None
            self.map: nn.Module = nn.Linear(shape.sequence.channels, width)
        else:
            assert shape.tokens is not None
            self.map = nn.Embedding(shape.tokens.vocabulary, width)
            nn.init.normal_(self.map.weight, std=width**-0.5)

    def forward(self, inputs: Inputs) -> tuple[Tensor, Tensor]:
        given = inputs[self.source]
        real = within(inputs["lengths"], given.shape[1]) if self.source == "sequence" else given != PADDING
        vectors = self.map(given)
        return vectors * real.unsqueeze(2).to(vectors.dtype), real


class Pool(nn.Module):
    """Pools the real steps into one vector: the last step, their mean, or a mean with learnt weights.

    Shape: (N, T, width), mask (N, T) with at least one real step in each row → (N, width).

    Example:
        >>> vectors = torch.tensor([[[1.0], [3.0], [9.0]]])
        >>> Pool(1, "mean")(vectors, torch.tensor([[True, True, False]])).tolist()
        [[2.0]]
    """

    def __init__(self, width: int, pooling: Pooling) -> None:
        super().__init__()
        self.pooling = pooling
        self.score = nn.Linear(width, 1, bias=False) if pooling == "attention" else None

    def forward(self, vectors: Tensor, real: Tensor) -> Tensor:
        if self.pooling == "last":
            places = torch.arange(real.shape[1], device=real.device)
            last = (real.to(torch.int64) * places).amax(dim=1)  # (N,)
            # index (N, 1, width) → (N, 1, width) → (N, width)
            return vectors.gather(1, last.view(-1, 1, 1).expand(-1, 1, vectors.shape[2]))[:, 0]
        if self.score is None:
            weights = real.to(vectors.dtype)
        else:
            scores = self.score(vectors)[..., 0].masked_fill(~real, -1e9)  # (N, T)
            weights = torch.softmax(scores, dim=1)
        return masked_mean(vectors, weights)


def within(lengths: Tensor, steps: int) -> Tensor:
    """Mask (N, steps) of the steps before each row's end."""
    return torch.arange(steps, device=lengths.device).unsqueeze(0) < lengths.unsqueeze(1)


def masked_mean(vectors: Tensor, weights: Tensor) -> Tensor:
    """The weighted mean (N, width) of vectors (N, T, width); the weights (N, T) of a row must not all be 0."""
    total = (vectors * weights.unsqueeze(2)).sum(dim=1)
    mean: Tensor = total / weights.sum(dim=1, keepdim=True)
    return mean
