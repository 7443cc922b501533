"""Opens image files of the supported formats, and rejects invalid ones.

The first bytes of a file determine its format; Pillow's readers of other formats are never used. HEIF, the format of
many telephones, needs pillow-heif, which is an extra. Pillow reports faults by many kinds of exceptions and warnings;
this module turns them into `BadImage` with a short reason. Faults that Pillow tolerates, such as a damaged comment, are
ignored silently.
"""

import importlib.util
import re
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import BinaryIO

from PIL import (
    AvifImagePlugin,
    BmpImagePlugin,
    ExifTags,
    GifImagePlugin,
    Image,
    Jpeg2KImagePlugin,
    JpegImagePlugin,
    PngImagePlugin,
    PpmImagePlugin,
    TiffImagePlugin,
    WebPImagePlugin,
)
from PIL.ImageFile import ImageFile

MOST_PIXELS = 64_000_000
"""Images that declare more pixels are rejected before decoding, since a small file can declare gigabytes."""

_START = 32
"""Number of bytes that determine the format."""
_HOLD_EXIF = ("exif", "xmp", "XML:com.adobe.xmp", "Raw profile type exif")
_SILENT = re.compile(r"PIL\.")


class BadImage(ValueError):
    """The reason why a file is not a valid image: "empty", "not an image", "truncated", "too many pixels (…)", …."""


@dataclass(frozen=True, slots=True)
class _Format:
    """One format: the start of its files, Pillow's reader, its file name suffixes and its media types.

    `is_whole`: detects truncated files that Pillow would accept. `package`: reads the format, and is an extra; `needs`
    says so to the user.
    """

    start: re.Pattern[bytes]
    read: Callable[[BinaryIO], ImageFile]
    suffixes: tuple[str, ...]
    media_types: tuple[str, ...]
    is_whole: Callable[[bytes], bool] = bool
    package: str | None = None
    needs: str | None = None

    @property
    def readable(self) -> bool:
        """Whether the package that reads the format is installed."""
        return self.package is None or importlib.util.find_spec(self.package) is not None


def _whole_png(content: bytes) -> bool:
    return content.rfind(b"IEND") >= 0


def _whole_jpeg(content: bytes) -> bool:
    return content.rfind(b"\xff\xd9") >= 0


def _whole_webp(content: bytes) -> bool:
    return len(content) >= 8 + int.from_bytes(content[4:8], "little")


def _read_heif(file: BinaryIO) -> ImageFile:
    try:
        from pillow_heif import HeifImageFile
    except ImportError:
        raise BadImage(_NEEDS_HEIF) from None
    read: ImageFile = HeifImageFile(file)
    return read


_NEEDS_HEIF = "HEIF (.heic) needs pillow-heif: pip install 'deep-learning-essentials[heif]'"
_FORMATS = (
    _Format(
        re.compile(rb"\x89PNG\r\n\x1a\n"), PngImagePlugin.PngImageFile, (".png", ".apng"), ("image/png",), _whole_png
    ),
    _Format(
        re.compile(rb"\xff\xd8\xff"),
        JpegImagePlugin.JpegImageFile,
        (".jpg", ".jpeg", ".jpe", ".jfif", ".mpo"),
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
    _Format(
        re.compile(rb"\0\0\0\x0cjP  \r\n\x87\n|\xff\x4f\xff\x51"),
        Jpeg2KImagePlugin.Jpeg2KImageFile,
        (".jp2", ".j2k", ".jpx", ".jpf", ".jpc", ".j2c"),
        ("image/jp2",),
        _whole_jpeg,
    ),
    _Format(
        re.compile(rb".{4}ftyp(avi[fs]|m[is]f1.{4}(.{4})*avi[fs])", re.DOTALL),
        AvifImagePlugin.AvifImageFile,
        (".avif", ".avifs"),
        ("image/avif",),
    ),
    _Format(
        re.compile(rb".{4}ftyp(he(ic|ix|im|is|vc|vx|vm|vs)|m[is]f1)", re.DOTALL),
        _read_heif,
        (".heic", ".heif", ".hif"),
        ("image/heic", "image/heif"),
        package="pillow_heif",
        needs=_NEEDS_HEIF,
    ),
)

IMAGE_SUFFIXES = tuple(suffix for known in _FORMATS for suffix in known.suffixes)
"""The suffixes of image files, in lower case; `readable_suffixes` returns the ones that can be read here."""
MEDIA_TYPES = tuple(media_type for known in _FORMATS for media_type in known.media_types)
"""The media types of image files."""


def readable_suffixes() -> tuple[str, ...]:
    """The suffixes, in lower case, of image files whose format can be read with the packages that are installed."""
    return tuple(suffix for known in _FORMATS if known.readable for suffix in known.suffixes)


def needed(name: str) -> str | None:
    """What must be installed so that a file of this name can be read; None if nothing is known to help."""
    own = (known for known in _FORMATS if name.lower().endswith(known.suffixes) and not known.readable)
    return next((known.needs for known in own), None)


@contextmanager
def opened(file: BinaryIO) -> Iterator[ImageFile]:
    """Open an image and read its header but not its pixels; of several frames, the first one.

    Raises BadImage, also for any exception inside the `with` block.
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
    except Image.DecompressionBombError:  # some formats check before their size is known
        raise BadImage(f"too many pixels (at most {MOST_PIXELS // 1_000_000} million)") from None
    except Exception as error:  # noqa: BLE001 - damaged files cause exceptions of any kind
        raise BadImage("truncated" if _has_ended(error) else "truncated or damaged") from None


def check_whole(content: bytes) -> None:
    """Raise BadImage for truncated files that Pillow would accept."""
    if not _format(content[:_START]).is_whole(content):
        raise BadImage("truncated")


def has_several(image: ImageFile) -> bool:
    """Whether a file, whose pixels are not loaded yet, holds several frames or pages."""
    try:
        return bool(getattr(image, "is_animated", False))  # readers of formats with one frame do not have it
    except Exception:  # noqa: BLE001 - as above; the first frame may still be good
        return False


def orientation(image: ImageFile) -> int:
    """The EXIF orientation, 1 to 8; 1 if there is none or Pillow's reader applies it itself.

    A PNG may store it after its pixels.
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
    """Ignore Pillow's warnings about files from now on. Ignoring them temporarily would not be thread-safe."""
    first = warnings.filters[0] if warnings.filters else None
    if first is None or first[0] != "ignore" or first[3] != _SILENT:
        warnings.filterwarnings("ignore", module=_SILENT.pattern)
