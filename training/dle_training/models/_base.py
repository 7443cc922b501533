"""`Network`, which every model is, and `Encoder`, the base class of its parts.

Most networks have one encoder for each kind of input. Their outputs are concatenated and go through a linear head. A
new kind of input or a new architecture needs only a new encoder: the training loop, the exporter and the checkpoints
use `Network` alone.
"""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from dle_training.preprocessing.shape import Inputs

_UNITS_TOGETHER = 2_048
"""Units of a layer, of several networks or heads, that are computed at once for each row of an evaluation."""
OPSET = 20
"""The version of the ONNX operators in every exported graph."""


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

    def hidden_matrices(self) -> list[nn.Parameter]:
        """The weights from one hidden layer to the next, which `optimizer.name=muon` treats apart; none by default."""
        return []

    def before_evaluation(self) -> None:
        """Set the weights that training does not reach; does nothing by default.

        The loop calls this before each validation. It must not change what the next training step computes.
        """


@dataclass(frozen=True, slots=True)
class ParameterGroup:
    """Parameters that learn with `rate` times the learning rate, and whether weight decay applies to them."""

    parameters: list[nn.Parameter]
    rate: float = 1.0
    decays: bool = True


class Network(nn.Module):
    """The contract of every model: all inputs go in, and what the objective reads comes out.

    Shape: the inputs, for example {"dense": (N, P), "codes": (N, E)} → (N, K) float32. The objective defines what the
    output means: logits, or standardised values. In training mode, a network of H heads that learn by a loss each
    returns (H, N, K).

    Contract:
        - In evaluation mode, rows do not influence each other.
        - The state dict holds everything that evaluation needs.

    Threads: in evaluation mode `forward` changes nothing, so several threads may call it at once. Training and
    `before_evaluation` belong to one thread.

    Example:
        >>> class Sum(Network):
        ...     def forward(self, inputs):
        ...         return inputs["dense"].sum(dim=1, keepdim=True)
        >>> Sum()({"dense": torch.ones(1, 3)}).tolist()
        [[3.0]]
    """

    def forward(self, inputs: Inputs) -> Tensor:
        raise NotImplementedError

    def hidden_matrices(self) -> list[nn.Parameter]:
        """The weights from one hidden layer to the next; see `Encoder.hidden_matrices`."""
        return []

    def initialise(self, inputs: Inputs) -> None:
        """Fit the first weights to the inputs of about 1,000 training rows; does nothing by default.

        Images are not among the inputs if they are streamed. Random numbers come from torch's global generator.
        """

    def parameter_groups(self) -> list[ParameterGroup]:
        """All parameters that training changes; by default they learn alike."""
        return [ParameterGroup([parameter for parameter in self.parameters() if parameter.requires_grad])]

    def before_evaluation(self) -> None:
        """Set the weights that training does not reach; see `Encoder.before_evaluation`."""


class EncoderNetwork(Network):
    """Encoders side by side, then a linear head over their concatenated features.

    Shape: the inputs of all encoders, for example {"dense": (N, P), "codes": (N, E)} → (N, K) float32.

    Example:
        >>> from dle_training.models.families import ModelConfig
        >>> from dle_training.models.registry import build
        >>> from dle_training.preprocessing.shape import InputShape
        >>> network = build(ModelConfig(name="mlp", hidden=(8,), dropout=0.1), InputShape(dense=3), outputs=2)
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

    def hidden_matrices(self) -> list[nn.Parameter]:
        """Those of all encoders."""
        return [weight for encoder in self._encoders for weight in encoder.hidden_matrices()]

    def before_evaluation(self) -> None:
        """Call `Encoder.before_evaluation` of all encoders."""
        for encoder in self._encoders:
            encoder.before_evaluation()

    @property
    def _encoders(self) -> list[Encoder]:
        return [encoder for encoder in self.encoders.values() if isinstance(encoder, Encoder)]


def matrices(module: nn.Module) -> list[nn.Parameter]:
    """The weights of all linear and recurrent layers of `module`."""
    layers = [layer for layer in module.modules() if isinstance(layer, nn.Linear | nn.RNNBase)]
    return [weight for layer in layers for weight in layer.parameters() if weight.dim() == 2]


def parts(count: int, widths: Iterable[int]) -> list[slice]:
    """Slices of `count` networks or heads, with layers of these widths, that an evaluation computes one by one.

    So the memory for many rows stays small.
    """
    together = max(_UNITS_TOGETHER // max(widths), 1)
    return [slice(start, start + together) for start in range(0, count, together)]


def mean_answer(outputs: Tensor, *, probabilities: bool) -> Tensor:
    """The output (N, K) that stands for the mean answer of M networks or heads with the outputs (M, N, K).

    Probabilities are averaged, not logits: the result then holds the logits of the mean. Values are averaged as such.
    """
    if not probabilities:
        return outputs.mean(dim=0)
    if outputs.shape[2] == 1:
        return torch.logsumexp(F.logsigmoid(outputs), dim=0) - torch.logsumexp(F.logsigmoid(-outputs), dim=0)
    return torch.logsumexp(F.log_softmax(outputs, dim=2), dim=0) - math.log(outputs.shape[0])
