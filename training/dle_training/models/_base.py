"""What every model is: encoders, one per group of inputs, whose outputs are concatenated and go through a head.

A new kind of input is a new encoder beside the others, and a new architecture is another encoder for the same inputs;
the loop, the exporter and the checkpoints see only `Network`.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

Inputs = dict[str, Tensor]


@dataclass(frozen=True, slots=True)
class Images:
    """The `image` input (N, columns · channels, height, width): uint8, or float32 on the same scale once augmented.

    `mean` and `std` are the training part's, per channel, of pixels in [0, 1].
    """

    columns: int
    channels: int
    height: int
    width: int
    mean: tuple[float, ...]
    std: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class Series:
    """The `sequence` input (N, T, channels) float32: standardised, 0 where missing and beyond the end.

    The `lengths` input (N,) int64 counts each row's steps, at least 1. `steps` is the longest of the training part. The
    last `indicators` channels are 1 where a value is missing, else 0.
    """

    channels: int
    steps: int
    indicators: int = 0


@dataclass(frozen=True, slots=True)
class Tokens:
    """The `tokens` input (N, L) int64 of `vocabulary` tokens, 0 = padding; at least one token a row is none.

    `longest` is the most tokens that a row can have.
    """

    vocabulary: int
    longest: int


@dataclass(frozen=True, slots=True)
class InputShape:
    """What the preprocessing hands to a network.

    `dense` is P, the width of the `dense` input (N, P) float32. `cardinalities` has the number of codes of each column
    of the `codes` input (N, E) int64, with 0 = unseen and 1 = missing. `frequencies` counts, per column, how often each
    code occurs in the training part; empty where the weights are about to be loaded, which hold what comes of it.
    `image`, `sequence` and `tokens` are None where there is no such input.
    """

    dense: int = 0
    cardinalities: tuple[int, ...] = ()
    frequencies: tuple[tuple[int, ...], ...] = ()
    image: Images | None = None
    sequence: Series | None = None
    tokens: Tokens | None = None


class Encoder(nn.Module):
    """Turns some of the inputs into features: forward(inputs) -> (N, width) float32.

    Contract: reads only the inputs that it was built for; rows do not influence each other in eval mode; everything
    that evaluation needs is in the state dict.
    """

    width: int

    def forward(self, inputs: Inputs) -> Tensor:
        raise NotImplementedError

    def before_evaluation(self) -> None:
        """Bring weights that training never touches in line with those that it does. Nothing to do by default.

        Called before each validation and at the end. It must not change what the next training step computes.
        """


class Network(nn.Module):
    """Encoders concatenated, then a head.

    Shape: inputs as the encoders ask, for instance {"dense": (N, P), "codes": (N, E)}; output (N, K) float32, whose
    meaning (logits, a standardised value) is the objective's.

    Example:
        >>> from dle_training.config import ModelConfig
        >>> from dle_training.models.registry import build
        >>> network = build(ModelConfig(hidden=(8,)), InputShape(dense=3), outputs=2)
        >>> network({"dense": torch.zeros(5, 3)}).shape
        torch.Size([5, 2])
    """

    def __init__(self, encoders: Mapping[str, Encoder], outputs: int) -> None:
        super().__init__()
        self.encoders = nn.ModuleDict(encoders)
        self.head = nn.Linear(sum(encoder.width for encoder in encoders.values()), outputs)

    def forward(self, inputs: Inputs) -> Tensor:
        features = [encoder(inputs) for encoder in self.encoders.values()]
        joined: Tensor = self.head(features[0] if len(features) == 1 else torch.cat(features, dim=1))
        return joined

    def before_evaluation(self) -> None:
        """Called by the loop before each validation and at the end; see `Encoder.before_evaluation`."""
        for encoder in self.encoders.values():
            assert isinstance(encoder, Encoder)
            encoder.before_evaluation()
