"""The model family `tabm`: many networks that share their weight matrices, over a table.

Head h of the network has adapters of its own: y = ((x ⊙ r_h) W) ⊙ s_h + b_h. So it costs few weights more than one
network, and the heads still differ enough for their mean to be better than each of them (Gorishniy et al., "TabM",
2024). Each head learns by its own loss: a loss of the mean would let them err together.

Numbers enter as learnt vectors that follow a curve: linear in the number, and in how far each of its quantile bins is
filled (see `preprocessing.piecewise`).
"""

from itertools import pairwise
from typing import Annotated

import torch
from msgspec import Meta
from torch import Tensor, nn
from torch.nn import functional as F

from dle_training.models._base import Network, mean_answer, parts
from dle_training.models.dropout import Dropout
from dle_training.models.family import ModelFamily, Recipe
from dle_training.models.mlp import Embeddings
from dle_training.preprocessing.shape import Bins, Inputs, InputShape
from dle_training.settings.base import Count, Settings
from dle_training.settings.dimensions import Choice, Float, Int


class TabmConfig(Settings, frozen=True):
    """`tabm`: many heads over shared layers with adapters, over columns."""

    heads: Annotated[Count, Meta(description="Number of networks that share their layers; their mean answers.")] = 16
    width: Annotated[Count, Meta(description="Units in a hidden layer.")] = 128
    blocks: Annotated[Count, Meta(description="Number of hidden layers.")] = 2
    number_dim: Annotated[
        Count,
        Meta(description="Width of the vector that is learnt for each number; see preprocessing.piecewise_bins."),
    ] = 16
    embedding_dim: Annotated[Count, Meta(description="Width of the vector that is learnt for each category.")] = 8


class NumberEmbeddings(nn.Module):
    """A vector for each number that has bins: linear in the scaled number and in its bins.

    The weights of the bins are 0 at first, so each number begins as a line, and learns a curve where it helps.

    Shape: dense (N, P) → (N, numbers · dimension).

    Example:
        >>> embeddings = NumberEmbeddings((Bins(column=0, start=2, count=3), Bins(1, 5, 2)), dimension=4)
        >>> embeddings(torch.zeros(6, 7)).shape
        torch.Size([6, 8])
    """

    places: Tensor

    def __init__(self, bins: tuple[Bins, ...], dimension: int) -> None:
        super().__init__()
        most = max(each.count for each in bins)
        # columns of the dense features behind a column of zeros, which a number reads if it has fewer bins than others
        places = [[1 + place for place in each.places] + [0] * (most - each.count) for each in bins]
        self.register_buffer("places", torch.tensor(places), persistent=False)  # (F, 1 + most)
        bound = dimension**-0.5
        self.weight = nn.Parameter(torch.zeros(len(bins), 1 + most, dimension))
        self.bias = nn.Parameter(torch.empty(len(bins), 1, dimension).uniform_(-bound, bound))
        nn.init.uniform_(self.weight[:, 0], -bound, bound)

    def forward(self, dense: Tensor) -> Tensor:
        padded = F.pad(dense, (1, 0))  # (N, 1 + P)
        read = padded.index_select(1, self.places.flatten())
        read = read.view(dense.shape[0], *self.places.shape)  # (N, F, 1 + most)
        vectors = torch.baddbmm(self.bias, read.transpose(0, 1), self.weight)  # (F, N, dimension)
        return vectors.transpose(0, 1).flatten(1)


class SharedLinear(nn.Module):
    """A linear layer whose matrix all heads share; each has adapters for inputs and outputs, and a bias.

    Shape: (H, N, in) → (H, N, out), or (N, in), the same for all heads, → (H, N, out).

    Example:
        >>> SharedLinear(heads=4, wide=3, narrow=5)(torch.zeros(2, 3), slice(None)).shape
        torch.Size([4, 2, 5])
    """

    def __init__(self, heads: int, wide: int, narrow: int) -> None:
        super().__init__()
        bound = wide**-0.5
        self.matrix = nn.Parameter(torch.empty(wide, narrow).uniform_(-bound, bound))
        self.before = nn.Parameter(torch.ones(heads, wide))
        self.after = nn.Parameter(torch.ones(heads, narrow))
        self.bias = nn.Parameter(torch.empty(narrow).uniform_(-bound, bound).repeat(heads, 1))

    def forward(self, units: Tensor, part: slice) -> Tensor:
        # the adapters change the matrix rather than the rows, which are more, and become constants of the graph
        own = self.before[part].unsqueeze(2) * self.matrix * self.after[part].unsqueeze(1)  # (h, in, out)
        bias = self.bias[part].unsqueeze(1)  # (h, 1, out)
        if units.dim() == 2:
            units = units.expand(len(own), -1, -1)
        return torch.baddbmm(bias, units, own)


