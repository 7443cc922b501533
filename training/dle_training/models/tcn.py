"""The model family `tcn`: convolutions of several widths side by side over series, with a shortcut per three layers.

Ismail Fawaz et al., "InceptionTime: Finding AlexNet for Time Series Classification" (2020). Steps beyond a row's end
are zero in every layer, like the zeros beyond the end of the longest row. Normalisation ignores them, so padding does
not change an answer.

A series is handled as an image of one line, (N, C, 1, T) with channels last, for which the convolutions of PyTorch and
of ONNX Runtime are faster than for (N, C, T).
"""

from typing import Annotated

import torch
from msgspec import Meta
from torch import Tensor, nn
from torch.nn import functional as F

from dle_training.models._base import Encoder
from dle_training.models.dropout import Dropout
from dle_training.models.family import ModelFamily, Recipe
from dle_training.models.norm import BatchNorm2d
from dle_training.models.steps import within
from dle_training.preprocessing.shape import Inputs, InputShape
from dle_training.settings.base import Count, Settings
from dle_training.settings.dimensions import Choice, Float


class TcnConfig(Settings, frozen=True):
    """`tcn`: convolutions of several widths side by side, in residual groups, over series."""

    width: Annotated[Count, Meta(description="Channels of each branch; a layer has four branches.")] = 16
    depth: Annotated[Count, Meta(description="Number of layers; a shortcut bridges every three.")] = 6
    kernel: Annotated[int, Meta(ge=3, description="Number of steps that the widest branch sees.")] = 39


_SHORTCUT_EVERY = 3
_LONG = 512
"""A first convolution halves series of at least this many steps until they are shorter."""


