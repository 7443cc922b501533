"""Prepared rows, cut into batches for the loop: tensors in memory, and images from a stream that gives each batch.

Rows of a table are shuffled once per epoch and then sliced, which costs less than gathering each batch. Images are
gathered one batch at a time: a shuffled copy would double their memory. Rows of unequal length (tokens, steps) share a
batch with rows of similar length, and each batch is cut to its longest row: otherwise most work would be on padding.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from dle_bundle.groups import PADDING, Groups, rows_at_once
from dle_training.preprocessing.pipeline import Preprocessing
from dle_training.preprocessing.shape import Inputs

_POOL_BATCHES = 50
"""Rows are sorted by length in pools of this many batches: enough for even lengths, few enough to stay random."""
_IMAGE = "image"
_WIDE = ("image", "sequence", "known", "tokens")
"""Inputs whose rows are large, unlike columns."""


class ImageStream(Protocol):
    """Gives images by position, one batch at a time. `cells` are the pixels of a row."""

    cells: int

    def batches(self, rows: Sequence[Tensor]) -> Iterator[Tensor]:
        """Yield uint8 (len(rows[i]), channels, H, W) for each of `rows`, in order."""
        raise NotImplementedError


@dataclass(frozen=True, slots=True)
class PreparedRows:
    """N rows as tensors: the inputs of the network (see `InputShape`) and encoded targets (N,) or (N, horizon).

    Images that are not among the inputs come from `stream`, where the rows have the positions `places` (N,). `spans`
    (N,), on the CPU, are the steps or tokens of each row; None if all rows have as many as the tensors are wide.
    """

    inputs: Inputs
    targets: Tensor
    stream: ImageStream | None = None
    places: Tensor | None = None
    spans: Tensor | None = None

    def __len__(self) -> int:
        return len(self.targets)

    @property
    def cells(self) -> int:
        """Numbers, tokens and pixels of a row beside its columns; the memory of an evaluation grows with them."""
        wide = sum(self.inputs[name][0].numel() for name in _WIDE if name in self.inputs)
        return wide + (0 if self.stream is None else self.stream.cells)

    @property
    def nbytes(self) -> int:
        """Bytes of all tensors in memory."""
        return sum(tensor.nbytes for tensor in (self.targets, *self.inputs.values()))

    def to(self, device: torch.device) -> "PreparedRows":
        """The same rows on `device`."""
        inputs = {name: tensor.to(device) for name, tensor in self.inputs.items()}
        return replace(self, inputs=inputs, targets=self.targets.to(device))

    def draw_order(self, generator: torch.Generator, size: int) -> Tensor:
        """A random order (N,) for batches of `size` rows. Rows of similar length stand together."""
        order = torch.randperm(len(self), generator=generator)
        if self.spans is None or len(self) <= size:
            return order
        pools = [order[start : start + size * _POOL_BATCHES] for start in range(0, len(self), size * _POOL_BATCHES)]
        whole = torch.cat([pool[self.spans[pool].argsort(stable=True)] for pool in pools])
        full = len(whole) // size * size
        batches = whole[:full].view(-1, size)
        shuffled = batches[torch.randperm(len(batches), generator=generator)]
        return torch.cat([shuffled.reshape(-1), whole[full:]])

    def batches(self, slices: Sequence[slice], order: Tensor | None = None) -> Iterator["PreparedRows"]:
        """Yield the rows of each slice, in order. With `order` (N,), on the CPU, the rows are ordered first."""
        device = self.targets.device
        images = self.inputs.get(_IMAGE)
        shuffled = self if order is None else self._take(order.to(device), images=False)
        stream = None
        if self.stream is not None:
            assert self.places is not None
            places = self.places if order is None else self.places[order]
            stream = self.stream.batches([places[rows] for rows in slices])
        for rows in slices:
            batch = shuffled.slice(rows)
            if stream is not None:
                batch.inputs[_IMAGE] = next(stream).to(device)
            elif images is not None and order is not None:
                batch.inputs[_IMAGE] = images.index_select(0, order[rows].to(device))
            yield batch

    def in_turn(self) -> Iterator["PreparedRows"]:
        """Yield all rows in order, in batches for evaluation."""
        step = rows_at_once(self.cells)
        yield from self.batches([slice(start, start + step) for start in range(0, max(len(self), 1), step)])

    def take(self, order: Tensor) -> "PreparedRows":
        """Gather the rows at the indices `order` (M,), without streamed images."""
        return self._take(order, images=True)

    def slice(self, rows: slice) -> "PreparedRows":
        """Consecutive rows as views, cut to the longest of them, without streamed images."""
        inputs = {name: tensor[rows] for name, tensor in self.inputs.items()}
        spans = None if self.spans is None else self.spans[rows]
        if spans is not None and len(spans):
            longest = int(spans.max())
            inputs |= {name: inputs[name][:, :longest] for name in ("sequence", "tokens") if name in inputs}
        return PreparedRows(inputs, self.targets[rows], spans=spans)

    def _take(self, order: Tensor, *, images: bool) -> "PreparedRows":
        inputs = {name: x.index_select(0, order) for name, x in self.inputs.items() if images or name != _IMAGE}
        spans = None if self.spans is None else self.spans[order.cpu()]
        return PreparedRows(inputs, self.targets.index_select(0, order), spans=spans)


def make(
    preprocessing: Preprocessing,
    rows: Groups,
    encode: Callable[[Inputs], Tensor],
    stream: ImageStream | None,
    places: npt.NDArray[np.int64],
) -> PreparedRows:
    """Prepare `rows`. If there is a `stream`, it gives the images at `places` (N,).

    `encode` returns the targets of the rows, given their inputs.
    """
    inputs = preprocessing.prepare(rows)
    if rows.image is not None and stream is None:
        inputs[_IMAGE] = torch.from_numpy(np.ascontiguousarray(rows.image))
    streamed = torch.from_numpy(places) if stream is not None else None
    return PreparedRows(inputs, encode(inputs), stream, streamed, spans(inputs))


def together(one: PreparedRows, other: PreparedRows) -> PreparedRows:
    """The rows of `one`, then the rows of `other`."""
    inputs = {name: _joined(tensor, other.inputs[name]) for name, tensor in one.inputs.items()}
    places = None
    if one.places is not None:
        assert other.places is not None
        places = torch.cat([one.places, other.places])
    return PreparedRows(inputs, torch.cat([one.targets, other.targets]), one.stream, places, spans(inputs))


def _joined(one: Tensor, other: Tensor) -> Tensor:
    """Concatenate rows. Tokens and steps are padded to the longer of both."""
    if one.dim() < 2 or one.shape[1:] == other.shape[1:]:
        return torch.cat([one, other])
    width = max(one.shape[1], other.shape[1])
    padded = [torch.zeros(len(rows), width, *rows.shape[2:], dtype=rows.dtype) for rows in (one, other)]
    for wide, rows in zip(padded, (one, other), strict=True):
        wide[:, : rows.shape[1]] = rows
    return torch.cat(padded)


def spans(inputs: Inputs) -> Tensor | None:
    """The steps or tokens of each row (N,); None if all rows have as many as the tensors are wide."""
    counted = [inputs["lengths"]] if "lengths" in inputs else []
    if "tokens" in inputs:
        places = torch.arange(1, inputs["tokens"].shape[1] + 1)
        counted.append(((inputs["tokens"].cpu() != PADDING) * places).amax(dim=1))
    if not counted:
        return None
    width = max(inputs[name].shape[1] for name in ("sequence", "tokens") if name in inputs)
    longest = torch.stack([lengths.cpu() for lengths in counted]).amax(dim=0)
    return None if bool((longest == width).all()) else longest
