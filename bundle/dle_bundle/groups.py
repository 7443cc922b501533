"""Rows as the graph's inputs: one array for each kind of input (a group) instead of one for each column.

One tensor per group is faster than one per column at every batch size. Text is kept untokenised beside its tokens,
since drift monitoring needs both.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

MISSING_TIME = np.iinfo(np.int64).min
"""The value of a missing date-time in the `datetime` group."""

PADDING = 0
"""The token that pads rows of the `tokens` group."""

_TABLE_ROWS = 8_192
_LEAST_ROWS, _MOST_ROWS, _CELLS_AT_ONCE = 8, 1_024, 1 << 18
_TEXT_CELLS = 256
"""Assumed number of tokens of a text that is not tokenised yet."""


@dataclass(frozen=True, slots=True)
class Groups:
    """N rows, with the inputs of each group in schema order; a group without inputs is None or has width 0.

    `numeric` float64 (N, F), NaN = missing; booleans are 0 and 1 here.
    `categorical` object array of str (N, C), `""` = missing.
    `datetime` int64 (N, D), UTC epoch seconds, `MISSING_TIME` = missing.
    `image` uint8 (N, images · channels, H, W), the images of a row stacked; a missing image is black. An object that
    has a shape, supports an array's indexing and becomes an array by `np.asarray` also works, see `ImageFiles`.
    `sequence` float64 (N, T, channels), NaN = missing or padding; the channels of all series of a row side by side.
    `lengths` int64 (N,), the number of steps of each row's longest series, at least 1.
    `known` float64 (N, horizon, channels), NaN = missing: what is known of the steps that a forecast predicts.
    `text` object array of str (N, X), `""` = missing.
    `tokens` int64 (N, L), the tokenised `text`: the tokens of each column and a separator after each, then `PADDING`.
    """

    numeric: npt.NDArray[np.float64]
    categorical: npt.NDArray[np.object_]
    datetime: npt.NDArray[np.int64]
    image: Any = None
    sequence: npt.NDArray[np.float64] | None = None
    lengths: npt.NDArray[np.int64] | None = None
    text: npt.NDArray[np.object_] | None = None
    tokens: npt.NDArray[np.int64] | None = None
    known: npt.NDArray[np.float64] | None = None

    def __len__(self) -> int:
        return len(self.numeric)

    def take(self, rows: npt.NDArray[Any] | slice) -> "Groups":
        """The rows at these positions (or of this mask or slice)."""
        found: dict[str, Any] = {name: x if x is None else x[rows] for name, x in self._arrays().items()}
        return Groups(**found)

    def with_tokens(self, tokens: npt.NDArray[np.int64]) -> "Groups":
        """The same rows with these tokens."""
        return replace(self, tokens=tokens)

    def trimmed(self) -> "Groups":
        """The same rows without the steps and tokens that are padding in every row."""
        sequence, tokens = self.sequence, self.tokens
        if sequence is not None and self.lengths is not None:
            sequence = sequence[:, : int(self.lengths.max(initial=1))]
        if tokens is not None:
            used = np.flatnonzero((tokens != PADDING).any(axis=0))
            tokens = tokens[:, : int(used[-1]) + 1 if len(used) else 1]
        return replace(self, sequence=sequence, tokens=tokens)

    def feeds(self) -> dict[str, npt.NDArray[Any]]:
        """The inputs of the graph: the groups that have columns, by name; text must be tokenised."""
        present = {name: array for name, array in self._arrays().items() if array is not None and name != "text"}
        return {name: np.asarray(array) for name, array in present.items() if array.ndim == 1 or array.shape[1]}

    def rows_at_once(self) -> int:
        """How many of these rows a network should predict at once, so that its activations fit into memory."""
        wide = [array for array in (self.image, self.sequence, self.known, self.tokens) if array is not None]
        texts = 0 if self.text is None or self.tokens is not None else _TEXT_CELLS * self.text.shape[1]
        return rows_at_once(texts + sum(int(np.prod(array.shape[1:])) for array in wide))

    def _arrays(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in GROUPS}


GROUPS = ("numeric", "categorical", "datetime", "image", "sequence", "lengths", "known", "text", "tokens")
"""Every group, in the order of the graph's inputs."""


def rows_at_once(cells: int) -> int:
    """How many rows with this many `cells` (pixels, steps × channels, tokens) a network should predict at once."""
    return max(_LEAST_ROWS, min(_MOST_ROWS, _CELLS_AT_ONCE // cells)) if cells else _TABLE_ROWS


def empty(rows: int) -> Groups:
    """`rows` rows without columns."""
    return Groups(
        np.empty((rows, 0), dtype=np.float64), np.empty((rows, 0), dtype=object), np.empty((rows, 0), dtype=np.int64)
    )


def concatenate(parts: Sequence[Groups]) -> Groups:
    """Join parts with the same schema, at least one, in order; sequences and tokens are padded to the same length.

    Several parts with images give an array of pixels, even if the images were files.
    """
    if len(parts) == 1:
        return parts[0]
    joined: dict[str, Any] = {}
    for name in GROUPS:
        arrays = [getattr(part, name) for part in parts]
        if any(array is None for array in arrays):
            joined[name] = None
        elif name in ("sequence", "tokens"):
            joined[name] = _padded(arrays, np.nan if name == "sequence" else PADDING)
        else:
            joined[name] = np.concatenate(arrays)
    return Groups(**joined)


def _padded(arrays: Sequence[npt.NDArray[Any]], filler: float) -> npt.NDArray[Any]:
    """Concatenate arrays (N, T, …), padded with `filler` to the longest T."""
    longest = max(array.shape[1] for array in arrays)
    rows = sum(len(array) for array in arrays)
    whole = np.full((rows, longest, *arrays[0].shape[2:]), filler, dtype=arrays[0].dtype)
    start = 0
    for array in arrays:
        whole[start : start + len(array), : array.shape[1]] = array
        start += len(array)
    return whole
