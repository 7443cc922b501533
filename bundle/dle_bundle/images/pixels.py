"""Image files to pixels, by one rule for training, offline prediction and the service.

An image is turned upright, made grey or RGB, resized by its shorter side and cropped at its centre. Transparent parts
show `BACKGROUND`; 16 bits are scaled to 8; of several frames the first counts. The same bytes give the same pixels
everywhere, so nothing here depends on how many images are read at once, or by whom.
"""

import io
import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO, cast

import numpy as np
import numpy.typing as npt
from PIL import Image
from PIL.ImageFile import ImageFile

from dle_bundle.errors import InputError
from dle_bundle.images.formats import MEDIA_TYPES as MEDIA_TYPES
from dle_bundle.images.formats import MOST_PIXELS as MOST_PIXELS
from dle_bundle.images.formats import SUFFIXES as SUFFIXES
from dle_bundle.images.formats import BadImage as BadImage
from dle_bundle.images.formats import load, opened, orientation
from dle_bundle.schema import ImageShape

Pixels = npt.NDArray[np.uint8]

MOST_TOGETHER = 4 * MOST_PIXELS
"""Pixels of the images of one request, as they are decoded: large JPEGs are at a fraction of their size."""

BACKGROUND = (255, 255, 255, 255)
"""White, which is what pictures with transparent parts are mostly drawn for."""
STATISTICS = ("brightness", "contrast", "sharpness")
"""What `statistics` measures."""

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
_BLOCK_PIXELS = 1 << 17
"""Pixels that are converted or measured at once: what fits the processor's cache."""
_SMALL_PIXELS = 1 << 20
"""Of an image up to this size all pixels are converted together: no memory worth saving."""
_FILTER = Image.Resampling.BILINEAR


class PixelBudget:
    """Pixels that may be decoded of what came together: many small files can declare as many as one may each."""

    def __init__(self) -> None:
        self._left = MOST_TOGETHER

    def take(self, pixels: int) -> None:
        """Raises BadImage where fewer are left; they stay."""
        if pixels > self._left:
            most = MOST_TOGETHER // 1_000_000
            raise BadImage(f"too many pixels in one request (at most {most} million): send it in several")
        self._left -= pixels


def decode(content: bytes, shape: ImageShape, budget: PixelBudget | None = None) -> Pixels:
    """The pixels (channels, height, width) of the content of an image file; raises BadImage."""
    with opened(io.BytesIO(content)) as image:
        _draft(image, shape, sideways=orientation(image) >= _SIDEWAYS)
        if budget is not None:
            budget.take(image.width * image.height)
        load(image, content)
        return _framed(image, shape, orientation(image))


def read(place: str | bytes, shape: ImageShape) -> Pixels:
    """The same of the file at a path, or of a file's content; raises BadImage, also where the file cannot be read."""
    if isinstance(place, bytes):
        return decode(place, shape)
    with _file(place) as file:
        return decode(file.read(), shape)


