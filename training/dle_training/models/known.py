"""The encoder of values that are known for the steps of a forecast, such as promotions, holidays and prices.

It stands beside any family that reads series, and no setting chooses it. Its features go to the linear head, so the
value at a step can act on the forecast of the same step alone, and for `dlinear` the effect is added to the linear one.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from dle_training.models._base import Encoder
from dle_training.preprocessing.shape import Inputs, Known

_FEATURES = 16
"""Features of each step beside its values."""


class KnownEncoder(Encoder):
    """The values of each step, and nonlinear features of them that are the same at all steps.

    Shape: {"known": (N, H, C)} → (N, H · (C + 16)).

    Example:
        >>> encoder = KnownEncoder(Known(channels=2, steps=6))
        >>> encoder({"known": torch.zeros(3, 6, 2)}).shape
        torch.Size([3, 108])
    """

    def __init__(self, shape: Known) -> None:
        super().__init__()
        self.features = nn.Linear(shape.channels, _FEATURES)
        self.width = shape.steps * (shape.channels + _FEATURES)

    def forward(self, inputs: Inputs) -> Tensor:
        values = inputs["known"]
        return torch.cat([values, F.relu(self.features(values))], dim=2).flatten(1)
