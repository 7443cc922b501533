"""From image files to pixels: the one decoder of training, offline prediction and the service.

Whatever a file holds becomes grey or RGB of one size: turned as its camera says, alpha on white, 16 bits scaled to 8,
resized by the shorter side and cropped at the centre.
"""

import io
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageOps, UnidentifiedImageError

from dle_bundle.schema import ImageShape

FORMATS = ("PNG", "JPEG", "GIF", "BMP", "WEBP", "TIFF", "PPM")
SUFFIXES = (".png", ".jpg", ".jpeg", ".gif", ".bmp", ".webp", ".tif", ".tiff", ".ppm", ".pgm", ".pbm")
MEDIA_TYPES = ("image/png", "image/jpeg", "image/gif", "image/bmp", "image/webp", "image/tiff")
MOST_PIXELS = 64_000_000
"""A file that says it has more is refused before it is unpacked."""
STATISTICS = ("brightness", "contrast", "sharpness")


class BadImage(ValueError):
    """What is wrong with the content of an image file, in a few words."""


def decode(content: bytes, shape: ImageShape) -> npt.NDArray[np.uint8]:
    """Pixels (channels, H, W) of a file's content; raises BadImage."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            with _opened(content) as image:
                image.draft("RGB" if shape.channels == 3 else "L", (2 * shape.width, 2 * shape.height))
                image.load()
                plain = _plain(ImageOps.exif_transpose(image), shape.channels)
        except BadImage:
            raise
        except Exception as error:  # decoders raise whatever their parsers stumble on
            raise BadImage("truncated or damaged") from error
    return _sized(plain, shape)


def fit(pixels: npt.NDArray[np.uint8], shape: ImageShape) -> npt.NDArray[np.uint8]:
    """Pixels (channels, H, W) of an image that is an array already: (H, W), (H, W, C) or (C, H, W), C of 1, 3 or 4."""
    array = pixels
    if array.ndim == 3 and array.shape[2] not in (1, 3, 4):
        array = array.transpose(1, 2, 0)
    if array.ndim == 3 and array.shape[2] == 1:
        array = array[..., 0]
    return _sized(_plain(Image.fromarray(np.ascontiguousarray(array)), shape.channels), shape)


def measure(content: bytes) -> tuple[bool, int, int]:
    """Whether an image is in colour, its height and its width, from the head of the file; raises BadImage."""
    with _opened(content) as image:
        turned = image.getexif().get(0x0112, 1) in (5, 6, 7, 8)
        colour = image.mode not in ("1", "L", "LA", "I", "F", "I;16", "I;16B", "I;16L")
        if image.mode == "P" and image.palette is not None:
            palette = np.frombuffer(image.palette.tobytes(), dtype=np.uint8)
            entries = palette[: len(palette) // 3 * 3].reshape(-1, 3)
            colour = bool((entries != entries[:, :1]).any())
        width, height = image.size
    return colour, *((width, height) if turned else (height, width))


def statistics(images: npt.NDArray[np.uint8]) -> dict[str, npt.NDArray[np.float32]]:
    """Brightness (mean grey), contrast (its deviation) and sharpness (mean difference of neighbours), (N,) in [0, 1]."""
    grey = images.mean(axis=1, dtype=np.float32) / 255  # (N, H, W)
    across = np.abs(np.diff(grey, axis=2)).mean(axis=(1, 2)) if grey.shape[2] > 1 else np.zeros(len(grey))
    down = np.abs(np.diff(grey, axis=1)).mean(axis=(1, 2)) if grey.shape[1] > 1 else np.zeros(len(grey))
    found = (grey.mean(axis=(1, 2)), grey.std(axis=(1, 2)), (across + down) / 2)
    return dict(zip(STATISTICS, (values.astype(np.float32) for values in found), strict=True))


class ImageFiles:
    """Images that are read when they are asked for: takes the place of an array (N, columns · channels, H, W)."""

    def __init__(self, places: Sequence[str | bytes], shape: ImageShape, columns: int = 1) -> None:
        """`places` are paths or contents, the columns of a row one after another; empty ones are black."""
        self._places = np.empty(len(places), dtype=object)
        self._places[:] = places
        self._form, self._columns = shape, columns

    @property
    def shape(self) -> tuple[int, int, int, int]:
        form = self._form
        return len(self), self._columns * form.channels, form.height, form.width

    @property
    def ndim(self) -> int:
        return 4

    def __len__(self) -> int:
        return len(self._places) // self._columns

    def __getitem__(self, rows: Any) -> "ImageFiles":
        chosen = self._places.reshape(len(self), self._columns)[rows]
        return ImageFiles(chosen.reshape(-1).tolist(), self._form, self._columns)

    def reshape(self, rows: int, *_: int) -> "ImageFiles":
        """The same images with as many a row as that takes."""
        return ImageFiles(self._places.tolist(), self._form, len(self._places) // rows)

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> npt.NDArray[np.uint8]:
        whole = np.zeros((len(self._places), self._form.channels, self._form.height, self._form.width), dtype=np.uint8)
        for index, place in enumerate(self._places):
            if place:
                whole[index] = read(place, self._form)
        return whole.reshape(self.shape)


def read(place: str | bytes, shape: ImageShape) -> npt.NDArray[np.uint8]:
    """Pixels (channels, H, W) of a path or a file's content; raises BadImage."""
    if isinstance(place, bytes):
        return decode(place, shape)
    try:
        return decode(Path(place).read_bytes(), shape)
    except OSError as error:
        raise BadImage((error.strerror or str(error)).lower()) from error


def _opened(content: bytes) -> Image.Image:
    if not content:
        raise BadImage("empty")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            image = Image.open(io.BytesIO(content), formats=FORMATS)
        except UnidentifiedImageError:
            raise BadImage("not an image of a known format") from None
        except Exception as error:
            raise BadImage("truncated or damaged") from error
    width, height = image.size
    if width * height > MOST_PIXELS:
        raise BadImage(f"too large: {width:,} × {height:,} pixels, expected at most {MOST_PIXELS:,}")
    return image


def _plain(image: Image.Image, channels: int) -> Image.Image:
    """The image in 8 bits, grey or RGB."""
    if image.mode in ("I", "I;16", "I;16B", "I;16L", "F"):
        image = _eight_bits(image)
    if image.mode in ("RGBA", "LA", "PA", "La", "RGBa") or "transparency" in image.info:
        solid = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", solid.size, (255, 255, 255, 255)), solid)
    return image.convert("L" if channels == 1 else "RGB")


def _eight_bits(image: Image.Image) -> Image.Image:
    values = np.asarray(image, dtype=np.float64)
    if image.mode == "F":
        scale = 255.0 if values.size and values.max() <= 1 else 1.0
    else:
        scale = 255 / 65535
    return Image.fromarray(np.clip(np.round(np.nan_to_num(values) * scale), 0, 255).astype(np.uint8))


def _sized(image: Image.Image, shape: ImageShape) -> npt.NDArray[np.uint8]:
    target = (shape.width, shape.height)
    if image.size != target:
        image = ImageOps.fit(image, target, Image.Resampling.BILINEAR)
    array = np.asarray(image, dtype=np.uint8)
    return array[None] if array.ndim == 2 else array.transpose(2, 0, 1)