class TcnEncoder(Encoder):
    """Layers of parallel convolutions, then the mean over the real steps.

    Shape: {"sequence": (N, T, C), "lengths": (N,)} → (N, 4 · tcn.width).

    Example:
        >>> from dle_training.preprocessing.shape import Series
        >>> encoder = TcnEncoder(TcnConfig(width=8), InputShape(sequence=Series(channels=2, steps=50)), dropout=0.1)
        >>> encoder({"sequence": torch.zeros(3, 50, 2), "lengths": torch.tensor([50, 20, 1])}).shape
        torch.Size([3, 32])
    """

    def __init__(self, settings: TcnConfig, shape: InputShape, dropout: float) -> None:
        super().__init__()
        assert shape.sequence is not None
        self.width = 4 * settings.width
        channels, steps, stride = shape.sequence.channels, shape.sequence.steps, 1
        while steps // stride >= _LONG:
            stride *= 2
        self.stem = _Stem(channels, self.width, stride) if stride > 1 else None
        widths = [channels if self.stem is None else self.width, *[self.width] * (settings.depth - 1)]
        widest = min(settings.kernel, max(steps // stride, 3))
        self.layers = nn.ModuleList(_Layer(width, settings.width, widest) for width in widths)
        ends = range(_SHORTCUT_EVERY - 1, settings.depth, _SHORTCUT_EVERY)
        self.shortcuts = nn.ModuleList(_Shortcut(widths[end + 1 - _SHORTCUT_EVERY], self.width) for end in ends)
        self.dropout = Dropout(dropout)

    def forward(self, inputs: Inputs) -> Tensor:
        found, lengths = inputs["sequence"].unsqueeze(1).movedim(3, 1), inputs["lengths"]  # (N, C, 1, T)
        if self.stem is not None:
            found, lengths = self.stem(found, lengths)
        real = within(lengths, found.shape[3]).unsqueeze(1)  # (N, 1, T)
        bridge = found
        for place, layer in enumerate(self.layers):
            found = layer(found, real)
            if place % _SHORTCUT_EVERY == _SHORTCUT_EVERY - 1:
                found = bridge = F.relu(found + self.shortcuts[place // _SHORTCUT_EVERY](bridge, real))
        mean: Tensor = self.dropout(found.sum((2, 3)) / lengths.unsqueeze(1).to(found.dtype))
        return mean


class _Norm(BatchNorm2d):
    """Batch normalisation by the statistics of the real steps, and zero elsewhere.

    A single real step has no spread: the running statistics normalise it, and it changes nothing in them. A device is
    never waited for.

    Shape: (N, C, 1, T), mask (N, 1, T) → (N, C, 1, T).
    """

    def forward(self, found: Tensor, real: Tensor) -> Tensor:  # type: ignore[override]
        if not self.training:
            normed = F.batch_norm(found, self.running_mean, self.running_var, self.weight, self.bias, eps=self.eps)
            return normed * real.unsqueeze(1).to(found.dtype)
        if real.is_cpu and real.numel() > 1 and bool(real.all()):  # PyTorch's own is faster, and here nothing waits
            return super().forward(found)
        steps = found.movedim(1, 3)  # (N, 1, T, C)
        rows, mask = steps.flatten(0, 2), real.flatten().to(found.dtype)  # (N · T, C), (N · T,)
        count = mask.sum()
        share = mask / count
        mean = share @ rows
        variance = share @ (rows - mean).square()
        several = count > 1
        self.follow(mean, variance * count / (count - 1).clamp(min=1), several)
        assert self.running_mean is not None
        assert self.running_var is not None
        mean, variance = torch.where(several, mean, self.running_mean), torch.where(several, variance, self.running_var)
        scale = self.weight * (variance + self.eps).rsqrt()
        normed = torch.addcmul(self.bias, rows - mean, scale) * mask.unsqueeze(1)
        return normed.view_as(steps).movedim(3, 1)


class _Stem(nn.Module):
    """A convolution that leaves one of `stride` steps: (N, C, 1, T) → (N, width, 1, ⌈T / stride⌉), and new lengths."""

    def __init__(self, channels: int, width: int, stride: int) -> None:
        super().__init__()
        self.convolution = _convolution(channels, width, 2 * stride + 1, stride)
        self.norm = _Norm(width)
        self.stride = stride

    def forward(self, found: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        found = self.convolution(found)
        lengths = (lengths + self.stride - 1) // self.stride
        return F.relu(self.norm(found, within(lengths, found.shape[3]).unsqueeze(1))), lengths


class _Layer(nn.Module):
    """Three kernels on a bottleneck, and a pooled branch: (N, C, 1, T) → (N, 4 · width, 1, T)."""

    def __init__(self, channels: int, width: int, widest: int) -> None:
        super().__init__()
        self.bottleneck = _convolution(channels, width, 1) if channels > width else nn.Identity()
        narrowed = min(channels, width)
        kernels = [max(widest // part, 3) | 1 for part in (1, 2, 4)]  # odd, so that they have a middle
        self.branches = nn.ModuleList(_convolution(narrowed, width, kernel) for kernel in kernels)
        self.pooled = _convolution(channels, width, 1)
        self.norm = _Norm(4 * width)

    def forward(self, found: Tensor, real: Tensor) -> Tensor:
        narrowed = self.bottleneck(found)
        branches = [branch(narrowed) for branch in self.branches]
        joined = torch.cat([*branches, self.pooled(_highest_of_three(found))], dim=1)
        return F.relu(self.norm(joined, real))


def _convolution(channels: int, width: int, kernel: int, stride: int = 1) -> nn.Conv2d:
    return nn.Conv2d(channels, width, (1, kernel), stride, padding=(0, kernel // 2), bias=False)


def _highest_of_three(found: Tensor) -> Tensor:
    """The highest of each step and its neighbours; zero stands beyond the ends."""
    padded = F.pad(found, (1, 1))
    if torch.onnx.is_in_onnx_export():  # where a pooling operator would freeze the number of steps
        return torch.maximum(torch.maximum(padded[..., :-2], padded[..., 2:]), found)
    return F.max_pool2d(padded, (1, 3), 1)


class _Shortcut(nn.Module):
    def __init__(self, channels: int, width: int) -> None:
        super().__init__()
        self.map = _convolution(channels, width, 1)
        self.norm = _Norm(width)

    def forward(self, found: Tensor, real: Tensor) -> Tensor:
        bridged: Tensor = self.norm(self.map(found), real)
        return bridged


FAMILY = ModelFamily(
    name="tcn",
    description="Convolutions of several widths side by side with residual shortcuts, in the manner of InceptionTime.",
    reads=("sequence",),
    section="tcn",
    settings=TcnConfig,
    build=lambda settings, shape, slot: TcnEncoder(settings, shape, slot.dropout),
    dropout=0.1,
    recipe=Recipe(lr=2e-3, epochs=20, least_steps=300, largest_batch=64),
    space={
        "model.tcn.width": Choice((8, 16, 32)),
        "model.tcn.depth": Choice((3, 6, 9)),
        "model.tcn.kernel": Choice((9, 19, 39, 79)),
        "model.dropout": Float(0.0, 0.5),
    },
)
