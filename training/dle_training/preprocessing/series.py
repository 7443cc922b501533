"""Series: channels on a common scale, and an indicator for each channel that had missing values in training.

As numbers are, they are centred and scaled in float64 and become float32 only then.

With window scaling, each window of a forecast is scaled by the mean and spread of its own steps, as in reversible
instance normalisation (Kim et al., 2022): one network then forecasts series of very different levels. The level and the
spread remain inputs. They may also be those of the whole series in training.
"""

import msgspec
import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from dle_bundle.series import moments
from dle_training.preprocessing._base import LINEAR, Step, bounded, factors


class SeriesFit(msgspec.Struct, frozen=True, kw_only=True):
    """One entry per channel: (x − mean) · factor. A factor of 0 marks a channel that was constant in training.

    `indicators` are the channels that had missing values within a series. `steps` is the length of the longest
    training series.
    """

    means: tuple[float, ...]
    factors: tuple[float, ...]
    indicators: tuple[int, ...]
    steps: int
    windows: "WindowFit | None" = None


class WindowFit(msgspec.Struct, frozen=True, kw_only=True):
    """How windows are scaled by themselves. `target` is the channel of the target; the others have one entry each.

    `floors` are the least spreads, so that constant and mostly-zero windows stay finite. The level and log spread are
    standardised: `levels` and `log_spreads` hold pairs of their training mean and standard deviation. `series` replaces
    the level and spread of windows of known series.
    """

    target: int
    floors: tuple[float, ...]
    levels: tuple[tuple[float, float], ...]
    log_spreads: tuple[tuple[float, float], ...]
    series: "SeriesScales | None" = None


class SeriesScales(msgspec.Struct, frozen=True, kw_only=True):
    """The means and spreads of each series, by the code of its id in the categorical column `column`, then by channel.

    A spread of 0 means that they are not known: a window of such a series is scaled by its own steps.
    """

    column: int
    means: tuple[tuple[float, ...], ...]
    spreads: tuple[tuple[float, ...], ...]


_LOW, _PART_OF_LOW = 0.1, 0.5
"""The floor is this part of this quantile of the spreads of the training windows that are not constant."""
_NOISE = 1e-12
"""A spread below this share of the level is rounding."""
_CANCELLED = 1e-12
"""A level below this share of the spread is rounding."""
_LARGEST = torch.finfo(torch.float32).max


