"""Many image files at once: checked and decoded by worker processes, into memory where they fit, else batch by batch."""

import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from dle_bundle import images
from dle_bundle.images import BadImage, ImageFiles
from dle_bundle.schema import ImageShape

_SURVEYED = 2_000
_FEW = 256
_CHUNK = 128
_AHEAD = 4


def survey(places: Sequence[str | bytes]) -> tuple[bool, tuple[int, int] | None, int]:
    """Whether any image is in colour, the height and width that all have if they have one, and the median shorter side.

    Of very many a sample, evenly spaced, by the heads of the files alone; unreadable ones say nothing.
    """
    colour, sizes = False, []
    for place in places[:: -(-len(places) // _SURVEYED) or 1]:
        try:
            content = place if isinstance(place, bytes) else _head(place)
            in_colour, height, width = images.measure(content)
        except (BadImage, OSError):
            continue
        colour |= in_colour
        sizes.append((height, width))
    common = sizes[0] if sizes and len(set(sizes)) == 1 else None
    return colour, common, int(np.median([min(size) for size in sizes])) if sizes else 0


def _head(place: str) -> bytes:
    with open(place, "rb") as file:  # noqa: PTH123
        return file.read()


def read_all(
    places: Sequence[str | bytes], shape: ImageShape, *, memory_bytes: int
) -> tuple[Any, dict[int, str]]:
    """The images of all places: an array (N, channels, H, W) where it fits in `memory_bytes`, else ImageFiles.

    The second is why each bad one, by its index, cannot be read; these are black. Empty places are black as well.
    """
    fits = len(places) * shape.channels * shape.height * shape.width <= memory_bytes
    whole = np.zeros((len(places), shape.channels, shape.height, shape.width), dtype=np.uint8) if fits else None
    reasons: dict[int, str] = {}
    starts = range(0, len(places), _CHUNK)
    chunks = [(places[start : start + _CHUNK], shape, fits) for start in starts]
    for start, (pixels, wrong) in zip(starts, _mapped(chunks, len(places)), strict=True):
        if whole is not None:
            whole[start : start + len(pixels)] = pixels
        reasons |= {start + index: reason for index, reason in wrong.items()}
    if whole is not None:
        return whole, reasons
    usable = [b"" if index in reasons else place for index, place in enumerate(places)]
    return ImageFiles(usable, shape), reasons


def _mapped(chunks: list[Any], count: int) -> Iterator[tuple[npt.NDArray[np.uint8], dict[int, str]]]:
    workers = os.cpu_count() or 1
    if count <= _FEW or workers == 1:
        yield from map(_decode_chunk, chunks)
        return
    with ProcessPoolExecutor(workers, mp_context=get_context("forkserver")) as pool:
        try:
            yield from pool.map(_decode_chunk, chunks)
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise


def _decode_chunk(task: tuple[Sequence[str | bytes], ImageShape, bool]) -> tuple[npt.NDArray[np.uint8], dict[int, str]]:
    places, shape, kept = task
    whole = np.zeros((len(places) if kept else 0, shape.channels, shape.height, shape.width), dtype=np.uint8)
    reasons: dict[int, str] = {}
    for index, place in enumerate(places):
        if not place:
            continue
        try:
            pixels = images.read(place, shape)
        except BadImage as error:
            reasons[index] = str(error)
        else:
            if kept:
                whole[index] = pixels
    return whole, reasons


class _Batches(Dataset[Tensor]):
    """Items are batches: the images at the positions of each."""

    def __init__(self, files: ImageFiles) -> None:
        self._files = files

    def __getitem__(self, rows: Tensor) -> Tensor:
        return torch.from_numpy(np.asarray(self._files[rows.numpy()]))


class Stream:
    """Decodes batches ahead of need in worker processes, in exactly the order that they are asked for."""

    def __init__(self, files: ImageFiles) -> None:
        self._data = _Batches(files)

    def __enter__(self) -> "Stream":
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def batches(self, rows: Sequence[Tensor]) -> Iterator[Tensor]:
        """uint8 (len(rows[i]), channels, H, W) for each of `rows` in turn."""
        workers = min(os.cpu_count() or 1, len(rows))
        if workers <= 1:
            yield from (self._data[one] for one in rows)
            return
        loader: DataLoader[Tensor] = DataLoader(
            self._data,
            batch_size=None,
            sampler=rows,  # type: ignore[arg-type]
            num_workers=workers,
            prefetch_factor=_AHEAD,
            multiprocessing_context="forkserver",
        )
        yield from loader
