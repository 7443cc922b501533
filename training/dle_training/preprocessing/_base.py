"""The contract of a preprocessing step, and the limits that all steps keep.

A step is fitted in numpy on the training part. The result is a small struct of plain numbers, readable JSON in
`preprocessing.json`. The step runs as a torch module built from that struct alone, so it becomes part of the exported
graph. Steps use only operators that give the same results in PyTorch and in ONNX.
"""

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from dle_bundle.values.numbers import differ

CLIP = 1e4
"""Scaled numbers are cut at ±CLIP, so an extreme value may mislead the network but never overflows in it."""

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


def factors(
    low: npt.NDArray[np.float32], high: npt.NDArray[np.float32], spread: npt.NDArray[np.float64]
) -> npt.NDArray[np.float64]:
    """Return the scale factors (F,) of columns with these extremes and spreads: 1 / spread, or 0 for a constant column.

    A factor is at most the largest float32, because the inverse of a very small spread can be infinite.
    """
    inverse = np.divide(1.0, spread, out=np.zeros_like(spread), where=differ(low, high))
    largest: npt.NDArray[np.float64] = np.minimum(inverse, np.finfo(np.float32).max)
    return largest


def bounded(scaled: Tensor) -> Tensor:
    """Return scaled numbers cut at ±CLIP and compressed beyond ±LINEAR: continuous, smooth, increasing, at most 14.2.

    Without this, products of numbers near 10⁴ would cancel in sums and leave rounding noise, which differs between
    runtimes, and a few rows of a heavy tail would dominate the training.
    """
    size = scaled.abs().clamp(max=CLIP)
    beyond = torch.relu(size - LINEAR)
    return torch.sign(scaled) * (size - beyond + torch.log(1 + beyond))
