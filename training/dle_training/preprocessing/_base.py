"""The contract of a preprocessing step, and the limits that all steps keep.

A step is fitted in numpy on the training part, which gives a small struct of plain numbers (readable JSON in
`preprocessing.json`), and runs as a torch module made from that struct alone, so the exporter carries it into the
graph. Steps use operators that mean the same in PyTorch and in ONNX.
"""

import torch
from torch import Tensor, nn

CLIP = 1e4
"""Scaled numbers are cut at ±CLIP: a wild value may mislead the network but never overflow it."""

LINEAR = 5.0
"""Scaled numbers within ±LINEAR stay as they are; beyond, they grow with the logarithm."""

LEAST_RANGE = 1e-6
"""Training values closer together than this are taken as one."""


class Step(nn.Module):
    """Turns one group of columns into dense features: forward(values (N, columns)) -> (N, width) float32.

    Contract: rows do not influence each other; every value that the group can hold, missing ones included, gives
    finite features; buffers come from the fitted struct and are no part of the state dict.
    """

    width: int

    def forward(self, values: Tensor) -> Tensor:
        raise NotImplementedError


def bounded(scaled: Tensor) -> Tensor:
    """Scaled numbers, cut at ±CLIP and compressed beyond ±LINEAR: continuous, smooth and increasing, at most 14.2.

    Sums of products of numbers near 10⁴ cancel to answers that are rounding noise, which no two runtimes share; and a
    heavy tail would steer the network by a few rows.
    """
    size = scaled.abs().clamp(max=CLIP)
    beyond = torch.relu(size - LINEAR)
    return torch.sign(scaled) * (size - beyond + torch.log(1 + beyond))