def fit(pixels: Pixels, shape: ImageShape) -> Pixels:
    """An image that is an array (H, W), (H, W, C) or (C, H, W), with C = 1, 3 or 4, by the same rules as a file.

    Where C may stand at either end, it stands at the last. Raises ValueError for any other array.
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


def measure(place: str | bytes) -> tuple[bool, int, int]:
    """Whether an image is in colour, its height and its width, from the header alone; raises BadImage.

    The place is a path or the content of a file. An image of grey pixels is in colour when its format would hold
    others; of a palette, the colours count.
    """
    with _file(place) as file, opened(file) as image:
        width, height = image.size
        if orientation(image) >= _SIDEWAYS:
            width, height = height, width
        return _is_colour(image), height, width


class ImageFiles:
    """Stands in for the `image` group (N, columns · channels, H, W), uint8, where the pixels are still in files.

    It has the array's shape, is indexed by rows as the array is, giving the same of these rows, and becomes the array
    by `np.asarray`, which decodes. Each place is a path, the content of a file, or `b""` for a black image.

    Raises InputError from `np.asarray` for a file that cannot be read: those were told apart before.

    Example::

        files = ImageFiles(["a.png", "b.png"], ImageShape(channels=3, height=64, width=64))
        pixels = np.asarray(files[:1])  # (1, 3, 64, 64)
    """

    ndim = 4
    dtype = np.dtype(np.uint8)

    def __init__(self, places: Sequence[str | bytes] | npt.NDArray[np.object_], image: ImageShape) -> None:
        if isinstance(places, np.ndarray):
            self.places = places if places.ndim == 2 else places[:, None]  # (N, columns)
        else:
            self.places = np.empty((len(places), 1), dtype=object)
            self.places[:, 0] = places
        self.image = image

    @property
    def shape(self) -> tuple[int, int, int, int]:
        """Rows, columns · channels, height, width."""
        rows, columns = self.places.shape
        return rows, columns * self.image.channels, self.image.height, self.image.width

    def __len__(self) -> int:
        return len(self.places)

    def __getitem__(self, index: Any) -> Any:
        """The rows of a slice, a mask or an array of positions, unread; anything else gives an array, read."""
        if isinstance(index, slice) or (isinstance(index, np.ndarray | list) and np.ndim(index) == 1):
            return ImageFiles(self.places[index], self.image)
        if isinstance(index, tuple) and index and isinstance(index[0], slice | np.ndarray):
            return np.asarray(self[index[0]])[(slice(None), *index[1:])]
        row, rest = (index[0], index[1:]) if isinstance(index, tuple) and index else (index, ())
        return np.asarray(ImageFiles(self.places[[int(row)]], self.image))[(0, *rest)]

    def reshape(self, *shape: int) -> "ImageFiles":
        """The same images with so many in a row: (rows, -1, H, W). ValueError where the shape does not allow it."""
        (rows, width, *side), channels = shape, self.image.channels
        columns = self.places.size // rows if width == -1 and rows else max(width // channels, 1)
        wanted = (rows, columns * channels, *side)
        if math.prod(wanted) != math.prod(self.shape) or side != [*self.shape[2:]] or width not in (-1, wanted[1]):
            raise ValueError(f"cannot reshape images {self.shape} into {shape}")
        return ImageFiles(self.places.reshape(rows, columns), self.image)

    def __array__(self, dtype: npt.DTypeLike | None = None, copy: bool | None = None) -> npt.NDArray[Any]:
        if copy is False:
            raise ValueError("images that are files cannot become an array without being read")
        side = (self.image.channels, self.image.height, self.image.width)
        whole = np.zeros((self.places.size, *side), dtype=np.uint8)
        places: list[str | bytes] = self.places.ravel().tolist()
        for index, place in enumerate(places):
            if place == b"":
                continue
            try:
                whole[index] = read(place, self.image)
            except BadImage as error:
                name = place if isinstance(place, str) else "an image"
                raise InputError(f"{name}: {error}, though it could be read before") from None
        pixels = whole.reshape(self.shape)
        return pixels if dtype is None else pixels.astype(dtype, copy=False)


def statistics(images: Pixels) -> dict[str, npt.NDArray[np.float32]]:
    """Numbers (N,) that describe images (N, C, H, W), C = 1 or 3, by their grey level from 0 to 1.

    Brightness is its mean, contrast its standard deviation, sharpness the mean absolute difference between a pixel and
    the mean of its four neighbours (the discrete Laplacian), 0 for images of fewer than 3 × 3 pixels. All sums are of
    whole numbers, so an image gives the same numbers in whatever company it is measured.
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
def _file(place: str | bytes) -> Iterator[BinaryIO]:
    try:
        with io.BytesIO(place) if isinstance(place, bytes) else Path(place).open("rb") as file:
            yield file
    except OSError as error:
        raise BadImage((error.strerror or "cannot be read").lower()) from None
    except ValueError as error:
        if isinstance(error, BadImage):
            raise
        raise BadImage("no path of a file") from None  # it has a NUL


def _grey(images: Pixels) -> Pixels:
    """(n, C, H, W) to (n, H, W) by the luma of ITU-R BT.601, as Pillow has it, in 256ths."""
    if images.shape[1] == 1:
        return images[:, 0]
    total = images[:, 0].astype(np.uint16) * np.uint16(77)
    total += images[:, 1] * np.uint16(150)
    total += images[:, 2] * np.uint16(29)
    return cast(Pixels, (total >> 8).astype(np.uint8))


def _roughness(grey: Pixels) -> npt.NDArray[np.int64]:
    """Sum of the absolute Laplacian over the inner pixels of (n, H, W)."""
    level = grey.astype(np.int16)
    bend = level[:, 1:-1, 1:-1] * np.int16(4)
    bend -= level[:, :-2, 1:-1]
    bend -= level[:, 2:, 1:-1]
    bend -= level[:, 1:-1, :-2]
    bend -= level[:, 1:-1, 2:]
    np.abs(bend, out=bend)
    return cast(npt.NDArray[np.int64], bend.reshape(len(bend), -1).sum(axis=1, dtype=np.int64))


def _draft(image: ImageFile, shape: ImageShape, *, sideways: bool) -> None:
    """Have a large JPEG decoded at half, a quarter or an eighth of its size, where twice the pixels wanted remain."""
    wanted = (2 * shape.height, 2 * shape.width) if sideways else (2 * shape.width, 2 * shape.height)
    image.draft("L" if shape.channels == 1 and image.mode == "RGB" else image.mode, wanted)


