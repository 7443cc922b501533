"""The inputs that preprocessing passes to a network, and their shapes."""

from dataclasses import dataclass

from torch import Tensor

Inputs = dict[str, Tensor]

WINDOW = "window"
"""The input (N, 2) float64 with the mean and spread of each window; no encoder reads it, but the objective."""


@dataclass(frozen=True, slots=True)
class Images:
    """The `image` input (N, columns · channels, height, width): uint8, or float32 on the same scale once augmented.

    `mean` and `std` are the training part's, per channel, of pixels in [0, 1].
    """

    columns: int
    channels: int
    height: int
    width: int
    mean: tuple[float, ...]
    std: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class Series:
    """The `sequence` input (N, T, channels) float32: standardised, 0 where missing and beyond the end.

    The `lengths` input (N,) int64 counts each row's steps, at least 1. `steps` is the longest of the training part. The
    last `indicators` channels are 1 where a value is missing, else 0. The `levels` channels before them hold the level
    and log spread of a window that is scaled by itself, the same at each step.
    """

    channels: int
    steps: int
    indicators: int = 0
    levels: int = 0


@dataclass(frozen=True, slots=True)
class Known:
    """The `known` input (N, steps, channels) float32: standardised, 0 where missing."""

    channels: int
    steps: int


@dataclass(frozen=True, slots=True)
class Tokens:
    """The `tokens` input (N, L) int64 of `vocabulary` tokens, 0 = padding; every row has at least one real token.

    `longest` is the most tokens that a row can have.
    """

    vocabulary: int
    longest: int


@dataclass(frozen=True, slots=True)
class Bins:
    """A number and its quantile bins in the `dense` input: its scaled value, and `count` columns from `start` on."""

    column: int
    start: int
    count: int

    @property
    def places(self) -> tuple[int, ...]:
        """All columns of the number."""
        return self.column, *range(self.start, self.start + self.count)


@dataclass(frozen=True, slots=True)
class InputShape:
    """The inputs that preprocessing passes to a network.

    `dense` is P, the width of the `dense` input (N, P) float32. Its first `numbers` columns are the scaled numbers, and
    its last `quantiles` columns their normal scores (see `preprocessing.quantiles`). `discrete` tells which of these
    numbers have few distinct values; it may be empty if weights are loaded next. `bins` tells where the quantile
    bins of numbers are (see `preprocessing.piecewise`). `cardinalities` has the number of codes of each column of the
    `codes` input (N, E) int64, with 0 = unseen and 1 = missing. `frequencies` counts, per column, how often each code
    occurs in the training part; it is empty if weights are loaded next, because they already contain its effect.
    `image`, `sequence`, `known` and `tokens` are None if the data has no such input.
    """

    dense: int = 0
    cardinalities: tuple[int, ...] = ()
    frequencies: tuple[tuple[int, ...], ...] = ()
    image: Images | None = None
    sequence: Series | None = None
    known: Known | None = None
    tokens: Tokens | None = None
    quantiles: int = 0
    discrete: tuple[bool, ...] = ()
    bins: tuple[Bins, ...] = ()
    numbers: int = 0
