"""Read many image files in parallel: their headers, all pixels, or a stream of batches.

Worker processes decode, since a single one could not keep up with a network. They import this module, so it imports
PyTorch only where it hands tensors over: PyTorch would take most of a worker's memory and of its time to start.
"""

import hashlib
import time
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import closing, contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

import numpy as np
import numpy.typing as npt

from dle_bundle.images import pixels as decoding
from dle_bundle.images.pixels import BadImage, ImageFiles, ImageSource, Pixels, Remark
from dle_bundle.schema import ImageShape
from dle_training.data.processes import ProcessPool, cores

if TYPE_CHECKING:
    from torch import Tensor

SURVEYED = 2_000
"""The number of files whose headers are read, evenly spaced over all files."""
_CHUNK = 32
"""The number of images that a worker reads at a time."""
_ALONE_SECONDS, _WORTH_SECONDS = 0.5, 1.0
"""This process works alone for `_ALONE_SECONDS`; workers then take over if the rest would exceed `_WORTH_SECONDS`."""

ImageProgress = Callable[[int, int], None]
"""A callback that receives the number of finished images and the number of all images."""
_progress: ContextVar[ImageProgress | None] = ContextVar("progress", default=None)


@contextmanager
def reporting_to(progress: ImageProgress | None) -> Iterator[None]:
    """Let `read_all` report to `progress` inside this block, so that its callers need not pass the callback on."""
    token = _progress.set(progress)
    try:
        yield
    finally:
        _progress.reset(token)


def survey(sources: Sequence[ImageSource]) -> list[tuple[bool, int, int]]:
    """Whether each of some images is in colour, its height and its width.

    The function reads the headers of at most `SURVEYED` files and skips unreadable files.
    """
    found: list[tuple[bool, int, int]] = []
    for source in sources[:: max(-(-len(sources) // SURVEYED), 1)]:
        try:
            found.append(decoding.measure(source))
        except BadImage:
            continue
    return found


@dataclass(frozen=True, slots=True)
class ReadImages:
    """N images (N, channels, H, W): an array, or `ImageFiles` if the array would be too large.

    `broken` gives the reason for each image that cannot be read, by its index; such an image is black. `remarks`
    have the indices of the images that each remark is about. `digests` has the SHA-256 of each file that was read, by
    its path.
    """

    images: Pixels | ImageFiles
    broken: dict[int, str]
    remarks: dict[Remark, list[int]]
    digests: dict[str, str]


def read_all(
    sources: Sequence[ImageSource],
    shape: ImageShape,
    *,
    memory_bytes: int,
    workers: int | None = None,
) -> ReadImages:
    """Read all images, once each: an array if that takes at most `memory_bytes`, else the files are only tried.

    `workers` None: one process for each core, if the work is worth starting them. `reporting_to` sets a callback for
    every chunk. Raises WorkError when a worker is killed.
    """
    size = shape.channels * shape.height * shape.width
    whole: Pixels | None = None
    if len(sources) * size <= memory_bytes:
        whole = np.zeros((len(sources), shape.channels, shape.height, shape.width), dtype=np.uint8)
    reasons: dict[int, str] = {}
    remarks: dict[Remark, list[int]] = {}
    digests: dict[str, str] = {}
    start, progress = 0, _progress.get()
    with closing(_chunks(sources, shape, keep=whole is not None, workers=workers)) as chunks:
        for chunk in chunks:
            stop = min(start + _CHUNK, len(sources))
            if whole is not None and chunk.pixels is not None:
                whole[start:stop] = chunk.pixels
            reasons |= {start + index: reason for index, reason in chunk.broken.items()}
            for index, remark in chunk.remarks:
                remarks.setdefault(remark, []).append(start + index)
            digests |= chunk.digests
            start = stop
            if progress is not None:
                progress(start, len(sources))
    if whole is not None:
        return ReadImages(whole, reasons, remarks, digests)
    files = [b"" if index in reasons else source for index, source in enumerate(sources)]
    return ReadImages(ImageFiles(files, shape), reasons, remarks, digests)


class Stream:
    """Images that do not fit the memory, decoded a batch at a time by workers that live until `close`.

    Batches keep the order of the requests and have the same pixels as `numpy.asarray(images)`. Workers decode some
    batches ahead. `workers` None: one for each core; on a single core this process decodes each batch on demand.

    Example:
        >>> import torch
        >>> black = ImageFiles([b"", b"", b"", b""], ImageShape(channels=3, height=64, width=48))
        >>> with Stream(black, workers=1) as stream:
        ...     for batch in stream.batches([torch.tensor([3, 1, 2]), torch.tensor([0])]):
        ...         print(batch.dtype, batch.shape)
        torch.uint8 torch.Size([3, 3, 64, 48])
        torch.uint8 torch.Size([1, 3, 64, 48])
    """

    def __init__(self, images: ImageFiles, *, workers: int | None = None) -> None:
        self._images = images
        self.cells = int(np.prod(images.shape[1:]))
        self._workers = ProcessPool(cores() if workers is None else workers)

    def batches(self, rows: Sequence["Tensor"]) -> Iterator["Tensor"]:
        """uint8 (len(rows[i]), columns · channels, H, W) for each of `rows` (int64, on the CPU) in turn.

        Raises InputError for a file that can no longer be read, and WorkError when a worker is killed.
        """
        import torch

        for pixels in self._workers.run(_pixels, ((self._images[index.numpy()],) for index in rows)):
            yield torch.from_numpy(pixels)

    def close(self) -> None:
        """End the workers."""
        self._workers.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _chunks(
    sources: Sequence[ImageSource], shape: ImageShape, *, keep: bool, workers: int | None
) -> Generator["_Chunk"]:
    """Yield the result of `_read` for each `_CHUNK` of sources in turn."""
    count, start, begun = len(sources), 0, time.monotonic()
    while workers is None and start < count:
        yield _read(sources[start : start + _CHUNK], shape, keep)
        start += _CHUNK
        spent = time.monotonic() - begun
        if spent > _ALONE_SECONDS and (count - start) * spent / start > _WORTH_SECONDS:
            break
    starts = range(start, count, _CHUNK)
    if starts:
        team = ProcessPool(min(cores() if workers is None else workers, len(starts)))
        try:
            yield from team.run(_read, ((sources[first : first + _CHUNK], shape, keep) for first in starts))
        finally:
            team.close()


@dataclass(frozen=True, slots=True)
class _Chunk:
    """Some images as a worker has read them; see `ReadImages`. `pixels` are None where only the files are tried."""

    pixels: Pixels | None
    broken: dict[int, str]
    remarks: list[tuple[int, Remark]]
    digests: dict[str, str]


def _read(sources: Sequence[ImageSource], shape: ImageShape, keep: bool) -> _Chunk:
    """Read these images, and `keep` their pixels."""
    whole = np.zeros((len(sources), shape.channels, shape.height, shape.width), dtype=np.uint8) if keep else None
    reasons: dict[int, str] = {}
    remarks: list[tuple[int, Remark]] = []
    digests: dict[str, str] = {}
    for index, source in enumerate(sources):
        try:
            content = decoding.content(source)
            if isinstance(source, str):
                digests[source] = hashlib.sha256(content).hexdigest()
            decoded = decoding.decode_remarked(content, shape)
        except BadImage as error:
            reasons[index] = str(error)
            continue
        remarks += [(index, remark) for remark in decoded.remarks]
        if whole is not None:
            whole[index] = decoded.pixels
    return _Chunk(whole, reasons, remarks, digests)


def _pixels(images: ImageFiles) -> npt.NDArray[np.uint8]:
    return np.asarray(images)
