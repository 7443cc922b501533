"""Statistics of image channels, which encoders use to standardise pixels. Pixels stay bytes until a batch is used."""

from typing import Any

import msgspec
import numpy as np

SAMPLE = 2_000
"""Number of evenly spaced images for the statistics. More images would not change the second digit."""
LEAST_STD = 1 / 255
_AT_ONCE = 64


class PixelFit(msgspec.Struct, frozen=True, kw_only=True):
    """Mean and standard deviation of each channel, of pixels in [0, 1]."""

    mean: tuple[float, ...]
    std: tuple[float, ...]


def fit(images: Any, channels: int) -> PixelFit:
    """Fit on the training part's `images`, uint8 (N, columns · channels, H, W), in memory or in files."""
    step = -(-len(images) // SAMPLE)
    sample = images[::step]
    pixels, total, squares = 0, np.zeros(channels, dtype=np.uint64), np.zeros(channels, dtype=np.uint64)
    for start in range(0, len(sample), _AT_ONCE):  # whole as float32, the sample would take as much as all images
        block = np.asarray(sample[start : start + _AT_ONCE])
        block = block.reshape(-1, channels, *block.shape[2:]).astype(np.uint32)
        pixels += block[:, 0].size
        total += block.sum(axis=(0, 2, 3), dtype=np.uint64)
        squares += np.square(block).sum(axis=(0, 2, 3), dtype=np.uint64)
    mean = total / pixels / 255
    std = np.sqrt(np.maximum(squares / pixels / 255**2 - mean**2, 0))
    return PixelFit(mean=tuple(mean.tolist()), std=tuple(np.maximum(std, LEAST_STD).tolist()))
