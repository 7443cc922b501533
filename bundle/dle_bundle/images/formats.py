"""Opening the content of an image file: which formats there are, and why a file is refused.

The formats are few and told by how a file starts; none of Pillow's other readers is ever asked. Pillow complains in
many ways, by exceptions of every kind and by warnings; here it is always `BadImage`, in a few words. Whatever is not
wrong enough for that, such as a damaged comment, is let through in silence.
"""

import re
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import BinaryIO

from PIL import (
    BmpImagePlugin,
    ExifTags,
    GifImagePlugin,
    Image,
    JpegImagePlugin,
    PngImagePlugin,
    PpmImagePlugin,
    TiffImagePlugin,
    WebPImagePlugin,
)
from PIL.ImageFile import ImageFile

MOST_PIXELS = 64_000_000
"""An image that declares more is refused before it is decoded, for a small file may declare gigabytes."""

_START = 16
"""Bytes that tell a format."""
_HOLD_EXIF = ("exif", "xmp", "XML:com.adobe.xmp", "Raw profile type exif")
_SILENT = re.compile(r"PIL\.")


class BadImage(ValueError):
    """Why a file cannot be read as an image: "empty", "not an image", "truncated", "too many pixels (…)", …."""


@dataclass(frozen=True, slots=True)
class _Format:
    """How a file starts, what reads it, how its name ends, what HTTP calls it.

    `is_whole`: whether all of a file is there, as far as Pillow would not notice.
    """

    start: re.Pattern[bytes]
    read: Callable[[BinaryIO], ImageFile]
    suffixes: tuple[str, ...]
    media_types: tuple[str, ...]
    is_whole: Callable[[bytes], bool] = bool


def _whole_png(content: bytes) -> bool:
    return content.rfind(b"IEND") >= 0


def _whole_jpeg(content: bytes) -> bool:
    return content.rfind(b"\xff\xd9") >= 0


def _whole_webp(content: bytes) -> bool:
    return len(content) >= 8 + int.from_bytes(content[4:8], "little")


_FORMATS = (
    _Format(re.compile(rb"\x89PNG\r\n\x1a\n"), PngImagePlugin.PngImageFile, (".png",), ("image/png",), _whole_png),
    _Format(
        re.compile(rb"\xff\xd8\xff"),
        JpegImagePlugin.JpegImageFile,
        (".jpg", ".jpeg"),
        ("image/jpeg", "image/jpg"),  # the second is no registered name, but clients send it
        _whole_jpeg,
    ),
    _Format(re.compile(rb"GIF8[79]a"), GifImagePlugin.GifImageFile, (".gif",), ("image/gif",)),
    _Format(re.compile(rb"BM"), BmpImagePlugin.BmpImageFile, (".bmp",), ("image/bmp",)),
    _Format(
        re.compile(rb"RIFF.{4}WEBP", re.DOTALL),
        WebPImagePlugin.WebPImageFile,
        (".webp",),
        ("image/webp",),
        _whole_webp,
    ),
    _Format(re.compile(rb"II[*+]\0|MM\0[*+]"), TiffImagePlugin.TiffImageFile, (".tif", ".tiff"), ("image/tiff",)),
    _Format(
        re.compile(rb"P[1-6]\s"),
        PpmImagePlugin.PpmImageFile,
        (".pbm", ".pgm", ".ppm", ".pnm"),
        tuple(f"image/x-portable-{kind}" for kind in ("anymap", "bitmap", "graymap", "pixmap")),
    ),
)

SUFFIXES = tuple(suffix for known in _FORMATS for suffix in known.suffixes)
"""How the names of image files end, in lower case."""
MEDIA_TYPES = tuple(media_type for known in _FORMATS for media_type in known.media_types)
"""What HTTP calls them."""


@contextmanager
def opened(file: BinaryIO) -> Iterator[ImageFile]:
    """The image with its header read and its pixels still to come; the first frame of several.

    Raises BadImage, also for whatever goes wrong with the image within the `with` block.
    """
    _silence()
    try:
        known = _format(file.read(_START))
        file.seek(0)
        image = known.read(file)
        width, height = image.size
        if width * height > MOST_PIXELS:
            raise BadImage(f"too many pixels ({width:,} × {height:,}; at most {MOST_PIXELS // 1_000_000} million)")
        if width < 1 or height < 1:
            raise BadImage("it has no pixels")
        yield image
    except BadImage:
        raise
    except Image.DecompressionBombError:  # of formats that check before they have told the size
        raise BadImage(f"too many pixels (at most {MOST_PIXELS // 1_000_000} million)") from None
    except Exception as error:  # noqa: BLE001 - readers fail with whatever a broken byte leads to
        raise BadImage("truncated" if _has_ended(error) else "truncated or damaged") from None


def load(image: ImageFile, content: bytes) -> None:
    """Decode the pixels; raises BadImage where the end of the file is missing though Pillow makes do without it."""
    if not _format(content[:_START]).is_whole(content):
        raise BadImage("truncated")
    image.load()


def orientation(image: ImageFile) -> int:
    """How to turn the image, 1 to 8 as in EXIF; 1 where that is not told, or the format's reader does it itself.

    A PNG may tell it after its pixels.
    """
    if isinstance(image, TiffImagePlugin.TiffImageFile) or not any(key in image.info for key in _HOLD_EXIF):
        return 1
    try:
        found = image.getexif().get(ExifTags.Base.Orientation, 1)
    except Exception:  # noqa: BLE001 - as above; the pixels may still be good
        return 1
    return found if isinstance(found, int) and 1 <= found <= 8 else 1


def _format(start: bytes) -> _Format:
    if not start:
        raise BadImage("empty")
    for known in _FORMATS:
        if known.start.match(start):
            return known
    raise BadImage("not an image")


def _has_ended(error: Exception) -> bool:
    words = ("truncat", "not enough", "unexpected end", "eof")
    return isinstance(error, EOFError) or any(word in str(error).lower() for word in words)


def _silence() -> None:
    """Have Pillow's warnings ignored from now on.

    They are about files, and files are judged here. To ignore them for a moment only would not be safe with threads.
    """
    first = warnings.filters[0] if warnings.filters else None
    if first is None or first[0] != "ignore" or first[3] != _SILENT:
        warnings.filterwarnings("ignore", module=_SILENT.pattern)
