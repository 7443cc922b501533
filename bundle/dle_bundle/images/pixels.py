"""Decodes image files into pixels, by the same rules in training, offline prediction and the service.

An image is turned upright, converted to grey or RGB and resized. If its sides have another ratio than the wanted ones,
it is cropped at its centre, padded with `PADDING` or stretched, as `ImageShape.fit` says. Transparent parts show
`BACKGROUND`, 16 bits are scaled to 8, and only the first frame is used. The same bytes always give the same pixels,
however many images are decoded together.
"""

import io
import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, Literal, cast

import numpy as np
import numpy.typing as npt
from PIL import Image
from PIL.ImageFile import ImageFile

from dle_bundle.errors import InputError
from dle_bundle.images.formats import IMAGE_SUFFIXES as IMAGE_SUFFIXES
from dle_bundle.images.formats import MEDIA_TYPES as MEDIA_TYPES
from dle_bundle.images.formats import MOST_PIXELS as MOST_PIXELS
from dle_bundle.images.formats import BadImage as BadImage
from dle_bundle.images.formats import check_whole, has_several, opened, orientation
from dle_bundle.images.formats import needed as needed
from dle_bundle.images.formats import readable_suffixes as readable_suffixes
from dle_bundle.schema import ImageShape

Pixels = npt.NDArray[np.uint8]
Remark = Literal["frames", "dim"]
"""The file holds more frames or pages than the first; its 16 bits use at most a sixteenth of their levels."""
ImageSource = str | bytes
"""The path of an image file, or the content of one."""

BACKGROUND = (255, 255, 255, 255)
"""White, since most pictures with transparent parts are drawn for a white background."""
PADDING = 128
"""Mid grey, which is far from neither dark nor bright pictures."""
STATISTICS = ("brightness", "contrast", "sharpness")
"""The names of the statistics."""

_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_SIDEWAYS = 5
"""From this orientation on, height and width are swapped."""
_GREY_MODES = ("1", "L", "LA", "La", "I", "F")
_WHOLE_SCALES = (255, 65_535, 2**31 - 1)
_REAL_SCALES = (1, 255, 65_535)
_DIM_LEVEL = 65_536 // 16
_BLOCK_PIXELS = 1 << 17
"""Number of pixels that are processed at once, so that they fit into the processor's cache."""
_SMALL_PIXELS = 1 << 20
"""Images up to this size are converted at once; working in blocks would save little memory."""
_FILTER = Image.Resampling.BILINEAR
_Box = tuple[float, float, float, float]
"""Left, top, right and bottom, in pixels."""


@dataclass(frozen=True, slots=True)
class Decoded:
    """The pixels (channels, height, width) of an image file, and what the reader should know about them."""

    pixels: Pixels
    remarks: tuple[Remark, ...]


def declared(content: bytes) -> int:
    """The number of pixels that the header of an image file declares; raises BadImage, also for most cut files."""
    with opened(io.BytesIO(content)) as image:
        check_whole(content)
        return image.width * image.height


def decode(content: bytes, shape: ImageShape) -> Pixels:
    """Decode the content of an image file into pixels (channels, height, width); raises BadImage."""
    return decode_remarked(content, shape).pixels


def decode_remarked(content: bytes, shape: ImageShape) -> Decoded:
    """Decode the content of an image file as `decode` does, with remarks."""
    with opened(io.BytesIO(content)) as image:
        several = has_several(image)
        _draft(image, shape, sideways=orientation(image) >= _SIDEWAYS)
        check_whole(content)
        image.load()
        remarks: list[Remark] = ["frames"] if several else []
        if _is_dim(image):
            remarks.append("dim")
        return Decoded(_framed(image, shape, orientation(image)), tuple(remarks))


def read(source: ImageSource, shape: ImageShape) -> Pixels:
    """Decode the file at a path, or the content of a file; raises BadImage, also if the file cannot be read."""
    return decode(content(source), shape)