def _framed(image: Image.Image, shape: ImageShape, turn: int = 1) -> Pixels:
    """Turned upright, resized so that it just covers height × width, and cropped at the centre: (channels, H, W).

    Only what is seen is computed: of an image that is a mere line, the rest would be a bomb.
    """
    width, height = image.size if turn < _SIDEWAYS else image.size[::-1]
    box, most = _box(width, height, shape), _most_level(image)
    if width * height <= _SMALL_PIXELS:
        plain = _plain(image, shape, most, turn).resize((shape.width, shape.height), _FILTER, box)
    else:
        plain = _resized_by_blocks(image, shape, most, turn, box)
    pixels = np.array(plain)
    return pixels[None] if shape.channels == 1 else np.ascontiguousarray(pixels.transpose(2, 0, 1))


def _resized_by_blocks(
    image: Image.Image, shape: ImageShape, most: int | None, turn: int, box: tuple[float, float, float, float]
) -> Image.Image:
    """What is in a box of the upright image, in mode L or RGB, with the pixels that a resize of all of it gives or ±1.

    A block of rows at a time is converted and resized in width, then all of them in height: a large image that is
    converted as a whole takes many times the memory of its pixels.
    """
    width, height = image.size if turn < _SIDEWAYS else image.size[::-1]
    left, top, right, bottom = box
    columns, rows = _reach(left, right, shape.width, width), _reach(top, bottom, shape.height, height)
    narrow = Image.new("L" if shape.channels == 1 else "RGB", (shape.width, len(rows)))
    step = max(_BLOCK_PIXELS // len(columns), 1)
    for start in range(rows.start, rows.stop, step):
        stop = min(start + step, rows.stop)
        stored = _stored((columns.start, start, columns.stop, stop), width, height, turn)
        block = _plain(image.crop(stored), shape, most, turn)
        seen = left - columns.start, 0, right - columns.start, stop - start
        narrow.paste(block.resize((shape.width, stop - start), _FILTER, seen), (0, start - rows.start))
    return narrow.resize((shape.width, shape.height), _FILTER, (0, top - rows.start, shape.width, bottom - rows.start))


def _box(width: int, height: int, shape: ImageShape) -> tuple[float, float, float, float]:
    """Left, top, right and bottom of what is seen of an image; whole pixels where its size stays."""
    scale = max(shape.width / width, shape.height / height)
    seen = min(shape.width / scale, width), min(shape.height / scale, height)
    left, top = (width - seen[0]) / 2, (height - seen[1]) / 2
    if scale == 1:
        return int(left), int(top), int(left) + shape.width, int(top) + shape.height
    return left, top, min(left + seen[0], width), min(top + seen[1], height)


def _reach(first: float, last: float, wanted: int, count: int) -> range:
    """The pixels of `count` in a line that have a part in the `wanted` ones between two places, and a few more."""
    margin = math.ceil((last - first) / wanted) + 1
    return range(max(math.floor(first) - margin, 0), min(math.ceil(last) + margin, count))


def _stored(box: tuple[int, int, int, int], width: int, height: int, turn: int) -> tuple[int, int, int, int]:
    """Where a box of the upright image, width × height, is in the image as it is stored."""
    left, top, right, bottom = box
    if turn in (2, 3, 6, 7):
        left, right = width - right, width - left
    if turn in (3, 4, 7, 8):
        top, bottom = height - bottom, height - top
    return (left, top, right, bottom) if turn < _SIDEWAYS else (top, left, bottom, right)


def _plain(image: Image.Image, shape: ImageShape, most: int | None, turn: int) -> Image.Image:
    """A part of an image upright, in mode L or RGB, over the background; `most` is `_most_level` of all of it."""
    mode = "L" if shape.channels == 1 else "RGB"
    if most is not None:
        image = _eight_bits(image, most)
    if image.has_transparency_data:
        whole = Image.new("RGBA", image.size, BACKGROUND)
        whole.alpha_composite(image.convert("RGBA"))
        image = whole
    plain = image if image.mode == mode else image.convert(mode)
    return plain if turn == 1 else plain.transpose(_UPRIGHT[turn])


def _most_level(image: Image.Image) -> int | None:
    """The level that is white, of images of more than 8 bits.

    Pillow does not tell what the levels of mode I (whole numbers) and F (real ones) range over, except that PPM has
    16 bits. So it is the least of the customary ranges that the image stays within.
    """
    if image.mode.startswith("I;16") or (image.mode == "I" and image.format == "PPM"):
        return 65_535
    if image.mode not in ("I", "F"):
        return None
    scales = _WHOLE_SCALES if image.mode == "I" else _REAL_SCALES
    step = max(_BLOCK_PIXELS // image.width, 1)
    blocks = ((0, start, image.width, min(start + step, image.height)) for start in range(0, image.height, step))
    most = max(np.fmax.reduce(np.asarray(image.crop(block)), axis=None, initial=0) for block in blocks)
    return next((scale for scale in scales if most <= scale), scales[-1])


def _eight_bits(image: Image.Image, most: int) -> Image.Image:
    """Levels from 0 to `most` scaled to 8 bits."""
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
