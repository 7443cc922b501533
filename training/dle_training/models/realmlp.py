"""The model family `realmlp`: fully connected layers with defaults that were tuned on many tables, over a table.

Layers alone lose to boosted trees by many small things: numbers that a line cannot cut, columns that matter little but
weigh as much as others, and an optimizer that is tuned for other data. This network embeds numbers by cosines, scales
each feature by a learnt factor, and divides each layer by the square root of its width, so that one learning rate suits
all widths (Holzmüller et al., "Better by Default", 2024; its model RealMLP-TD). The recipe of training belongs to it.

Not taken over: label smoothing, which that recipe leaves out for the metric log_loss, the default here.
"""

import math
from typing import Annotated

import torch
from msgspec import Meta
from torch import Tensor, nn
from torch.nn import functional as F

from dle_training.models._base import Network, ParameterGroup
from dle_training.models.dropout import Dropout
from dle_training.models.family import ModelFamily, Recipe
from dle_training.models.mlp import Embeddings
from dle_training.preprocessing.shape import Inputs, InputShape
from dle_training.settings.base import Count, Positive, Settings
from dle_training.settings.dimensions import Choice, Float

_ROWS_OF_A_BIAS = 5
"""Training rows whose weighted mean gives a unit its first bias."""

_LEAST_SPREAD = 0.01
"""A unit whose outputs differ less is about constant, and its weights grow no further."""


class RealMlpConfig(Settings, frozen=True):
    """`realmlp`: fully connected layers with cosines of numbers and a recipe of their own, over columns."""

    hidden: Annotated[tuple[Count, ...], Meta(description="Width of each hidden layer.")] = (256, 256, 256)
    cosines: Annotated[Count, Meta(description="Cosines of each number.")] = 16
    number_dim: Annotated[
        int, Meta(ge=2, description="Width of the vector of each number: the number itself, and mixtures of cosines.")
    ] = 4
    frequency: Annotated[Positive, Meta(description="Spread of the cosines' first frequencies.")] = 0.1
    embedding_dim: Annotated[Count, Meta(description="Width of the vector that is learnt for each category.")] = 8


class CosineEmbeddings(nn.Module):
    """A number x becomes [x; W cos(2π(w·x) + b) + c], with weights of its own.

    Shape: (N, F) → (N, F · dimension).

    Example:
        >>> CosineEmbeddings(numbers=3, cosines=16, dimension=4, frequency=0.1)(torch.zeros(5, 3)).shape
        torch.Size([5, 12])
    """

    def __init__(self, numbers: int, cosines: int, dimension: int, frequency: float) -> None:
        super().__init__()
        bound = 1 / math.sqrt(cosines)
        self.frequency = nn.Parameter(torch.randn(numbers, cosines) * frequency)
        self.phase = nn.Parameter(torch.empty(numbers, cosines).uniform_(-math.pi, math.pi))
        self.weight = nn.Parameter(torch.empty(numbers, cosines, dimension - 1).uniform_(-bound, bound))
        self.bias = nn.Parameter(torch.empty(numbers, dimension - 1).uniform_(-bound, bound))

    def forward(self, numbers: Tensor) -> Tensor:
        each = numbers.unsqueeze(2)  # (N, F, 1)
        waves = torch.cos(2 * math.pi * each * self.frequency + self.phase)  # (N, F, cosines)
        mixed = torch.matmul(waves.unsqueeze(2), self.weight).squeeze(2) + self.bias  # (N, F, dimension - 1)
        return torch.cat([each, mixed], dim=2).flatten(1)


class ScaledLinear(nn.Module):
    """A linear layer whose weights are of the order of 1, whatever its width: y = x W / √in + b.

    Shape: (N, in) → (N, out).

    Example:
        >>> ScaledLinear(3, 2)(torch.zeros(5, 3)).tolist()[0]
        [0.0, 0.0]
    """

    def __init__(self, wide: int, narrow: int) -> None:
        super().__init__()
        self._gain = 1 / math.sqrt(max(wide, 1))
        self.weight = nn.Parameter(torch.randn(wide, narrow))
        self.bias = nn.Parameter(torch.zeros(narrow))

    def forward(self, units: Tensor) -> Tensor:
        return torch.addmm(self.bias, units, self.weight * self._gain)

    def initialise(self, units: Tensor) -> None:
        """Let outputs for these rows (N, in) have standard deviation 1, and be 0 within the rows: "he+5"."""
        outputs = self(units) - self.bias
        spread = outputs.std(dim=0, correction=0).clamp(min=_LEAST_SPREAD)
        self.weight.div_(spread)
        outputs.div_(spread)
        rows = torch.randint(len(outputs), (_ROWS_OF_A_BIAS, outputs.shape[1]))
        shares = torch.empty(rows.shape).exponential_()
        self.bias.copy_(-(outputs.gather(0, rows) * shares / shares.sum(dim=0)).sum(dim=0))


