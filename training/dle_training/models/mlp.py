"""The model family `mlp`: fully connected layers over the dense features and embedded categories of a table."""

from typing import Annotated

import torch
from msgspec import Meta
from msgspec.structs import replace
from torch import Tensor, nn
from torch.nn import functional as F

from dle_training.models._base import Encoder, matrices
from dle_training.models.dropout import Dropout
from dle_training.models.family import Facts, ModelFamily, Recipe, SharedConfig
from dle_training.models.norm import BatchNorm1d
from dle_training.preprocessing.shape import Inputs, InputShape
from dle_training.settings.base import Count, chosen
from dle_training.settings.dimensions import Choice, Float, Int

ALONE, BESIDE_OTHERS = (256, 256, 256), (64, 64)
"""Default hidden layers for columns alone, and for columns beside images, series or text.

Beside other inputs, larger layers would soon memorise the columns.
"""


class MlpConfig(SharedConfig, frozen=True):
    """`mlp`: fully connected layers, over columns."""

    hidden: Annotated[
        tuple[Count, ...] | None,
        Meta(
            description=f"Width of each hidden layer over columns; [] makes a linear model; null: {list(ALONE)} for "
            f"columns alone, {list(BESIDE_OTHERS)} beside images, series or text."
        ),
    ] = None
    batch_norm: Annotated[bool, Meta(description="Batch normalisation before each activation.")] = False
    embedding_dim: Annotated[Count, Meta(description="Width of the vector that is learnt for each category.")] = 8


class Embeddings(nn.Module):
    """One table of vectors for all embedded columns: a column's code plus the column's offset is a row of the table.

    No training row uses the row for unseen values, and other rows may lack training examples too. Before each
    evaluation all of these get the frequency-weighted mean of their column, so that an unseen value is treated as the
    average and not by random weights.

    Shape: codes (N, E) int64 → (N, E · dimension).

    Example:
        >>> embeddings = Embeddings(cardinalities=(4, 3), frequencies=((0, 0, 2, 1), (0, 1, 2)), dimension=8)
        >>> embeddings(torch.tensor([[2, 1], [0, 2]])).shape
        torch.Size([2, 16])
    """

    offsets: Tensor
    shares: Tensor

    def __init__(
        self, cardinalities: tuple[int, ...], frequencies: tuple[tuple[int, ...], ...], dimension: int
    ) -> None:
        super().__init__()
        sizes = torch.tensor(cardinalities)
        self.cardinalities = cardinalities
        self.table = nn.Parameter(torch.randn(int(sizes.sum()), dimension) / dimension**0.5)
        self.register_buffer("offsets", sizes.cumsum(0) - sizes, persistent=False)  # (E,)
        # the frequency of each row in its column; part of the state dict, so that loaded weights need no frequencies
        counts = [torch.tensor(column, dtype=torch.float64) for column in frequencies]
        shares = [column / column.sum().clamp(min=1) for column in counts]
        self.register_buffer("shares", torch.cat(shares).float() if shares else torch.zeros(int(sizes.sum())))

    def forward(self, codes: Tensor) -> Tensor:
        return F.embedding(codes + self.offsets, self.table).flatten(1)  # (N, E, dimension) → (N, E · dimension)

    @torch.no_grad()
    def fill_untrained(self) -> None:
        """Set the rows without training examples to the mean of their column."""
        columns = (torch.split(rows, list(self.cardinalities)) for rows in (self.table, self.shares))
        for rows, shares in zip(*columns, strict=True):
            rows[shares == 0] = shares @ rows


class TableEncoder(Encoder):
    """Concatenates dense features and embedded codes; hidden layers of linear → (norm) → ReLU → dropout follow.

    Shape: {"dense": (N, P), "codes": (N, E)} → (N, last hidden width). Without embedded columns there are no "codes",
    without other columns no "dense".

    Example:
        >>> encoder = TableEncoder(MlpConfig(hidden=(16,)), InputShape(dense=3), dropout=0.1)
        >>> encoder({"dense": torch.zeros(5, 3)}).shape
        torch.Size([5, 16])
    """

    def __init__(self, settings: MlpConfig, shape: InputShape, dropout: float) -> None:
        super().__init__()
        self.dense = shape.dense
        self.embeddings = (
            Embeddings(shape.cardinalities, shape.frequencies, settings.embedding_dim) if shape.cardinalities else None
        )
        self.width = shape.dense + len(shape.cardinalities) * settings.embedding_dim
        layers: list[nn.Module] = []
        for hidden in chosen(settings.hidden):
            # normalisation takes a bias before it away
            layers.append(nn.Linear(self.width, hidden, bias=not settings.batch_norm))
            if settings.batch_norm:
                layers.append(BatchNorm1d(hidden))
            layers += [nn.ReLU(), Dropout(dropout)]
            self.width = hidden
        self.layers = nn.Sequential(*layers)

    def forward(self, inputs: Inputs) -> Tensor:
        features = [inputs["dense"]] if self.dense else []  # (N, P)
        if self.embeddings is not None:
            features.append(self.embeddings(inputs["codes"]))  # (N, E · embedding_dim)
        hidden: Tensor = self.layers(features[0] if len(features) == 1 else torch.cat(features, dim=1))
        return hidden

    def hidden_matrices(self) -> list[nn.Parameter]:
        return matrices(self.layers)[1:]

    def before_evaluation(self) -> None:
        if self.embeddings is not None:
            self.embeddings.fill_untrained()


def _complete(settings: MlpConfig, facts: Facts) -> MlpConfig:
    if settings.hidden is not None:
        return settings
    return replace(settings, hidden=ALONE if set(facts.kinds) == {"table"} else BESIDE_OTHERS)


FAMILY = ModelFamily(
    name="mlp",
    description="Fully connected layers over scaled numbers, one-hot and embedded categories.",
    reads=("table",),
    section=None,
    settings=MlpConfig,
    build=lambda settings, shape, slot: TableEncoder(settings, shape, slot.dropout),
    dropout=0.1,
    recipe=Recipe(lr=2e-3, epochs=30),
    complete=_complete,
    space={
        "model.hidden": Choice(([64], [64, 64], [128, 128], [256, 256], [256, 256, 256], [512, 512])),
        "model.dropout": Float(0.0, 0.5),
        "model.batch_norm": Choice((False, True)),
        "model.embedding_dim": Int(4, 32, log=True),
        "preprocessing.numeric": Choice(("standard", "min_max")),
        "preprocessing.piecewise_bins": Choice((0, 16, 32, 64)),
    },
)
