"""The model family `rnn`: recurrent networks (GRU or LSTM, in one direction or both) over series and text.

Padding is never read before real steps. For the second direction, a gather reverses each row's real steps and leaves
the padding at the end, so rows need not be packed.

In the exported graph the layers are ONNX's own GRU and LSTM operators, because the exporter would unroll PyTorch's
layers and fix the number of steps. The operators have another order of gates, and their weights follow it.
"""

from typing import Annotated, Any, Literal

import torch
from msgspec import Meta
from torch import Tensor, nn

from dle_training.models._base import OPSET, Encoder, matrices
from dle_training.models.dropout import Dropout
from dle_training.models.family import ModelFamily, Recipe
from dle_training.models.steps import STEPS_INPUTS, Pool, Steps, StepsInput
from dle_training.preprocessing.shape import Inputs, InputShape
from dle_training.settings.base import Count, Settings
from dle_training.settings.dimensions import Choice, Float, Int


class RnnConfig(Settings, frozen=True):
    """`rnn`: a recurrent network, over series or tokens."""

    cell: Annotated[Literal["gru", "lstm"], Meta(description="Gated recurrent units, or long short-term memory.")] = (
        "gru"
    )
    width: Annotated[Count, Meta(description="Units of each layer and direction.")] = 64
    layers: Annotated[Count, Meta(description="Number of stacked layers.")] = 1
    bidirectional: Annotated[bool, Meta(description="Add a second network that reads from the end.")] = True
    pooling: Annotated[
        Literal["last", "mean", "attention"],
        Meta(description="How the steps are pooled: the last step, their mean, or a mean with learnt weights."),
    ] = "attention"


_GATES = {"GRU": (1, 0, 2), "LSTM": (0, 3, 1, 2)}
"""ONNX's order of gates as positions in PyTorch's: z, r, n in r, z, n; i, o, f, c in i, f, c, o."""


class RnnEncoder(Encoder):
    """Recurrent layers over the real steps, then a pooling of their outputs.

    Shape: {"sequence": (N, T, C), "lengths": (N,)} or {"tokens": (N, T)} → (N, rnn.width · directions).

    Example:
        >>> from dle_training.preprocessing.shape import Series
        >>> shape = InputShape(sequence=Series(channels=2, steps=50))
        >>> encoder = RnnEncoder(RnnConfig(width=8), shape, "sequence", dropout=0.2)
        >>> encoder({"sequence": torch.zeros(3, 50, 2), "lengths": torch.tensor([50, 20, 1])}).shape
        torch.Size([3, 16])
    """

    def __init__(self, settings: RnnConfig, shape: InputShape, source: StepsInput, dropout: float) -> None:
        super().__init__()
        self.steps = Steps(shape, source, settings.width)
        self.directions = 2 if settings.bidirectional else 1
        self.width = settings.width * self.directions
        kind = nn.GRU if settings.cell == "gru" else nn.LSTM
        widths = [settings.width, *[self.width] * (settings.layers - 1)]
        self.layers = nn.ModuleList(
            nn.ModuleList(kind(width, settings.width, batch_first=True) for _ in range(self.directions))
            for width in widths
        )
        self.dropout = Dropout(dropout)
        self.pool = Pool(self.width, settings.pooling)

    def forward(self, inputs: Inputs) -> Tensor:
        vectors, real = self.steps(inputs)  # (N, T, width), (N, T)
        reverse = _reversed(real) if self.directions == 2 else None
        for layer in self.layers:
            assert isinstance(layer, nn.ModuleList)
            vectors = self.dropout(vectors)
            outputs = [_run(layer[0], vectors)]
            if reverse is not None:
                outputs.append(_gathered(_run(layer[1], _gathered(vectors, reverse)), reverse))
            vectors = torch.cat(outputs, dim=2)  # (N, T, width · directions)
        pooled: Tensor = self.pool(vectors, real)  # (N, width · directions)
        if self.pool.pooling == "last" and self.directions == 2:
            # the second direction has read all steps when it comes to the first one
            half = self.width // 2
            pooled = torch.cat([pooled[:, :half], vectors[:, 0, half:]], dim=1)
        dropped: Tensor = self.dropout(pooled)
        return dropped

    def hidden_matrices(self) -> list[nn.Parameter]:
        return matrices(self.layers)


def _reversed(real: Tensor) -> Tensor:
    """Positions (N, T) that reverse each row's real steps and keep the padding in place; its own inverse."""
    places = torch.arange(real.shape[1], device=real.device).unsqueeze(0)
    ends = real.to(torch.int64).sum(dim=1, keepdim=True)
    return torch.where(real, ends - 1 - places, places)


def _gathered(vectors: Tensor, places: Tensor) -> Tensor:
    return vectors.gather(1, places.unsqueeze(2).expand(-1, -1, vectors.shape[2]))


def _run(layer: nn.Module, vectors: Tensor) -> Tensor:
    """The outputs (N, T, width) of one recurrent layer, which starts from a state of zeros."""
    assert isinstance(layer, nn.GRU | nn.LSTM)
    if torch.onnx.is_in_onnx_export():
        return _operator(layer, vectors)
    outputs: Tensor = layer(vectors)[0]
    return outputs


def _operator(layer: nn.GRU | nn.LSTM, vectors: Tensor) -> Tensor:
    """The same computation as one ONNX operator."""
    kind, width = type(layer).__name__, layer.hidden_size
    weights = [_ordered(getattr(layer, f"weight_{what}_l0"), kind, width) for what in ("ih", "hh")]
    biases = torch.cat([_ordered(getattr(layer, f"bias_{what}_l0"), kind, width) for what in ("ih", "hh")])
    attributes: dict[str, Any] = {"hidden_size": width, **({"linear_before_reset": 1} if kind == "GRU" else {})}
    steps_first = vectors.transpose(0, 1)  # (T, N, C)
    outputs = torch.onnx.ops.symbolic(
        kind,
        (steps_first, *(weight.unsqueeze(0) for weight in weights), biases.unsqueeze(0)),
        attributes,
        dtype=vectors.dtype,
        shape=(vectors.shape[1], 1, vectors.shape[0], width),
        version=OPSET,
    )
    return outputs[:, 0].transpose(0, 1)


def _ordered(weight: Tensor, kind: str, width: int) -> Tensor:
    return torch.cat([weight[place * width : (place + 1) * width] for place in _GATES[kind]])


FAMILY = ModelFamily(
    name="rnn",
    description="Recurrent network (GRU or LSTM, both directions), pooled by last step, mean or attention.",
    reads=("sequence", "text"),
    section="rnn",
    settings=RnnConfig,
    build=lambda settings, shape, slot: RnnEncoder(settings, shape, STEPS_INPUTS[slot.kind], slot.dropout),
    dropout=0.2,
    recipe=Recipe(lr=3e-3, epochs=12, least_steps=600, largest_batch=128),
    space={
        "model.rnn.cell": Choice(("gru", "lstm")),
        "model.rnn.width": Choice((32, 64, 128, 256)),
        "model.rnn.layers": Int(1, 3),
        "model.rnn.pooling": Choice(("last", "mean", "attention")),
        "model.dropout": Float(0.0, 0.5),
    },
)