def pooled_moments(
    sequence: npt.NDArray[np.floating], places: npt.NDArray[np.int64], count: int, floors: npt.NDArray[np.float64]
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Means and spreads (count, C) over the known steps of all windows (N, T, C) with the same of the `places` (N,).

    Both are NaN where no step is known. A spread that is rounding is the one of `floors` (C,).
    """
    means, spreads = np.full((2, count, sequence.shape[2]), np.nan)
    for channel in range(sequence.shape[2]):
        values = sequence[..., channel]
        known = ~np.isnan(values)
        counts = np.bincount(places, known.sum(axis=1), count)
        some = np.maximum(counts, 1)
        mean = np.bincount(places, np.where(known, values, 0).sum(axis=1), count) / some
        squares = np.where(known, (values - mean[places, None]) ** 2, 0).sum(axis=1)
        spread = np.sqrt(np.bincount(places, squares, count) / some)
        spread = np.where(spread > _NOISE * np.abs(mean), spread, floors[channel])
        means[:, channel] = np.where(counts > 0, mean, np.nan)
        spreads[:, channel] = np.where(counts > 0, spread, np.nan)
    return means, spreads


def fit_windows(sequence: npt.NDArray[np.floating], target: int) -> WindowFit:
    """Fit on the training part's windows (N, T, C), NaN = missing; `target` is the channel of the target."""
    floors, levels, log_spreads = list[float](), list[tuple[float, float]](), list[tuple[float, float]]()
    for channel in range(sequence.shape[2]):
        values = sequence[..., channel : channel + 1]
        means, spreads = (each[:, 0] for each in moments(values))
        real = spreads > _NOISE * np.abs(means)
        seen = means[~np.isnan(means)]
        whole = float(values[~np.isnan(values)].std()) if len(seen) else 0.0
        floors.append(
            _PART_OF_LOW * float(np.quantile(spreads[real], _LOW, method="lower")) if real.any() else whole or 1.0
        )
        levels.append((float(seen.mean()), float(seen.std()) or 1.0) if len(seen) else (0.0, 1.0))
        logs = np.log(np.fmax(spreads, floors[-1]))  # a window without values has the least spread
        log_spreads.append((float(logs.mean()), float(logs.std()) or 1.0))
    return WindowFit(target=target, floors=tuple(floors), levels=tuple(levels), log_spreads=tuple(log_spreads))


def fit_series(
    sequence: npt.NDArray[np.float64], codes: npt.NDArray[np.int64], column: int, count: int, windows: WindowFit
) -> SeriesScales:
    """Fit on the training part's windows (N, T, C). `codes` (N,) name their series, from 0 to `count` - 1."""
    means, spreads = pooled_moments(sequence, codes, count, np.array(windows.floors))
    known = ~np.isnan(means)
    return SeriesScales(
        column=column,
        means=tuple(map(tuple, np.where(known, means, 0.0).tolist())),
        spreads=tuple(map(tuple, np.where(known, spreads, 0.0).tolist())),
    )


def fit(sequence: npt.NDArray[np.float64], lengths: npt.NDArray[np.int64]) -> SeriesFit:
    """Fit on the training part's `sequence` (N, T, C), NaN = missing, of `lengths` (N,) steps."""
    within = np.arange(sequence.shape[1]) < lengths[:, None]  # (N, T)
    means, scales, indicators = list[float](), list[float](), list[int]()
    for channel in range(sequence.shape[2]):
        values = sequence[..., channel][within]
        known = values[~np.isnan(values)]
        if len(known) < len(values):
            indicators.append(channel)
        if not len(known):
            known = np.zeros(1)
        means.append(float(known.mean()))
        spread = known.std(keepdims=True)
        scales += factors(known.min(keepdims=True), known.max(keepdims=True), spread).tolist()
    steps = int(lengths.max(initial=1))
    return SeriesFit(means=tuple(means), factors=tuple(scales), indicators=tuple(indicators), steps=steps)


class WindowSeries(Step):
    """Scales each window by the mean and spread of its known steps, and appends level, log spread and indicators.

    Shape: sequence (N, T, C) float64, NaN = missing, and lengths (N,) int64 → (N, T, width) float32. `scale` has the
    mean and spread (N, 2) float64 of the target's channel, by which the answer is scaled back. All known steps
    of a window without values count as the training mean. `codes` (N, columns) int64 name the series, if windows are
    scaled by theirs.

    Example:
        >>> windows = np.array([[[1.0], [3.0]], [[100.0], [300.0]]])
        >>> lengths = np.array([2, 2])
        >>> fitted = fit(windows, lengths)
        >>> series = WindowSeries(fitted, fit_windows(windows, target=0))
        >>> series(torch.from_numpy(windows), torch.from_numpy(lengths))[..., 0].tolist()
        [[-1.0, 1.0], [-1.0, 1.0]]
        >>> series.scale(torch.from_numpy(windows), torch.from_numpy(lengths)).tolist()
        [[2.0, 1.0], [200.0, 100.0]]
    """

    means: Tensor
    floors: Tensor
    levels: Tensor
    log_spreads: Tensor
    indicators: Tensor
    series_means: Tensor
    series_spreads: Tensor

    def __init__(self, fitted: SeriesFit, windows: WindowFit) -> None:
        super().__init__()
        self.width = 3 * len(fitted.means) + len(fitted.indicators)
        self.target = windows.target
        self.column = None if windows.series is None else windows.series.column
        doubles = {
            "means": fitted.means,
            "floors": windows.floors,
            "levels": windows.levels,
            "log_spreads": windows.log_spreads,
            "series_means": () if windows.series is None else windows.series.means,
            "series_spreads": () if windows.series is None else windows.series.spreads,
        }
        for name, numbers in doubles.items():
            self.register_buffer(name, torch.tensor(numbers, dtype=torch.float64), persistent=False)
        self.register_buffer("indicators", torch.tensor(fitted.indicators, dtype=torch.int64), persistent=False)

    def forward(self, sequence: Tensor, lengths: Tensor, codes: Tensor | None = None) -> Tensor:  # type: ignore[override]
        level, spread, known = self._moments(sequence, lengths, codes)
        apart = (_limited(sequence) - level.unsqueeze(1)) / spread.unsqueeze(1)
        scaled = bounded(torch.where(known, apart, torch.zeros_like(apart)).to(torch.float32))
        # where huge values cancel, only rounding is left of their mean
        real = torch.where(level.abs() > _CANCELLED * spread, level, torch.zeros_like(level))
        levels = ((real - self.levels[:, 0]) / self.levels[:, 1]).clamp(-LINEAR, LINEAR).to(torch.float32)
        logs = torch.log(spread.to(torch.float32)) - self.log_spreads[:, 0].to(torch.float32)
        logs = (logs / self.log_spreads[:, 1].to(torch.float32)).clamp(-LINEAR, LINEAR)
        constant = torch.cat([levels, logs], dim=1).unsqueeze(1).expand(-1, sequence.shape[1], -1)
        seen = torch.index_select(torch.isnan(sequence), 2, self.indicators).to(scaled.dtype)
        whole = torch.cat([scaled, constant, seen], dim=2)
        return torch.where(_within(sequence, lengths).unsqueeze(2), whole, torch.zeros_like(whole))

    def scale(self, sequence: Tensor, lengths: Tensor, codes: Tensor | None = None) -> Tensor:
        """The mean and spread (N, 2) float64 of the target's channel."""
        level, spread, _ = self._moments(sequence, lengths, codes)
        return torch.stack([level[:, self.target], spread[:, self.target]], dim=1)

    def _moments(self, sequence: Tensor, lengths: Tensor, codes: Tensor | None) -> tuple[Tensor, Tensor, Tensor]:
        """The means and spreads (N, C) float64, and the known steps (N, T, C)."""
        known = ~torch.isnan(sequence) & _within(sequence, lengths).unsqueeze(2)
        values = _limited(sequence)
        zeros = torch.zeros_like(values)
        counts = known.to(torch.float64).sum(dim=1)
        some = counts.clamp(min=1)
        level = torch.where(counts > 0, torch.where(known, values, zeros).sum(dim=1) / some, self.means)
        squares = torch.where(known, (values - level.unsqueeze(1)) * (values - level.unsqueeze(1)), zeros)
        spread = torch.maximum(torch.sqrt(squares.sum(dim=1) / some), self.floors)
        if self.column is not None and codes is not None:
            of_series = torch.index_select(self.series_spreads, 0, codes[:, self.column])  # (N, C)
            is_known = of_series > 0
            level = torch.where(is_known, torch.index_select(self.series_means, 0, codes[:, self.column]), level)
            spread = torch.where(is_known, of_series, spread)
        return level, spread, known


def _limited(sequence: Tensor) -> Tensor:
    """The values, cut at the range of float32, so that no square of them overflows; missing ones become 0."""
    filled = torch.where(torch.isnan(sequence), torch.zeros_like(sequence), sequence)
    return torch.clamp(filled, -_LARGEST, _LARGEST)


def _within(sequence: Tensor, lengths: Tensor) -> Tensor:
    """The steps (N, T) before each row's end."""
    return torch.arange(sequence.shape[1], device=sequence.device).unsqueeze(0) < lengths.unsqueeze(1)


class StandardSeries(Step):
    """Standardises channels, and appends an indicator for each channel that had missing steps in training.

    Shape: sequence (N, T, C) float64, NaN = missing, and lengths (N,) int64 → (N, T, width) float32, within ±14.2.
    Missing values and steps beyond the end become 0.

    Example:
        >>> sequence = np.array([[[1.0], [3.0]]])
        >>> series = StandardSeries(fit(sequence, np.array([2])))
        >>> series(torch.tensor([[[3.0], [1.0]]], dtype=torch.float64), torch.tensor([1])).tolist()
        [[[1.0], [0.0]]]
    """

    means: Tensor
    factors: Tensor
    indicators: Tensor

    def __init__(self, fitted: SeriesFit) -> None:
        super().__init__()
        self.width = len(fitted.means) + len(fitted.indicators)
        self.register_buffer("means", torch.tensor(fitted.means, dtype=torch.float64), persistent=False)
        self.register_buffer("factors", torch.tensor(fitted.factors, dtype=torch.float64), persistent=False)
        self.register_buffer("indicators", torch.tensor(fitted.indicators, dtype=torch.int64), persistent=False)

    def forward(self, sequence: Tensor, lengths: Tensor) -> Tensor:  # type: ignore[override]
        scaled = self.scaled(sequence)
        return torch.where(_within(sequence, lengths).unsqueeze(2), scaled, torch.zeros_like(scaled))

    def scaled(self, sequence: Tensor) -> Tensor:
        """As `forward`, for series that all have T steps."""
        missing = torch.isnan(sequence)
        filled = torch.where(missing, self.means, _limited(sequence))
        scaled = bounded((filled - self.means) * self.factors)
        if len(self.indicators):
            seen = torch.index_select(missing, 2, self.indicators).to(scaled.dtype)
            scaled = torch.cat([scaled, seen], dim=2)
        return scaled
