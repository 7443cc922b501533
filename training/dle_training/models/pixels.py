"""Standardised pixels for image encoders: one row per image, with channels last in memory.

With channels last, PyTorch pools and convolves several times faster on a CPU. Only the pixels need this layout, because
every layer passes it on. The weights keep the usual layout, which optimizer states and checkpoints require.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from dle_training.preprocessing.pixels import LEAST_STD


class Standardised(nn.Module):
    """Standardises pixels from 0 to 255 by `mean` and `std`, which hold one value per channel for pixels in [0, 1].

    Each image of a row becomes a row of its own. With `persistent` the statistics are part of the state dict; they need
    to be if they do not come from the training data.

    Shape: uint8 or float32 (N, columns · C, H, W) → float32 (N · columns, C, H, W).

    Example:
        >>> standardised = Standardised(columns=2, mean=(0.5,), std=(0.5,))
        >>> standardised(torch.full((3, 2, 4, 4), 255, dtype=torch.uint8)).shape
        torch.Size([6, 1, 4, 4])
    """

    mean: Tensor
    scale: Tensor

    def __init__(self, columns: int, mean: Sequence[float], std: Sequence[float], *, persistent: bool = False) -> None:
        super().__init__()
        self.columns, self.channels = columns, len(mean)
        deviation = torch.tensor(std).clamp(min=LEAST_STD).view(-1, 1, 1)
        self.register_buffer("mean", 255 * torch.tensor(mean).view(-1, 1, 1), persistent=persistent)  # (C, 1, 1)
        self.register_buffer("scale", 1 / (255 * deviation), persistent=persistent)

    def forward(self, pixels: Tensor) -> Tensor:
        if self.columns > 1:  # (N, columns · C, H, W) → (N · columns, C, H, W)
            pixels = pixels.reshape(pixels.shape[0] * self.columns, self.channels, *pixels.shape[2:])
        if torch.compiler.is_exporting():
            pixels = pixels.float()  # an exported graph has no memory layouts
        else:
            pixels = pixels.to(torch.float32, memory_format=torch.channels_last)
        return (pixels - self.mean) * self.scale
