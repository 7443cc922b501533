"""What every model is: encoders, one per group of inputs, whose outputs are concatenated and go through a head.

A new kind of input is a new encoder beside the others, and a new architecture is another encoder for the same inputs;
the loop, the exporter and the checkpoints see only `Network`.
"""

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from dle_training.preprocessing.shape import Inputs


class Encoder(nn.Module):
    """Turns one kind of input into features.

    Shape: the inputs that the encoder reads, N rows each → (N, width) float32.

    Contract:
        - An encoder reads only the inputs that it was built for.
        - In evaluation mode, rows do not influence each other.
        - The state dict holds everything that evaluation needs.
        - Every weight that requires a gradient gets one in every training step.

    Threads: in evaluation mode `forward` changes nothing, so several threads may call it at once. Training and
    `before_evaluation` belong to one thread.

    Example:
        >>> class Scaled(Encoder):
        ...     width = 3
        ...
        ...     def forward(self, inputs):
        ...         return 2 * inputs["dense"]
        >>> Scaled()({"dense": torch.ones(1, 3)}).tolist()
        [[2.0, 2.0, 2.0]]
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
        >>> from dle_training.models.families import ModelConfig
        >>> from dle_training.models.registry import build
        >>> from dle_training.preprocessing.shape import InputShape
        >>> network = build(ModelConfig(hidden=(8,)), InputShape(dense=3), outputs=2)
        >>> network({"dense": torch.zeros(5, 3)}).shape
        torch.Size([5, 2])
    """

    def __init__(self, encoders: Mapping[str, Encoder], outputs: int) -> None:
        super().__init__()
        self.encoders = nn.ModuleDict(encoders)
        self.head = nn.Linear(sum(encoder.width for encoder in encoders.values()), outputs)

    def forward(self, inputs: Inputs) -> Tensor:
        features = [encoder(inputs) for encoder in self.encoders.values()]  # each (N, width of the encoder)
        joined: Tensor = self.head(features[0] if len(features) == 1 else torch.cat(features, dim=1))
        return joined

    def before_evaluation(self) -> None:
        """Called by the loop before each validation and at the end; see `Encoder.before_evaluation`."""
        for encoder in self.encoders.values():
            assert isinstance(encoder, Encoder)
            encoder.before_evaluation()
