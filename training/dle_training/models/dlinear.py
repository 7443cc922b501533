"""The model family `dlinear`: a linear map of the trend and of the rest of a window.

Zeng et al., "Are Transformers Effective for Time Series Forecasting?" (2023): on many series a linear model is as good
as any network. It is fast, and a network that is no better is not worth its cost.
"""

from typing import Annotated

import torch
from msgspec import Meta
from torch import Tensor, nn
from torch.nn import functional as F

from dle_training.models._base import Encoder
from dle_training.models.dropout import Dropout
from dle_training.models.family import ModelFamily, Recipe
from dle_training.preprocessing.shape import Inputs, InputShape
from dle_training.settings.base import Count, Settings
from dle_training.settings.dimensions import Choice, Float


class DlinearConfig(Settings, frozen=True):
    """`dlinear`: a linear map of the trend and of the rest of a window, over series."""

    width: Annotated[Count, Meta(description="Number of features; the head is linear too.")] = 64
    kernel: Annotated[Count, Meta(description="Number of steps in the moving average that is the trend.")] = 25


class DlinearEncoder(Encoder):
    """The last steps of a series, split into a moving average and the rest, and mapped linearly.

    The encoder reads as many last steps as the longest training series has. A shorter series counts as 0, which is the
    mean, before its first step. The moving average ignores the steps beyond both ends.

    Shape: {"sequence": (N, T, C), "lengths": (N,)} → (N, dlinear.width).

    Example:
        >>> from dle_training.preprocessing.shape import Series
        >>> shape = InputShape(sequence=Series(channels=2, steps=50))
        >>> encoder = DlinearEncoder(DlinearConfig(width=8), shape, dropout=0.0)
        >>> encoder({"sequence": torch.zeros(3, 50, 2), "lengths": torch.tensor([50, 20, 1])}).shape
        torch.Size([3, 8])
    """

    def __init__(self, settings: DlinearConfig, shape: InputShape, dropout: float) -> None:
        super().__init__()
        assert shape.sequence is not None
        self.width = settings.width
        self.steps = shape.sequence.steps
        average = _averages(self.steps, settings.kernel)
        self.register_buffer("average", average, persistent=False)
        self.trend = nn.Linear(self.steps * shape.sequence.channels, settings.width)
        self.rest = nn.Linear(self.steps * shape.sequence.channels, settings.width, bias=False)
        self.dropout = Dropout(dropout)

    average: Tensor

    def forward(self, inputs: Inputs) -> Tensor:
        sequence, lengths = inputs["sequence"], inputs["lengths"]
        # zeros before the first step, so that a series shorter than `steps` has places for all of them
        padded = F.pad(sequence, (0, 0, self.steps, 0))  # (N, steps + T, C)
        places = lengths.unsqueeze(1) + torch.arange(self.steps, device=lengths.device)  # (N, steps), the last steps
        last = padded.gather(1, places.unsqueeze(2).expand(-1, -1, sequence.shape[2]))  # (N, steps, C)
        trend = torch.matmul(self.average, last)  # (steps, steps) · (N, steps, C)
        mapped: Tensor = self.dropout(self.trend(trend.flatten(1)) + self.rest((last - trend).flatten(1)))
        return mapped


def _averages(steps: int, kernel: int) -> Tensor:
    """The matrix (steps, steps) whose product with a series is its centred moving average."""
    places = torch.arange(steps)
    near = ((places.unsqueeze(0) - places.unsqueeze(1)).abs() <= kernel // 2).to(torch.float32)
    averages: Tensor = near / near.sum(dim=1, keepdim=True)
    return averages


FAMILY = ModelFamily(
    name="dlinear",
    description="Linear map of the trend and of the rest of a window: fast, and hard to beat on many forecasts.",
    reads=("sequence",),
    section="dlinear",
    settings=DlinearConfig,
    build=lambda settings, shape, slot: DlinearEncoder(settings, shape, slot.dropout),
    dropout=0.0,
    recipe=Recipe(lr=1e-3, epochs=30, least_steps=600, largest_batch=64),
    space={
        "model.dlinear.width": Choice((16, 64, 256)),
        "model.dlinear.kernel": Choice((5, 13, 25, 49)),
        "model.dropout": Float(0.0, 0.5),
        "optimizer.lr": Float(1e-4, 1e-2, log=True),
    },
)
