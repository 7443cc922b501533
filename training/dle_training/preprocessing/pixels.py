"""Statistics of image channels, which encoders use to standardise pixels. Pixels stay bytes until a batch is used."""

from typing import Any

import msgspec
import numpy as np

SAMPLE = 2_000
"""Number of evenly spaced images for the statistics. More images would not change the second digit."""
LEAST_STD = 1 / 255


class PixelFit(msgspec.Struct, frozen=True, kw_only=True):
    """Mean and standard deviation of each channel, of pixels in [0, 1]."""

    mean: tuple[float, ...]
    std: tuple[float, ...]


def fit(images: Any, channels: int) -> PixelFit:
    """Fit on the training part's `images`, uint8 (N, columns · channels, H, W), in memory or in files."""
    step = -(-len(images) // SAMPLE)
    sample = np.asarray(images[::step])
    pixels = sample.reshape(-1, channels, *sample.shape[2:])
    mean = pixels.mean(axis=(0, 2, 3), dtype=np.float64) / 255
    std = np.sqrt(
        np.maximum((pixels.astype(np.float32) ** 2).mean(axis=(0, 2, 3), dtype=np.float64) / 255**2 - mean**2, 0)
    )
    return PixelFit(mean=tuple(mean.tolist()), std=tuple(np.maximum(std, LEAST_STD).tolist()))
