"""Dropout that does not dominate a training step on a CPU.

`nn.Dropout` draws one Bernoulli variable after another there: for 256 × 256 units 0.75 ms, more than twice the matrix
product of the layer. Random words cut into 16-bit numbers and compared with a threshold take 0.23 ms. The probability
is so rounded to a multiple of 2⁻¹⁶, and the scale follows the rounded one, so that the expectation is exact.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

_LEVELS = 1 << 16


class Dropout(nn.Module):
    """Zeroes each unit with probability `p` in training and scales the others by 1 / (1 − p); identity otherwise.

    Shape: any float32 tensor → the same shape. Draws from torch's global generator.

    Example:
        >>> Dropout(0.5).eval()(torch.ones(2)).tolist()
        [1.0, 1.0]
    """

    def __init__(self, p: float | None) -> None:
        """Nothing is dropped where `p` is None."""
        super().__init__()
        self.p = p = p or 0.0
        self.dropped = round(p * _LEVELS)

    def forward(self, units: Tensor) -> Tensor:
        if not self.training or self.dropped == 0:
            return units
        if units.device.type != "cpu":
            return F.dropout(units, self.p)
        words = torch.empty((units.numel() + 3) // 4, dtype=torch.int64).random_(-(2**63), None)
        levels = words.view(torch.int16)[: units.numel()].view(units.shape)
        kept = (levels >= self.dropped - _LEVELS // 2).to(units.dtype)
        return units * kept.mul_(_LEVELS / (_LEVELS - self.dropped))

    def extra_repr(self) -> str:
        return f"p={self.p}"
