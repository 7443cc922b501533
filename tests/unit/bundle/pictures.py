"""Image files for tests, of every kind that is read."""

import io
import struct
import zlib
from typing import Any

import numpy as np
import pillow_heif
from PIL import Image

from dle_bundle.images.pixels import Pixels
from dle_bundle.schema import ImageShape

pillow_heif.register_heif_opener()  # Pillow cannot write HEIF by itself
GREY, RGB = (ImageShape(channels=channels, height=8, width=8) for channels in (1, 3))
GRID = np.arange(0, 256, 4, dtype=np.uint8).reshape(8, 8)
COLOUR = np.stack([GRID, GRID.T, 255 - GRID], axis=-1)  # (8, 8, 3)


def encode(image: Image.Image, kind: str = "png", **options: Any) -> bytes:
    out = io.BytesIO()
    if kind == "heif" and "exif" in options:  # whose writer takes the orientation from there alone
        image.info["exif"] = options.pop("exif").tobytes()
    image.save(out, kind, **options)
    return out.getvalue()


def grey_of(rgb: Pixels) -> Pixels:
    """(H, W, 3) to (H, W), as Pillow does it."""
    return np.asarray(Image.fromarray(rgb).convert("L"))


def png(width: int, height: int) -> bytes:
    """A PNG without pixels that declares so many."""

    def chunk(name: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", b"x") + chunk(b"IEND", b"")


FILES = {
    kind: encode(Image.fromarray(COLOUR).resize((32, 32), Image.Resampling.NEAREST), kind)
    for kind in ("png", "jpeg", "gif", "bmp", "webp", "tiff", "ppm", "jpeg2000", "avif", "heif")
}