class Activation(nn.Module):
    """Each unit's mixture of the identity and an activation, x + a · (f(x) − x), with a learnt share a.

    Shape: (N, width) → the same.

    Example:
        >>> Activation(3, regression=True)(torch.zeros(2, 3)).tolist()
        [[0.0, 0.0, 0.0], [0.0, 0.0, 0.0]]
    """

    def __init__(self, width: int, *, regression: bool) -> None:
        super().__init__()
        self._function = F.mish if regression else F.selu
        self.share = nn.Parameter(torch.ones(width))

    def forward(self, units: Tensor) -> Tensor:
        return units + self.share * (self._function(units) - units)


class RealMlp(Network):
    """Embedded numbers, other dense features and embedded categories, each scaled by a learnt factor; then layers.

    Shape: {"dense": (N, P), "codes": (N, E)} → (N, K). Without embedded columns there are no "codes", without other
    columns no "dense".

    Example:
        >>> network = RealMlp(RealMlpConfig(hidden=(16,)), InputShape(dense=3, numbers=2), outputs=1, dropout=0.1)
        >>> network({"dense": torch.zeros(5, 3)}).shape
        torch.Size([5, 1])
    """

    def __init__(
        self, settings: RealMlpConfig, shape: InputShape, outputs: int, dropout: float, *, regression: bool = False
    ) -> None:
        super().__init__()
        self._numbers, self._plain = shape.numbers, shape.dense - shape.numbers
        self.embedding = (
            CosineEmbeddings(shape.numbers, settings.cosines, settings.number_dim, settings.frequency)
            if shape.numbers
            else None
        )
        self.categories = (
            Embeddings(shape.cardinalities, shape.frequencies, settings.embedding_dim) if shape.cardinalities else None
        )
        width = shape.numbers * settings.number_dim + self._plain + len(shape.cardinalities) * settings.embedding_dim
        self.scale = nn.Parameter(torch.ones(width))
        layers: list[nn.Module] = []
        for hidden in settings.hidden:
            layers += [ScaledLinear(width, hidden), Activation(hidden, regression=regression), Dropout(dropout)]
            width = hidden
        self.layers = nn.Sequential(*layers, ScaledLinear(width, outputs))

    def forward(self, inputs: Inputs) -> Tensor:
        units: Tensor = self.layers(self._features(inputs))
        return units

    def _features(self, inputs: Inputs) -> Tensor:
        features: list[Tensor] = []
        if self.embedding is not None:
            features.append(self.embedding(inputs["dense"][:, : self._numbers]))
        if self._plain:
            features.append(inputs["dense"][:, self._numbers :])
        if self.categories is not None:
            features.append(self.categories(inputs["codes"]))
        return self.scale * (features[0] if len(features) == 1 else torch.cat(features, dim=1))

    @torch.no_grad()
    def initialise(self, inputs: Inputs) -> None:
        units = self._features(inputs)
        for layer in self.layers:
            if isinstance(layer, ScaledLinear):
                layer.initialise(units)
            if not isinstance(layer, Dropout):
                units = layer(units)

    def parameter_groups(self) -> list[ParameterGroup]:
        biases = [layer.bias for layer in self.layers if isinstance(layer, ScaledLinear)]
        slow = [layer.share for layer in self.layers if isinstance(layer, Activation)]
        slow += [] if self.embedding is None else self.embedding.parameters()
        apart = {id(parameter) for parameter in (self.scale, *biases, *slow)}
        return [
            ParameterGroup([parameter for parameter in self.parameters() if id(parameter) not in apart]),
            ParameterGroup([self.scale], rate=6.0),
            ParameterGroup(slow, rate=0.1),
            ParameterGroup(biases, rate=0.1, decays=False),
        ]

    def before_evaluation(self) -> None:
        if self.categories is not None:
            self.categories.fill_untrained()


FAMILY = ModelFamily(
    name="realmlp",
    description="Fully connected layers over embedded numbers, with a recipe that was tuned on many tables.",
    reads=("table",),
    section="realmlp",
    settings=RealMlpConfig,
    build=lambda settings, shape, slot: RealMlp(
        settings, shape, slot.outputs, slot.dropout, regression=slot.regression
    ),
    dropout=0.15,
    recipe=Recipe(
        lr=0.04,
        regression_lr=0.2,
        beta2=0.95,
        weight_decay=0.02,
        epochs=64,
        batch_size=256,
        patience=0,
        schedule="coslog4",
        regularisation="flat_cosine",
        numeric="robust",
        signs=True,
        piecewise_bins=0,
        clamp=True,
    ),
    alone=True,
    space={
        "model.realmlp.hidden": Choice(([256, 256], [256, 256, 256], [384, 384, 384], [512, 512, 512])),
        "model.realmlp.frequency": Float(0.01, 50.0, log=True),
        "model.dropout": Float(0.0, 0.5),
        "optimizer.lr": Float(0.02, 0.3, log=True),
        "optimizer.weight_decay": Float(1e-3, 5e-2, log=True),
        "optimizer.beta2": Float(0.95, 0.995),
    },
)
