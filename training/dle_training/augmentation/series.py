"""Series augmentation: noise, scaling, and slices that are stretched to the whole series.

Um et al., "Data Augmentation of Wearable Sensor Data" (2017); Le Guennec et al., "Data Augmentation for Time Series
Classification" (2016) for slices.
"""

import torch
from torch import Tensor

from dle_training.augmentation.settings import AugmentationConfig
from dle_training.settings.base import chosen


class SeriesAugmentation:
    """Varies each series by its own random numbers.

    Call: standardised (N, T, C) float32 with lengths (N,) → the same shapes. Steps beyond a row's end stay 0, and the
    last `indicators` channels stay 0 or 1. The `levels` channels before them do not change.
    """

    def __init__(self, config: AugmentationConfig, indicators: int = 0, levels: int = 0) -> None:
        self.indicators = indicators
        self.levels = levels
        self.jitter = chosen(config.jitter)
        self.scaling = chosen(config.scaling)
        self.slicing = chosen(config.slicing)

    def __call__(self, sequence: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        if not (self.slicing or self.scaling or self.jitter):
            return sequence, lengths
        whole = self._sliced(sequence, lengths) if self.slicing else sequence
        channels = sequence.shape[2] - self.indicators - self.levels
        levels = whole[..., channels : channels + self.levels]
        varied, missing = whole[..., :channels], (whole[..., channels + self.levels :] > 0).to(whole.dtype)
        rows, steps, _ = varied.shape
        if self.scaling:
            varied = varied * (1 + self.scaling * torch.randn(rows, 1, channels)).to(varied.device)
        if self.jitter:
            noise = (self.jitter * torch.randn(rows, steps, channels)).to(varied.device)
            varied = varied + noise * (varied != 0)  # 0 is a missing value or a constant channel
        real = torch.arange(steps, device=lengths.device).unsqueeze(0) < lengths.unsqueeze(1)
        return torch.cat([varied, levels, missing], dim=2) * real.unsqueeze(2).to(varied.dtype), lengths

    def _sliced(self, sequence: Tensor, lengths: Tensor) -> Tensor:
        """A random part of at least 1 − slicing of each series, stretched over the whole by linear interpolation."""
        rows, steps, channels = sequence.shape
        share, start = (1 - self.slicing * torch.rand(rows)), torch.rand(rows)
        last = (lengths - 1).to(torch.float32)  # (N,), the place of the last step
        share, start = share.to(last.device), start.to(last.device)
        first = start * (1 - share) * last
        places = torch.arange(steps, device=last.device).to(torch.float32)
        wanted = torch.minimum(first.unsqueeze(1) + places * share.unsqueeze(1), last.unsqueeze(1))  # (N, T)
        low = wanted.floor()
        high = torch.minimum(low + 1, last.unsqueeze(1))
        between = (wanted - low).unsqueeze(2)
        below, above = (sequence.gather(1, place.long().unsqueeze(2).expand(-1, -1, channels)) for place in (low, high))
        return below * (1 - between) + above * between