def content(source: ImageSource) -> bytes:
    """The content of the file at a path, or the content itself; raises BadImage if the file cannot be read."""
    with _file(source) as file:
        return file.read()


def fit(pixels: Pixels, shape: ImageShape) -> Pixels:
    """Resize and fit an array (H, W), (H, W, C) or (C, H, W), with C = 1, 3 or 4, by the same rules as a file.

    If both ends could be C, the last one is. Raises ValueError for any other array.
    """
    found = pixels.shape
    if len(found) == 3 and found[2] not in (1, 3, 4) and found[0] in (1, 3, 4):
        if found == (shape.channels, shape.height, shape.width):
            return pixels
        pixels = pixels.transpose(1, 2, 0)
    elif len(found) != 2 and not (len(found) == 3 and found[2] in (1, 3, 4)):
        raise ValueError(f"expected an image (H, W), (H, W, C) or (C, H, W) with C = 1, 3 or 4, got an array {found}")
    if not pixels.size:
        raise ValueError(f"expected an image, got an array without pixels, {found}")
    image = Image.fromarray(np.ascontiguousarray(pixels.squeeze(2) if pixels.shape[2:] == (1,) else pixels))
    return _framed(image, shape)


def measure(source: ImageSource) -> tuple[bool, int, int]:
    """Whether an image is in colour, its height and its width, from its header; raises BadImage.

    `source` is a path or the content of a file. A format with colour counts as colour even if all pixels are grey; for
    an image with a palette, the colours of the palette count.
    """
    with _file(source) as file, opened(file) as image:
        width, height = image.size
        if orientation(image) >= _SIDEWAYS:
            width, height = height, width
        return _is_colour(image), height, width


class ImageFiles:
    """The `image` group (N, columns · channels, H, W), uint8, with the pixels still in files.

    It has the array's shape and supports indexing by rows; `np.asarray` decodes the files into the array. Each of
    `sources` is a path, the content of a file, or `b""` for a black image.

    `np.asarray` raises InputError for a file that cannot be read; callers have checked the files before.

    Example:
        >>> black = ImageFiles([b"", b""], ImageShape(channels=3, height=64, width=48))
        >>> np.asarray(black[:1]).shape
        (1, 3, 64, 48)
    """

    ndim = 4
    dtype = np.dtype(np.uint8)

    def __init__(self, sources: Sequence[ImageSource] | npt.NDArray[np.object_], image: ImageShape) -> None:
        if isinstance(sources, np.ndarray):
            self.sources = sources if sources.ndim == 2 else sources[:, None]  # (N, columns)
        else:
            self.sources = np.empty((len(sources), 1), dtype=object)
            self.sources[:, 0] = sources
        self.image = image

    @property
    def shape(self) -> tuple[int, int, int, int]:
        """The shape of the array: rows, columns · channels, height, width."""
        rows, columns = self.sources.shape
        return rows, columns * self.image.channels, self.image.height, self.image.width

    def __len__(self) -> int:
        return len(self.sources)

    def __getitem__(self, index: Any) -> Any:
        """The rows of a slice, mask or array of positions, still in files; any other index decodes into an array."""
        if isinstance(index, slice) or (isinstance(index, np.ndarray | list) and np.ndim(index) == 1):
            return ImageFiles(self.sources[index], self.image)
        if isinstance(index, tuple) and index and isinstance(index[0], slice | np.ndarray):
            return np.asarray(self[index[0]])[(slice(None), *index[1:])]
        row, rest = (index[0], index[1:]) if isinstance(index, tuple) and index else (index, ())
        return np.asarray(ImageFiles(self.sources[[int(row)]], self.image))[(0, *rest)]

    def reshape(self, *shape: int) -> "ImageFiles":
        """The same images arranged as (rows, -1, H, W); raises ValueError for any other kind of shape."""
        (rows, width, *side), channels = shape, self.image.channels
        columns = self.sources.size // rows if width == -1 and rows else max(width // channels, 1)
        wanted = (rows, columns * channels, *side)
        if math.prod(wanted) != math.prod(self.shape) or side != [*self.shape[2:]] or width not in (-1, wanted[1]):
            raise ValueError(f"cannot reshape images {self.shape} into {shape}")
        return ImageFiles(self.sources.reshape(rows, columns), self.image)

    def __array__(self, dtype: npt.DTypeLike | None = None, copy: bool | None = None) -> npt.NDArray[Any]:
        if copy is False:
            raise ValueError("image files cannot become an array without a copy")
        side = (self.image.channels, self.image.height, self.image.width)
        whole = np.zeros((self.sources.size, *side), dtype=np.uint8)
        sources: list[ImageSource] = self.sources.ravel().tolist()
        for index, source in enumerate(sources):
            if source == b"":
                continue
            try:
                whole[index] = read(source, self.image)
            except BadImage as error:
                name = source if isinstance(source, str) else "an image"
                raise InputError(f"{name}: {error}, though it could be read before") from None
        pixels = whole.reshape(self.shape)
        return pixels if dtype is None else pixels.astype(dtype, copy=False)


