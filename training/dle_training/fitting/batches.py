"""Rows as the loop takes them: tensors in memory, cut into batches; images that do not fit come from a stream instead.

Rows of tables are shuffled once an epoch and sliced, which costs less than to gather each batch. Images are gathered a
batch at a time, for a shuffled copy of them would double what they take. Rows of unequal length (tokens, steps) are put
into batches with rows of about their own length, and each batch is cut to its longest row: otherwise most of the work
would be done on padding.
"""

from collections.abc import Iterator, Sequence
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
"""Batches' worth of rows that are sorted by length together: enough for even lengths, few enough to stay random."""
_IMAGE = "image"
_STREAMED_CELLS = 1 << 13
"""Of an image that is not in memory yet."""


class ImageStream(Protocol):
    """Decodes images by their position, a batch at a time, ahead of need."""

    def batches(self, rows: Sequence[Tensor]) -> Iterator[Tensor]:
        """uint8 (len(rows[i]), channels, H, W) for each of `rows` in turn."""
        raise NotImplementedError


@dataclass(frozen=True, slots=True)
class PreparedRows:
    """N rows of the data, prepared: the network's inputs (see `InputShape`) and encoded targets (N,) or (N, horizon).

    `stream` gives the images where they are not among the inputs, and `places` (N,) are the rows' positions in it.
    `spans` (N,), on the CPU, are the steps or tokens that each row has; None where all have as many.
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
        """Numbers, tokens and pixels of each row beside its columns: what the memory of an evaluation grows with."""
        wide = sum(self.inputs[name][0].numel() for name in ("image", "sequence", "tokens") if name in self.inputs)
        return wide + (0 if self.stream is None else _STREAMED_CELLS)

    @property
    def nbytes(self) -> int:
        """Of all that is in memory."""
        return sum(tensor.nbytes for tensor in (self.targets, *self.inputs.values()))

    def to(self, device: torch.device) -> "PreparedRows":
        """The same rows on `device`."""
        inputs = {name: tensor.to(device) for name, tensor in self.inputs.items()}
        return replace(self, inputs=inputs, targets=self.targets.to(device))

    def draw_order(self, generator: torch.Generator, size: int) -> Tensor:
        """A random order (N,) for batches of `size` rows, in which rows of about one length stand together."""
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
        """The rows of each slice in turn; with `order` (N,), on the CPU, of the rows in that order."""
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
        """All rows in order, as many at once as an evaluation takes."""
        step = rows_at_once(self.cells)
        yield from self.batches([slice(start, start + step) for start in range(0, max(len(self), 1), step)])

    def take(self, order: Tensor) -> "PreparedRows":
        """The rows at the indices `order` (M,), gathered; of streamed images none."""
        return self._take(order, images=True)

    def slice(self, rows: slice) -> "PreparedRows":
        """Consecutive rows, as views, cut to the longest of them; of streamed images none."""
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
    targets: Tensor,
    stream: ImageStream | None,
    places: npt.NDArray[np.int64],
) -> PreparedRows:
    """The part of the data set that these rows are, at `places` (N,) of it; images from `stream` where there is one."""
    inputs = preprocessing.prepare(rows)
    if rows.image is not None and stream is None:
        inputs[_IMAGE] = torch.from_numpy(np.ascontiguousarray(rows.image))
    streamed = torch.from_numpy(places) if stream is not None else None
    return PreparedRows(inputs, targets, stream, streamed, spans(inputs))


def together(one: PreparedRows, other: PreparedRows) -> PreparedRows:
    """The rows of both, those of `one` first."""
    inputs = {name: _joined(tensor, other.inputs[name]) for name, tensor in one.inputs.items()}
    places = None
    if one.places is not None:
        assert other.places is not None
        places = torch.cat([one.places, other.places])
    return PreparedRows(inputs, torch.cat([one.targets, other.targets]), one.stream, places, spans(inputs))


def _joined(one: Tensor, other: Tensor) -> Tensor:
    """Rows below each other; tokens and steps are padded to the longer of both."""
    if one.dim() < 2 or one.shape[1:] == other.shape[1:]:
        return torch.cat([one, other])
    width = max(one.shape[1], other.shape[1])
    padded = [torch.zeros(len(rows), width, *rows.shape[2:], dtype=rows.dtype) for rows in (one, other)]
    for wide, rows in zip(padded, (one, other), strict=True):
        wide[:, : rows.shape[1]] = rows
    return torch.cat(padded)


def spans(inputs: Inputs) -> Tensor | None:
    """How many steps or tokens each row has (N,); None where all have as many as the tensors are wide."""
    counted = [inputs["lengths"]] if "lengths" in inputs else []
    if "tokens" in inputs:
        places = torch.arange(1, inputs["tokens"].shape[1] + 1)
        counted.append(((inputs["tokens"].cpu() != PADDING) * places).amax(dim=1))
    if not counted:
        return None
    width = max(inputs[name].shape[1] for name in ("sequence", "tokens") if name in inputs)
    longest = torch.stack([lengths.cpu() for lengths in counted]).amax(dim=0)
    return None if bool((longest == width).all()) else longest
