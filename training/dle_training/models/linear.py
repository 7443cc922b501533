"""The model family `linear`: one linear layer over a table, which is logistic, multinomial or ridge regression.

On few rows a line is hard to beat, and it is the measure of every other model. What it learns is one number for each
column or category and each output.
"""

import torch
from torch import Tensor, nn

from dle_training.models._base import Network
from dle_training.models.family import ModelFamily, Recipe, SharedConfig
from dle_training.models.mlp import Embeddings
from dle_training.preprocessing.shape import Inputs, InputShape
from dle_training.settings.dimensions import Float


class Linear(Network):
    """The sum of a bias, a weight for each dense feature times the feature, and a weight for each embedded category.

    All weights are 0 at first, so a column without influence stays without influence.

    Shape: {"dense": (N, P), "codes": (N, E)} → (N, K). Without embedded columns there are no "codes", without other
    columns no "dense".

    Example:
        >>> linear = Linear(InputShape(dense=3), outputs=2)
        >>> linear({"dense": torch.ones(5, 3)}).shape
        torch.Size([5, 2])
    """

    def __init__(self, shape: InputShape, outputs: int) -> None:
        super().__init__()
        self.bias = nn.Parameter(torch.zeros(outputs))
        self.weight = nn.Parameter(torch.zeros(shape.dense, outputs)) if shape.dense else None
        self.categories = None
        if shape.cardinalities:
            self.categories = Embeddings(shape.cardinalities, shape.frequencies, outputs)
            nn.init.zeros_(self.categories.table)

    def forward(self, inputs: Inputs) -> Tensor:
        total: Tensor = self.bias
        if self.weight is not None:
            total = total + inputs["dense"] @ self.weight
        if self.categories is not None:
            codes = inputs["codes"]  # (N, E)
            total = total + self.categories(codes).unflatten(1, (codes.shape[1], len(self.bias))).sum(dim=1)
        return total

    def before_evaluation(self) -> None:
        if self.categories is not None:
            self.categories.fill_untrained()


FAMILY = ModelFamily(
    name="linear",
    description="One linear layer: logistic regression for classes, linear regression for numbers.",
    reads=("table",),
    section=None,
    settings=SharedConfig,
    build=lambda settings, shape, slot: Linear(shape, slot.outputs),
    dropout=0.0,
    recipe=Recipe(lr=2e-2, epochs=100, least_steps=1_500),
    alone=True,
    space={
        "optimizer.lr": Float(1e-3, 1e-1, log=True),
        "optimizer.weight_decay": Float(1e-5, 1.0, log=True),
    },
)
