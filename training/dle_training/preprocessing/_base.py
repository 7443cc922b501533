"""The contract of a preprocessing step, and the limits that all steps keep.

A step is fitted in numpy on the training part. The result is a small struct of plain numbers, readable JSON in
`preprocessing.json`. The step runs as a torch module built from that struct alone, so it becomes part of the exported
graph. Steps use only operators that give the same results in PyTorch and in ONNX.
"""

from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from dle_bundle.values.numbers import differ

CLIP = 1e4
"""Scaled numbers are cut at ±CLIP, so an extreme value may mislead the network but never overflows in it."""

LARGEST = 2.0**1000
"""Steps are fitted to numbers cut at ±LARGEST, so that no sum or difference of them is infinite in float64."""

LINEAR = 5.0
"""Scaled numbers within ±LINEAR do not change; beyond it, they grow with the logarithm."""


class Step(nn.Module):
    """Turns one group of columns into dense features.

    Shape: values (N, columns) → (N, width) float32.

    Contract:
        - Rows do not influence each other.
        - Every value that the group can hold gives finite features, and so does a missing value.
        - Buffers come from the fitted struct and are not part of the state dict.

    Threads: `forward` changes nothing, so several threads may call it at once.

    Failures: `forward` raises nothing for values of the group's type.

    Example:
        >>> class Doubled(Step):
        ...     width = 1
        ...
        ...     def forward(self, values):
        ...         return 2 * torch.nan_to_num(values)
        >>> Doubled()(torch.tensor([[1.5], [float("nan")]])).tolist()
        [[3.0], [0.0]]
    """

    width: int

    def forward(self, values: Tensor) -> Tensor:
        raise NotImplementedError


def factors(low: npt.NDArray[Any], high: npt.NDArray[Any], spread: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Return the scale factors (F,) of columns with these extremes and spreads: 1 / spread, or 0 for a constant column.

    `low` and `high` have the type in which the graph computes, float32 or float64. A factor is at most half the largest
    number of that type, because the inverse of a very small spread can be infinite.
    """
    with np.errstate(over="ignore"):
        inverse = np.divide(1.0, spread, out=np.zeros_like(spread), where=differ(low, high))
    largest: npt.NDArray[np.float64] = np.minimum(inverse, float(np.finfo(low.dtype).max) / 2)
    return largest


def bounded(scaled: Tensor) -> Tensor:
    """Return scaled numbers as float32, cut at ±CLIP and compressed beyond ±LINEAR.

    The result is a continuous, smooth, increasing function of the number, at most 14.2.
    Without this, products of numbers near 10⁴ would cancel in sums and leave rounding noise, which differs between
    runtimes, and a few rows of a heavy tail would dominate the training.
    """
    cut = scaled.clamp(-CLIP, CLIP).to(torch.float32)
    size = cut.abs()
    beyond = torch.relu(size - LINEAR)
    return torch.sign(cut) * (size - beyond + torch.log(1 + beyond))
