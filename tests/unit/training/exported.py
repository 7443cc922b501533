"""What an encoder's ONNX graph answers, beside what the encoder does."""

from collections.abc import Iterable, Iterator

import onnxruntime
import torch
from torch import Tensor, nn

from dle_training.export import graph
from dle_training.models._base import Encoder
from dle_training.preprocessing.shape import Inputs


class _Positional(nn.Module):
    """The encoder with its inputs by position, as the exporter hands them over."""

    def __init__(self, encoder: Encoder, names: Iterable[str]) -> None:
        super().__init__()
        self.encoder = encoder
        self.names = tuple(names)

    def forward(self, *arrays: Tensor) -> Tensor:
        features: Tensor = self.encoder(dict(zip(self.names, arrays, strict=True)))
        return features


def answers(encoder: Encoder, example: Inputs, others: Iterable[Inputs]) -> Iterator[tuple[Inputs, Tensor]]:
    """Each of `others` and the features that the graph, exported with `example`, makes of it."""
    model = graph._export(_Positional(encoder, example), example, "features")
    assert {node.domain for node in model.graph.node} == {""}
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    for inputs in others:
        feeds = {name: tensor.numpy() for name, tensor in inputs.items()}
        yield inputs, torch.from_numpy(session.run(None, feeds)[0])
