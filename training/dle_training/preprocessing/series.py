"""Series: channels on a common scale, and an indicator for each channel that had missing values in training."""

import msgspec
import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from dle_training.preprocessing._base import Step, bounded, factors


class SeriesFit(msgspec.Struct, frozen=True, kw_only=True):
    """One entry per channel: (x − mean) · factor. A factor of 0 marks a channel that was constant in training.

    `indicators` are the channels that had missing values within a series. `steps` is the length of the longest
    training series.
    """

    means: tuple[float, ...]
    factors: tuple[float, ...]
    indicators: tuple[int, ...]
    steps: int


def fit(sequence: npt.NDArray[np.float32], lengths: npt.NDArray[np.int64]) -> SeriesFit:
    """Fit on the training part's `sequence` (N, T, C), NaN = missing, of `lengths` (N,) steps."""
    within = np.arange(sequence.shape[1]) < lengths[:, None]  # (N, T)
    means, scales, indicators = list[float](), list[float](), list[int]()
    for channel in range(sequence.shape[2]):
        values = sequence[..., channel][within]
        known = values[~np.isnan(values)]
        if len(known) < len(values):
            indicators.append(channel)
        if not len(known):
            known = np.zeros(1, dtype=np.float32)
        means.append(float(known.mean(dtype=np.float64)))
        spread = known.std(keepdims=True, dtype=np.float64)
        scales += factors(known.min(keepdims=True), known.max(keepdims=True), spread).tolist()
    steps = int(lengths.max(initial=1))
    return SeriesFit(means=tuple(means), factors=tuple(scales), indicators=tuple(indicators), steps=steps)


class StandardSeries(Step):
    """Standardises channels, and appends an indicator for each channel that had missing steps in training.

    Shape: sequence (N, T, C) float32, NaN = missing, and lengths (N,) int64 → (N, T, width) float32, within ±14.2.
    Missing values and steps beyond the end become 0.

    Example:
        >>> sequence = np.array([[[1.0], [3.0]]], np.float32)
        >>> series = StandardSeries(fit(sequence, np.array([2])))
        >>> series(torch.tensor([[[3.0], [1.0]]]), torch.tensor([1])).tolist()
        [[[1.0], [0.0]]]
    """

    means: Tensor
    factors: Tensor
    indicators: Tensor

    def __init__(self, fitted: SeriesFit) -> None:
        super().__init__()
        self.width = len(fitted.means) + len(fitted.indicators)
        self.register_buffer("means", torch.tensor(fitted.means, dtype=torch.float32), persistent=False)
        self.register_buffer("factors", torch.tensor(fitted.factors, dtype=torch.float32), persistent=False)
        self.register_buffer("indicators", torch.tensor(fitted.indicators, dtype=torch.int64), persistent=False)

    def forward(self, sequence: Tensor, lengths: Tensor) -> Tensor:  # type: ignore[override]
        missing = torch.isnan(sequence)
        filled = torch.where(missing, self.means, sequence)
        # the difference may overflow, and infinity times a factor of 0 would be NaN
        largest = torch.finfo(torch.float32).max
        scaled = bounded(torch.clamp(filled - self.means, -largest, largest) * self.factors)
        if len(self.indicators):
            seen = torch.index_select(missing, 2, self.indicators).to(scaled.dtype)
            scaled = torch.cat([scaled, seen], dim=2)
        steps = torch.arange(sequence.shape[1], device=sequence.device)
        within = steps.unsqueeze(0) < lengths.unsqueeze(1)  # (N, T)
        return torch.where(within.unsqueeze(2), scaled, torch.zeros_like(scaled))