def statistics(images: Pixels) -> dict[str, npt.NDArray[np.float32]]:
    """Brightness, contrast and sharpness (N,) of images (N, C, H, W), C = 1 or 3, from grey levels between 0 and 1.

    Brightness is the mean, contrast the standard deviation, and sharpness the mean absolute difference between a pixel
    and the mean of its four neighbours (the discrete Laplacian), 0 for images smaller than 3 × 3 pixels. All sums are
    over integers, so the statistics of an image do not depend on the other images in the batch.
    """
    count, _, height, width = images.shape
    sums = np.zeros((3, count))  # of the level, of its square, of the absolute Laplacian
    step = max(_BLOCK_PIXELS // max(height * width, 1), 1)
    for start in range(0, count, step):
        rows = slice(start, start + step)
        grey = _grey(images[rows])
        flat = grey.reshape(len(grey), -1)
        sums[0, rows] = flat.sum(axis=1, dtype=np.uint64)
        wide = flat.astype(np.float32)
        sums[1, rows] = np.square(wide).sum(axis=1, dtype=np.float64)
        if min(height, width) >= 3:
            sums[2, rows] = _roughness(grey)
    pixels, inner = max(height * width, 1), max((height - 2) * (width - 2), 1)
    mean = sums[0] / pixels
    contrast = np.sqrt(np.maximum(sums[1] / pixels - mean**2, 0))
    found = (mean / 255, contrast / 255, sums[2] / inner / 4 / 255)
    return {name: values.astype(np.float32) for name, values in zip(STATISTICS, found, strict=True)}


@contextmanager
def _file(source: ImageSource) -> Iterator[BinaryIO]:
    try:
        with io.BytesIO(source) if isinstance(source, bytes) else Path(source).open("rb") as file:
            yield file
    except OSError as error:
        raise BadImage((error.strerror or "cannot be read").lower()) from None
    except ValueError as error:
        if isinstance(error, BadImage):
            raise
        raise BadImage("not a valid path") from None  # it contains a NUL


def _grey(images: Pixels) -> Pixels:
    """Convert (n, C, H, W) to grey (n, H, W) by the luma of ITU-R BT.601, as Pillow does, in 256ths."""
    if images.shape[1] == 1:
        return images[:, 0]
    total = images[:, 0].astype(np.uint16) * np.uint16(77)
    total += images[:, 1] * np.uint16(150)
    total += images[:, 2] * np.uint16(29)
    return cast(Pixels, (total >> 8).astype(np.uint8))


def _roughness(grey: Pixels) -> npt.NDArray[np.int64]:
    """The sum (n,) of the absolute Laplacian over the inner pixels of (n, H, W)."""
    level = grey.astype(np.int16)
    bend = level[:, 1:-1, 1:-1] * np.int16(4)
    bend -= level[:, :-2, 1:-1]
    bend -= level[:, 2:, 1:-1]
    bend -= level[:, 1:-1, :-2]
    bend -= level[:, 1:-1, 2:]
    np.abs(bend, out=bend)
    return cast(npt.NDArray[np.int64], bend.reshape(len(bend), -1).sum(axis=1, dtype=np.int64))


def _draft(image: ImageFile, shape: ImageShape, *, sideways: bool) -> None:
    """Decode a large JPEG at 1/2, 1/4 or 1/8 of its size, if at least twice the wanted size remains.

    Readers of other formats would decode a thumbnail in the file, which may show something else.
    """
    if image.format != "JPEG":
        return
    wanted = (2 * shape.height, 2 * shape.width) if sideways else (2 * shape.width, 2 * shape.height)
    image.draft("L" if shape.channels == 1 and image.mode == "RGB" else image.mode, wanted)


def _framed(image: Image.Image, shape: ImageShape, turn: int = 1) -> Pixels:
    """Turn an image upright, resize it and fit it to height × width: (channels, H, W).

    Only the visible part is computed, since resizing an image one pixel high as a whole would take huge memory.
    """
    width, height = image.size if turn < _SIDEWAYS else image.size[::-1]
    (box, size), most = _placed(width, height, shape), _most_level(image)
    if width * height <= _SMALL_PIXELS:
        plain = _plain(image, shape, most, turn).resize(size, _FILTER, box)
    else:
        plain = _resized_by_blocks(image, shape, most, turn, box, size)
    if size != (shape.width, shape.height):
        padded = Image.new(plain.mode, (shape.width, shape.height), (PADDING,) * shape.channels)
        padded.paste(plain, ((shape.width - size[0]) // 2, (shape.height - size[1]) // 2))
        plain = padded
    pixels = np.array(plain)
    return pixels[None] if shape.channels == 1 else np.ascontiguousarray(pixels.transpose(2, 0, 1))


def _resized_by_blocks(
    image: Image.Image, shape: ImageShape, most: int | None, turn: int, box: _Box, size: tuple[int, int]
) -> Image.Image:
    """Resize a box of the upright image to `size`, in mode L or RGB; a direct resize would differ by at most 1.

    Blocks of rows are converted and resized in width, then everything in height, since converting a large image as a
    whole takes many times the memory of its pixels.
    """
    width, height = image.size if turn < _SIDEWAYS else image.size[::-1]
    left, top, right, bottom = box
    columns, rows = _reach(left, right, size[0], width), _reach(top, bottom, size[1], height)
    narrow = Image.new("L" if shape.channels == 1 else "RGB", (size[0], len(rows)))
    step = max(_BLOCK_PIXELS // len(columns), 1)
    for start in range(rows.start, rows.stop, step):
        stop = min(start + step, rows.stop)
        stored = _stored((columns.start, start, columns.stop, stop), width, height, turn)
        block = _plain(image.crop(stored), shape, most, turn)
        seen = left - columns.start, 0, right - columns.start, stop - start
        narrow.paste(block.resize((size[0], stop - start), _FILTER, seen), (0, start - rows.start))
    return narrow.resize(size, _FILTER, (0, top - rows.start, size[0], bottom - rows.start))


def _placed(width: int, height: int, shape: ImageShape) -> tuple[_Box, tuple[int, int]]:
    """The visible part of an image, and the width and height that it gets."""
    whole, full = (0, 0, width, height), (shape.width, shape.height)
    if shape.fit == "crop":
        return _cropped(width, height, shape), full
    if shape.fit == "stretch":
        return whole, full
    scale = min(shape.width / width, shape.height / height)
    return whole, (max(round(width * scale), 1), max(round(height * scale), 1))


def _cropped(width: int, height: int, shape: ImageShape) -> _Box:
    """The part of an image that remains if it is cropped at its centre; whole pixels if it is not resized."""
    scale = max(shape.width / width, shape.height / height)
    seen = min(shape.width / scale, width), min(shape.height / scale, height)
    left, top = (width - seen[0]) / 2, (height - seen[1]) / 2
    if scale == 1:
        return int(left), int(top), int(left) + shape.width, int(top) + shape.height
    return left, top, min(left + seen[0], width), min(top + seen[1], height)


def _reach(first: float, last: float, wanted: int, count: int) -> range:
    """The source pixels, out of `count`, that affect the `wanted` pixels between two positions, with a margin."""
    margin = math.ceil((last - first) / wanted) + 1
    return range(max(math.floor(first) - margin, 0), min(math.ceil(last) + margin, count))


def _stored(box: tuple[int, int, int, int], width: int, height: int, turn: int) -> tuple[int, int, int, int]:
    """Convert a box of the upright image (width × height) into the coordinates of the stored image."""
    left, top, right, bottom = box
    if turn in (2, 3, 6, 7):
        left, right = width - right, width - left
    if turn in (3, 4, 7, 8):
        top, bottom = height - bottom, height - top
    return (left, top, right, bottom) if turn < _SIDEWAYS else (top, left, bottom, right)


def _plain(image: Image.Image, shape: ImageShape, most: int | None, turn: int) -> Image.Image:
    """Convert a part of an image to upright, L or RGB, over the background; `most` is the image's `_most_level`."""
    mode = "L" if shape.channels == 1 else "RGB"
    if most is not None:
        image = _eight_bits(image, most)
    if image.has_transparency_data:
        whole = Image.new("RGBA", image.size, BACKGROUND)
        whole.alpha_composite(image.convert("RGBA"))
        image = whole
    plain = image if image.mode == mode else image.convert(mode)
    return plain if turn == 1 else plain.transpose(_UPRIGHT[turn])


def _is_dim(image: Image.Image) -> bool:
    return image.mode.startswith("I;16") and all(levels.max() < _DIM_LEVEL for levels in _levels(image))


def _levels(image: Image.Image) -> Iterator[npt.NDArray[Any]]:
    """The levels of an image, in blocks of rows."""
    step = max(_BLOCK_PIXELS // image.width, 1)
    for start in range(0, image.height, step):
        yield np.asarray(image.crop((0, start, image.width, min(start + step, image.height))))


def _most_level(image: Image.Image) -> int | None:
    """The level of white in images with more than 8 bits, else None.

    Pillow does not report the range of modes I (integers) and F (floats), except that PPM has 16 bits. So the smallest
    customary range that contains all levels is used.
    """
    if image.mode.startswith("I;16") or (image.mode == "I" and image.format == "PPM"):
        return 65_535
    if image.mode not in ("I", "F"):
        return None
    scales = _WHOLE_SCALES if image.mode == "I" else _REAL_SCALES
    most = max(np.fmax.reduce(levels, axis=None, initial=0) for levels in _levels(image))
    return next((scale for scale in scales if most <= scale), scales[-1])


def _eight_bits(image: Image.Image, most: int) -> Image.Image:
    """Scale levels from 0 to `most` to 8 bits."""
    levels = np.asarray(image).astype(np.float64)
    if image.mode == "F":
        np.nan_to_num(levels, copy=False)
    if isinstance(transparent := image.info.get("transparency"), int):
        levels[levels == transparent] = most
    levels /= most
    np.clip(levels, 0, 1, out=levels)
    levels *= 255
    return Image.fromarray(np.rint(levels, out=levels).astype(np.uint8))


def _is_colour(image: ImageFile) -> bool:
    if image.mode == "P" and image.palette is not None:
        layout, colours = image.palette.getdata()
        if layout in ("RGB", "BGR", "RGBA", "RGBX", "BGRX", "BGRA"):
            table = np.frombuffer(colours, dtype=np.uint8)
            table = table[: len(table) // len(layout) * len(layout)].reshape(-1, len(layout))
            return bool((table[:, :3] != table[:, :1]).any())
    return image.mode not in _GREY_MODES and not image.mode.startswith("I;16")