class Tabm(Network):
    """Heads over shared layers. In training all of them answer; in evaluation the mean of their answers does.

    Shape: {"dense": (N, P), "codes": (N, E)} → (N, K) in evaluation, (H, N, K) in training.

    Example:
        >>> settings = TabmConfig(heads=4, width=16)
        >>> tabm = Tabm(settings, InputShape(dense=3), outputs=1, dropout=0.1)
        >>> tabm({"dense": torch.zeros(5, 3)}).shape
        torch.Size([4, 5, 1])
        >>> tabm.eval()({"dense": torch.zeros(5, 3)}).shape
        torch.Size([5, 1])
    """

    plain: Tensor

    def __init__(
        self, settings: TabmConfig, shape: InputShape, outputs: int, dropout: float, *, probabilities: bool = True
    ) -> None:
        super().__init__()
        self.heads, self._probabilities = settings.heads, probabilities
        self.numbers = NumberEmbeddings(shape.bins, settings.number_dim) if shape.bins else None
        self.categories = (
            Embeddings(shape.cardinalities, shape.frequencies, settings.embedding_dim) if shape.cardinalities else None
        )
        embedded = {place for bins in shape.bins for place in bins.places}
        plain = [place for place in range(shape.dense) if place not in embedded]
        self.register_buffer("plain", torch.tensor(plain, dtype=torch.int64), persistent=False)
        sections = [settings.number_dim] * len(shape.bins)
        sections += [1] * len(plain) + [settings.embedding_dim] * len(shape.cardinalities)
        widths = [sum(sections), *[settings.width] * settings.blocks]
        layers = [SharedLinear(settings.heads, *pair) for pair in pairwise(widths)]
        # the only adapters that differ at first, with one factor for each column
        drawn = torch.randn(settings.heads, len(sections))
        factors = drawn if shape.bins else drawn.sign()
        layers[0].before.data = factors.repeat_interleave(torch.tensor(sections), dim=1)
        self.layers = nn.ModuleList(layers)
        self.dropout = Dropout(dropout)
        bound = settings.width**-0.5
        self.weight = nn.Parameter(torch.empty(settings.heads, settings.width, outputs).uniform_(-bound, bound))
        self.bias = nn.Parameter(torch.empty(settings.heads, 1, outputs).uniform_(-bound, bound))
        self._parts = parts(settings.heads, widths)

    def forward(self, inputs: Inputs) -> Tensor:
        features = self._features(inputs)
        if self.training:
            return self._answers(features, slice(None))
        answers = torch.cat([self._answers(features, part) for part in self._parts])
        return mean_answer(answers, probabilities=self._probabilities)

    def _features(self, inputs: Inputs) -> Tensor:
        features: list[Tensor] = []
        if self.numbers is not None:
            features.append(self.numbers(inputs["dense"]))
        if len(self.plain):
            features.append(inputs["dense"].index_select(1, self.plain))
        if self.categories is not None:
            features.append(self.categories(inputs["codes"]))
        return features[0] if len(features) == 1 else torch.cat(features, dim=1)

    def _answers(self, features: Tensor, part: slice) -> Tensor:
        """The outputs (h, N, K) of the heads in `part` for features (N, in)."""
        units = features
        for layer in self.layers:
            units = self.dropout(F.relu(layer(units, part)))
        return torch.baddbmm(self.bias[part], units, self.weight[part])

    def hidden_matrices(self) -> list[nn.Parameter]:
        return [layer.matrix for layer in self.layers if isinstance(layer, SharedLinear)][1:]

    def before_evaluation(self) -> None:
        if self.categories is not None:
            self.categories.fill_untrained()


FAMILY = ModelFamily(
    name="tabm",
    description="Many heads over shared layers, over numbers cut at their quantiles; the mean of the heads answers.",
    reads=("table",),
    section="tabm",
    settings=TabmConfig,
    build=lambda settings, shape, slot: Tabm(
        settings, shape, slot.outputs, slot.dropout, probabilities=not slot.regression
    ),
    dropout=0.1,
    recipe=Recipe(lr=1e-2, epochs=40, patience=16),
    alone=True,
    space={
        "model.tabm.heads": Choice((8, 16, 32)),
        "model.tabm.width": Choice((64, 128, 256)),
        "model.tabm.blocks": Int(1, 3),
        "model.tabm.number_dim": Choice((8, 16, 32)),
        "model.dropout": Float(0.0, 0.5),
        "optimizer.lr": Float(1e-3, 3e-2, log=True),
        "preprocessing.piecewise_bins": Choice((0, 16, 32, 64)),
    },
)
