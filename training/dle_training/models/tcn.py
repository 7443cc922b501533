"""Convolutions over series: in each layer several widths side by side, with shortcuts around every third layer.

Ismail Fawaz et al., "InceptionTime: Finding AlexNet for Time Series Classification" (2020). What lies beyond a row's
end is zero in every layer, as it is beyond the ends of a longer one, so that padding changes no answer.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from dle_training.config import ModelConfig
from dle_training.models._base import Encoder, Inputs, InputShape
from dle_training.models.dropout import Dropout
from dle_training.models.steps import masked_mean, within

_SHORTCUT_EVERY = 3
_LOWEST = -1e9


class TcnEncoder(Encoder):
    """Layers of parallel convolutions, then the mean over the real steps.

    Shape: {"sequence": (N, T, C), "lengths": (N,)} → (N, 4 · tcn.width).
    """

    def __init__(self, config: ModelConfig, shape: InputShape) -> None:
        super().__init__()
        assert shape.sequence is not None
        tcn = config.tcn
        self.width = 4 * tcn.width
        widths = [shape.sequence.channels, *[self.width] * (tcn.depth - 1)]
        widest = min(tcn.kernel, max(shape.sequence.steps, 3))
        self.layers = nn.ModuleList(_Layer(width, tcn.width, widest) for width in widths)
        ends = range(_SHORTCUT_EVERY - 1, tcn.depth, _SHORTCUT_EVERY)
        self.shortcuts = nn.ModuleList(_Shortcut(widths[end + 1 - _SHORTCUT_EVERY], self.width) for end in ends)
        self.dropout = Dropout(config.dropout)

    def forward(self, inputs: Inputs) -> Tensor:
        sequence = inputs["sequence"]
        real = within(inputs["lengths"], sequence.shape[1])
        mask = real.unsqueeze(1).to(sequence.dtype)  # (N, 1, T)
        found = bridge = sequence.transpose(1, 2)  # (N, C, T)
        for place, layer in enumerate(self.layers):
            found = layer(found, mask)
            if place % _SHORTCUT_EVERY == _SHORTCUT_EVERY - 1:
                found = bridge = F.relu(found + self.shortcuts[place // _SHORTCUT_EVERY](bridge)) * mask
        pooled: Tensor = self.dropout(masked_mean(found.transpose(1, 2), real.to(found.dtype)))
        return pooled


class _Layer(nn.Module):
    """Three kernels on a bottleneck, and a pooled branch: (N, C, T) → (N, 4 · width, T)."""

    def __init__(self, channels: int, width: int, widest: int) -> None:
        super().__init__()
        self.bottleneck = nn.Conv1d(channels, width, 1, bias=False) if channels > width else nn.Identity()
        narrowed = min(channels, width)
        kernels = [max(widest // part, 3) | 1 for part in (1, 2, 4)]  # odd, so that they have a middle
        self.branches = nn.ModuleList(
            nn.Conv1d(narrowed, width, kernel, padding=kernel // 2, bias=False) for kernel in kernels
        )
        self.pooled = nn.Conv1d(channels, width, 1, bias=False)
        self.norm = nn.BatchNorm1d(4 * width)

    def forward(self, found: Tensor, mask: Tensor) -> Tensor:
        narrowed = self.bottleneck(found)
        highest = _highest_of_three(torch.where(mask > 0, found, torch.full_like(found, _LOWEST)))
        branches = [branch(narrowed) for branch in self.branches]
        joined = torch.cat([*branches, self.pooled(highest * mask)], dim=1)
        return F.relu(self.norm(joined)) * mask


def _highest_of_three(found: Tensor) -> Tensor:
    """The highest of each step and its neighbours; a pooling operator would freeze the number of steps in a graph."""
    padded = F.pad(found, (1, 1), value=_LOWEST)
    return torch.maximum(torch.maximum(padded[..., :-2], padded[..., 2:]), found)


class _Shortcut(nn.Module):
    def __init__(self, channels: int, width: int) -> None:
        super().__init__()
        self.map = nn.Conv1d(channels, width, 1, bias=False)
        self.norm = nn.BatchNorm1d(width)

    def forward(self, found: Tensor) -> Tensor:
        bridged: Tensor = self.norm(self.map(found))
        return bridged
