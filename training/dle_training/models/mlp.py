"""Multi-layer perceptron over a table: dense features and embedded categories through fully connected layers."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from dle_training.models._base import Encoder
from dle_training.models.dropout import Dropout
from dle_training.models.norm import BatchNorm1d
from dle_training.models.settings import ModelConfig
from dle_training.preprocessing.shape import Inputs, InputShape

ALONE, BESIDE_OTHERS = (256, 256, 256), (64, 64)
"""Hidden layers by default: columns beside images, series or text are soon learnt by heart by as many units."""


def hidden_layers(config: ModelConfig, *, alone: bool) -> tuple[int, ...]:
    """The widths that `config` asks for, else what suits columns that are `alone` or not."""
    if config.hidden is not None:
        return config.hidden
    return ALONE if alone else BESIDE_OTHERS


class Embeddings(nn.Module):
    """One table of vectors for all embedded columns: the code of a column plus its offset is a row of it.

    Rows that no training row uses (always that of unseen values) get the frequency-weighted mean of their column before
    each evaluation, so that an unseen value lands on the average and not on random weights.

    Shape: codes (N, E) int64 → (N, E · dimension).
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
        # the share of each row in its column; part of the state, so that loaded weights need no frequencies
        counts = [torch.tensor(column, dtype=torch.float64) for column in frequencies]
        shares = [column / column.sum().clamp(min=1) for column in counts]
        self.register_buffer("shares", torch.cat(shares).float() if shares else torch.zeros(int(sizes.sum())))

    def forward(self, codes: Tensor) -> Tensor:
        return F.embedding(codes + self.offsets, self.table).flatten(1)

    @torch.no_grad()
    def fill_untrained(self) -> None:
        """Set the rows without training examples to the mean of their column."""
        columns = (torch.split(rows, list(self.cardinalities)) for rows in (self.table, self.shares))
        for rows, shares in zip(*columns, strict=True):
            rows[shares == 0] = shares @ rows


class TableEncoder(Encoder):
    """Dense features and embedded codes, concatenated, through hidden layers of linear → (norm) → ReLU → dropout.

    Shape: {"dense": (N, P), "codes": (N, E)} → (N, last hidden width); "codes" only where there are embedded columns.
    """

    def __init__(self, config: ModelConfig, shape: InputShape) -> None:
        super().__init__()
        self.dense = shape.dense
        alone = shape.image is None and shape.sequence is None and shape.tokens is None
        self.embeddings = (
            Embeddings(shape.cardinalities, shape.frequencies, config.embedding_dim) if shape.cardinalities else None
        )
        self.width = shape.dense + len(shape.cardinalities) * config.embedding_dim
        layers: list[nn.Module] = []
        for hidden in hidden_layers(config, alone=alone):
            layers.append(nn.Linear(self.width, hidden))
            if config.batch_norm:
                layers.append(BatchNorm1d(hidden))
            layers += [nn.ReLU(), Dropout(config.dropout)]
            self.width = hidden
        self.layers = nn.Sequential(*layers)

    def forward(self, inputs: Inputs) -> Tensor:
        features = [inputs["dense"]] if self.dense else []
        if self.embeddings is not None:
            features.append(self.embeddings(inputs["codes"]))
        hidden: Tensor = self.layers(features[0] if len(features) == 1 else torch.cat(features, dim=1))
        return hidden

    def before_evaluation(self) -> None:
        if self.embeddings is not None:
            self.embeddings.fill_untrained()
