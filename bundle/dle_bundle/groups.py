"""Rows as the graph takes them: one array a kind of input, not one a column.

A grouped input costs one tensor a kind; one tensor a column is dearer at every batch size. Text stays as it was written
until it is about to be tokenised, so that what counts and what answers read the same rows.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

MISSING_TIME = np.iinfo(np.int64).min
"""A missing date-time, in the `datetime` group."""

FIRST_TIME, LAST_TIME = -62_135_596_800, 253_402_300_799
"""The years 1 to 9999, which a calendar holds; far within what int64 and float64 count."""

PADDING = 0
"""The token that fills rows of the `tokens` group."""

_TABLE_ROWS = 8_192
_LEAST_ROWS, _MOST_ROWS, _CELLS_AT_ONCE = 8, 1_024, 1 << 18
_TEXT_CELLS = 256
"""What a text is taken for before it is tokens."""


@dataclass(frozen=True, slots=True)
class Groups:
    """N rows in schema order within each group; a group that the schema has no field of is None or of width 0.

    `numeric` float32 (N, F), NaN = missing; booleans are 0 and 1 here.
    `categorical` object array of str (N, C), `""` = missing.
    `datetime` int64 (N, D), UTC epoch seconds, `MISSING_TIME` = missing.
    `image` uint8 (N, images · channels, H, W), the images of a row one after another; a missing one is black. Any
    sequence of rows will do that has a shape, is indexed as an array is and becomes one by `np.asarray`.
    `sequence` float32 (N, T, channels), NaN = missing and beyond the end; the channels of all series side by side.
    `lengths` int64 (N,), the steps of each row's longest series, at least 1.
    `text` object array of str (N, X), `""` = missing.
    `tokens` int64 (N, L), made of `text` by the tokenizer: each column's tokens, a separator, then `PADDING`.
    """

    numeric: npt.NDArray[np.float32]
    categorical: npt.NDArray[np.object_]
    datetime: npt.NDArray[np.int64]
    image: Any = None
    sequence: npt.NDArray[np.float32] | None = None
    lengths: npt.NDArray[np.int64] | None = None
    text: npt.NDArray[np.object_] | None = None
    tokens: npt.NDArray[np.int64] | None = None

    def __len__(self) -> int:
        return len(self.numeric)

    def take(self, rows: npt.NDArray[Any] | slice) -> "Groups":
        """The rows at the positions, mask or slice given."""
        found: dict[str, Any] = {name: x if x is None else x[rows] for name, x in self._arrays().items()}
        return Groups(**found)

    def with_tokens(self, tokens: npt.NDArray[np.int64]) -> "Groups":
        """The same rows with their text tokenised."""
        return replace(self, tokens=tokens)

    def trimmed(self) -> "Groups":
        """The same rows without the steps and tokens that are beyond the end of all of them."""
        sequence, tokens = self.sequence, self.tokens
        if sequence is not None and self.lengths is not None:
            sequence = sequence[:, : int(self.lengths.max(initial=1))]
        if tokens is not None:
            used = np.flatnonzero((tokens != PADDING).any(axis=0))
            tokens = tokens[:, : int(used[-1]) + 1 if len(used) else 1]
        return replace(self, sequence=sequence, tokens=tokens)

    def feeds(self) -> dict[str, npt.NDArray[Any]]:
        """Inputs for the graph: the groups that have columns, by name; text must have been tokenised."""
        present = {name: array for name, array in self._arrays().items() if array is not None and name != "text"}
        return {name: np.asarray(array) for name, array in present.items() if array.ndim == 1 or array.shape[1]}

    def rows_at_once(self) -> int:
        """How many of these rows a network should answer in one go, for its activations to stay in the memory."""
        wide = [array for array in (self.image, self.sequence, self.tokens) if array is not None]
        texts = 0 if self.text is None or self.tokens is not None else _TEXT_CELLS * self.text.shape[1]
        return rows_at_once(texts + sum(int(np.prod(array.shape[1:])) for array in wide))

    def _arrays(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in GROUPS}


GROUPS = ("numeric", "categorical", "datetime", "image", "sequence", "lengths", "text", "tokens")
"""Every group, in the order of the graph's inputs."""


def rows_at_once(cells: int) -> int:
    """How many rows a network should answer at once that have so many `cells`: pixels, steps × channels, tokens."""
    return max(_LEAST_ROWS, min(_MOST_ROWS, _CELLS_AT_ONCE // cells)) if cells else _TABLE_ROWS


def empty(rows: int) -> Groups:
    """`rows` rows without any column."""
    return Groups(
        np.empty((rows, 0), dtype=np.float32), np.empty((rows, 0), dtype=object), np.empty((rows, 0), dtype=np.int64)
    )


def concatenate(parts: Sequence[Groups]) -> Groups:
    """All rows of all parts of one schema, in order; at least one part. Sequences and tokens are padded to one length.

    Of images, arrays come out.
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
    """Arrays (N, T, …) below one another, filled up to the longest T."""
    longest = max(array.shape[1] for array in arrays)
    rows = sum(len(array) for array in arrays)
    whole = np.full((rows, longest, *arrays[0].shape[2:]), filler, dtype=arrays[0].dtype)
    start = 0
    for array in arrays:
        whole[start : start + len(array), : array.shape[1]] = array
        start += len(array)
    return whole
