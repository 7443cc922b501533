"""Recurrent networks over series and text: GRU or LSTM, in one direction or both.

What stands beyond a row's end is never read before what is real: the second direction reads each row's real steps in
reverse, which a gather puts to the front, so no row has to be packed.

In the exported graph the layers are ONNX's own GRU and LSTM operators: the exporter would unroll PyTorch's layers over
the steps of the example and freeze their number. The operators order their gates otherwise, and the weights with them.
"""

from typing import Any

import torch
from torch import Tensor, nn

from dle_training.models._base import Encoder
from dle_training.models.dropout import Dropout
from dle_training.models.settings import ModelConfig
from dle_training.models.steps import Pool, Source, Steps
from dle_training.preprocessing.shape import Inputs, InputShape

_GATES = {"GRU": (1, 0, 2), "LSTM": (0, 3, 1, 2)}
"""Where ONNX's gates stand among PyTorch's: z, r, n of r, z, n; i, o, f, c of i, f, c, o."""
OPSET = 20


class RnnEncoder(Encoder):
    """Recurrent layers over real steps, then a pooling of their outputs.

    Shape: {"sequence": (N, T, C), "lengths": (N,)} or {"tokens": (N, T)} → (N, width · directions).
    """

    def __init__(self, config: ModelConfig, shape: InputShape, source: Source) -> None:
        super().__init__()
        rnn = config.rnn
        self.steps = Steps(shape, source, rnn.width)
        self.directions = 2 if rnn.bidirectional else 1
        self.width = rnn.width * self.directions
        kind = nn.GRU if rnn.cell == "gru" else nn.LSTM
        widths = [rnn.width, *[self.width] * (rnn.layers - 1)]
        self.layers = nn.ModuleList(
            nn.ModuleList(kind(width, rnn.width, batch_first=True) for _ in range(self.directions)) for width in widths
        )
        self.dropout = Dropout(config.dropout)
        self.pool = Pool(self.width, rnn.pooling)

    def forward(self, inputs: Inputs) -> Tensor:
        vectors, real = self.steps(inputs)
        reverse = _reversed(real) if self.directions == 2 else None
        for layer in self.layers:
            assert isinstance(layer, nn.ModuleList)
            vectors = self.dropout(vectors)
            outputs = [_run(layer[0], vectors)]
            if reverse is not None:
                outputs.append(_gathered(_run(layer[1], _gathered(vectors, reverse)), reverse))
            vectors = torch.cat(outputs, dim=2)
        pooled: Tensor = self.pool(vectors, real)
        if self.pool.pooling == "last" and self.directions == 2:
            # what has read all steps stands at the first one in the second direction
            half = self.width // 2
            pooled = torch.cat([pooled[:, :half], vectors[:, 0, half:]], dim=1)
        dropped: Tensor = self.dropout(pooled)
        return dropped


def _reversed(real: Tensor) -> Tensor:
    """Places (N, T) that turn each row's real steps around and leave the rest where it is; its own inverse."""
    places = torch.arange(real.shape[1], device=real.device).unsqueeze(0)
    ends = real.to(torch.int64).sum(dim=1, keepdim=True)
    return torch.where(real, ends - 1 - places, places)


def _gathered(vectors: Tensor, places: Tensor) -> Tensor:
    return vectors.gather(1, places.unsqueeze(2).expand(-1, -1, vectors.shape[2]))


def _run(layer: nn.Module, vectors: Tensor) -> Tensor:
    """The outputs (N, T, width) of one recurrent layer from a state of zeros."""
    assert isinstance(layer, nn.GRU | nn.LSTM)
    if torch.onnx.is_in_onnx_export():
        return _operator(layer, vectors)
    outputs: Tensor = layer(vectors)[0]
    return outputs


def _operator(layer: nn.GRU | nn.LSTM, vectors: Tensor) -> Tensor:
    """The same as one ONNX operator."""
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
