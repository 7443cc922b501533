"""Every kind of image file becomes the same pixels."""

import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from tests.unit.bundle.pictures import COLOUR, FILES, GREY, GRID, RGB, encode, grey_of

from dle_bundle.images import pixels as images
from dle_bundle.schema import ImageShape


@pytest.mark.parametrize("kind", ["png", "bmp", "tiff", "ppm", "jpeg2000"])
def test_lossless_files_keep_every_pixel(kind: str) -> None:
    content = encode(Image.fromarray(COLOUR), kind)
    assert (images.decode(content, RGB) == COLOUR.transpose(2, 0, 1)).all()
    assert (images.decode(content, GREY)[0] == grey_of(COLOUR)).all()
    assert (images.decode(encode(Image.fromarray(GRID), kind), RGB) == GRID).all()


@pytest.mark.parametrize("kind", FILES)
def test_every_format_gives_about_the_same_pixels(kind: str) -> None:
    pixels = images.decode(FILES[kind], RGB)
    assert pixels.dtype == np.uint8
    assert pixels.flags.c_contiguous
    assert np.abs(pixels.astype(int) - COLOUR.transpose(2, 0, 1)).mean() < 8


def test_a_bilevel_image() -> None:
    assert (images.decode(encode(Image.fromarray(GRID > 100)), GREY)[0] == np.where(GRID > 100, 255, 0)).all()


def test_palettes_are_expanded() -> None:
    palette = Image.fromarray(COLOUR).quantize(16)
    wanted = np.asarray(palette.convert("RGB"))
    assert (images.decode(encode(palette), RGB) == wanted.transpose(2, 0, 1)).all()


@pytest.mark.parametrize("mode", ["LA", "RGBA"])
def test_transparent_parts_are_white_and_half_transparent_ones_half_white(mode: str) -> None:
    image = Image.new(mode, (8, 8), (0, 0) if mode == "LA" else (0, 0, 0, 0))
    image.paste((100, 255) if mode == "LA" else (100, 100, 100, 255), (0, 0, 8, 2))
    image.paste((100, 128) if mode == "LA" else (100, 100, 100, 128), (0, 2, 8, 4))
    for shape in (GREY, RGB):
        pixels = images.decode(encode(image), shape)
        assert (pixels[:, :2] == 100).all()
        assert (np.abs(pixels[:, 2:4].astype(int) - 177) <= 1).all()
        assert (pixels[:, 4:] == 255).all()


@pytest.mark.parametrize("transparency", [0, bytes([0, 255, 255])])
def test_transparent_colours_of_a_palette_are_white(transparency: int | bytes) -> None:
    image = Image.new("P", (8, 8), 0)
    image.putpalette([10, 20, 30, 40, 50, 60, 70, 80, 90])
    image.paste(1, (0, 0, 8, 4))
    pixels = images.decode(encode(image, transparency=transparency), RGB)
    assert pixels[:, 0, 0].tolist() == [40, 50, 60]
    assert pixels[:, 7, 0].tolist() == [255, 255, 255]


@pytest.mark.parametrize(("mode", "colour"), [("L", 7), ("RGB", (7, 8, 9)), ("1", 0), ("I;16", 1799)])
def test_one_transparent_colour_is_white(mode: str, colour: Any) -> None:
    image = Image.new(mode, (8, 8), colour)
    assert (images.decode(encode(image, transparency=colour), RGB) == 255).all()


def test_sixteen_bits_are_scaled() -> None:
    levels = np.linspace(0, 65_535, 64).astype(np.uint16).reshape(8, 8)
    wanted = np.rint(levels / 257)
    for kind in ("png", "tiff", "ppm"):
        assert (images.decode(encode(Image.fromarray(levels), kind), GREY)[0] == wanted).all(), kind
    assert (images.decode(encode(Image.fromarray(levels)), RGB) == wanted).all()


@pytest.mark.parametrize(("most", "remarks"), [(4_095, ("dim",)), (4_096, ())])
def test_sixteen_bits_that_are_hardly_used_are_remarked(most: int, remarks: tuple[str, ...]) -> None:
    levels = np.linspace(0, most, 64).astype(np.uint16).reshape(8, 8)
    others = Image.frombytes("I;16B", (8, 8), levels.astype(">u2").tobytes())
    for content in (*(encode(Image.fromarray(levels), kind) for kind in ("png", "tiff")), encode(others, "tiff")):
        assert images.decode_remarked(content, GREY).remarks == remarks
        assert images.decode(content, GREY)[0, 7, 7] == round(most / 257)


def test_sixteen_bits_of_three_channels_are_scaled() -> None:
    levels = np.full((8, 8, 3), (65_535, 32_768, 255), dtype=np.uint16)
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in levels)
    parts = (b"IHDR", struct.pack(">IIBBBBB", 8, 8, 16, 2, 0, 0, 0)), (b"IDAT", zlib.compress(rows)), (b"IEND", b"")
    body = b"".join(
        struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data)) for name, data in parts
    )
    pixels = images.decode(b"\x89PNG\r\n\x1a\n" + body, RGB)
    assert pixels[:, 3, 3].tolist() == [255, 128, 0]


@pytest.mark.parametrize("most", [1, 255, 65_535])
def test_real_levels_are_scaled_by_the_range_that_they_keep_to(most: int) -> None:
    levels = np.linspace(0, most, 64, dtype=np.float32).reshape(8, 8)
    assert (images.decode(encode(Image.fromarray(levels), "tiff"), GREY)[0] == np.rint(levels / most * 255)).all()


def test_levels_that_are_no_numbers() -> None:
    levels = np.full((8, 8), np.nan, dtype=np.float32)
    levels[0, 0] = -np.inf
    assert (images.decode(encode(Image.fromarray(levels), "tiff"), GREY) == 0).all()


def test_whole_numbers_of_32_bits() -> None:
    image = Image.fromarray(np.linspace(0, 65_535, 64).astype(np.int32).reshape(8, 8))
    assert images.decode(encode(image, "tiff"), GREY)[0, 7, 7] == 255
    dark = Image.fromarray(np.full((8, 8), 200, dtype=np.int32))
    assert (images.decode(encode(dark, "tiff"), GREY) == 200).all()


@pytest.mark.parametrize("kind", ["jpeg", "tiff"])
def test_cmyk(kind: str) -> None:
    image = Image.new("CMYK", (8, 8), (0, 255, 255, 0))  # red
    red, green, blue = images.decode(encode(image, kind), RGB)[:, 4, 4].tolist()
    assert red > 245
    assert green < 10
    assert blue < 10


@pytest.mark.parametrize("kind", ["jpeg", "png", "webp", "tiff", "avif", "heif"])
@pytest.mark.parametrize("turn", range(1, 9))
def test_images_are_turned_upright(kind: str, turn: int) -> None:
    """Each orientation by EXIF's own words: what row 0 and column 0 of the stored image are of the scene."""
    scene = np.zeros((16, 24), dtype=np.uint8)
    scene[:8, :8], scene[:8, 16:], scene[8:, :8] = 250, 170, 90  # top left, top right, bottom left
    stored = {
        1: scene,
        2: scene[:, ::-1],
        3: scene[::-1, ::-1],
        4: scene[::-1],
        5: scene.T,
        6: scene.T[::-1],
        7: scene.T[::-1, ::-1],
        8: scene.T[:, ::-1],
    }[turn]
    exif = Image.Exif()
    exif[0x0112] = turn
    content = encode(Image.fromarray(np.ascontiguousarray(stored)), kind, exif=exif)
    pixels = images.decode(content, ImageShape(channels=1, height=16, width=24))[0]
    assert np.abs(pixels.astype(int) - scene).mean() < 5
    assert images.measure(content)[1:] == (16, 24)


def test_an_exif_that_is_damaged_is_no_fault() -> None:
    content = encode(Image.fromarray(COLOUR), "jpeg", exif=b"Exif\0\0II*\0\x08\0\0\0\xff\xff\x12\x01\x03\0\xff\xff")
    assert images.decode(content, RGB).shape == (3, 8, 8)
    assert images.measure(content) == (True, 8, 8)


def test_the_first_frame_of_several() -> None:
    frames = [Image.new("P", (8, 8), colour) for colour in (1, 2, 0)]
    for frame in frames:
        frame.putpalette([0, 0, 0, 255, 0, 0, 0, 255, 0])
    for kind in ("gif", "png", "webp", "tiff", "avif"):
        still = [frame.convert("RGB") for frame in frames] if kind in ("webp", "avif") else frames
        content = encode(still[0], kind, save_all=True, append_images=still[1:])
        assert images.decode(content, RGB)[:, 4, 4].tolist() == pytest.approx([255, 0, 0], abs=4), kind
        assert images.decode_remarked(content, RGB).remarks == ("frames",), kind
        assert images.decode_remarked(encode(still[0], kind), RGB).remarks == (), kind


@pytest.mark.parametrize(
    ("image", "colour"),
    [
        (Image.new("L", (5, 7)), False),
        (Image.new("1", (5, 7)), False),
        (Image.new("LA", (5, 7)), False),
        (Image.new("I;16", (5, 7)), False),
        (Image.new("RGB", (5, 7)), True),
        (Image.fromarray(COLOUR).quantize(8).resize((5, 7)), True),
        (Image.fromarray(GRID).convert("RGB").quantize(8).resize((5, 7)), False),
    ],
)
def test_measures(image: Image.Image, colour: bool, tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(encode(image))
    assert images.measure(encode(image)) == images.measure(str(tmp_path / "a.png")) == (colour, 7, 5)


@pytest.mark.parametrize("suffix", images.IMAGE_SUFFIXES)
def test_suffixes_are_those_of_formats_that_are_read(suffix: str, tmp_path: Path) -> None:
    place = tmp_path / f"a{suffix}"
    Image.new("1" if suffix == ".pbm" else "L", (8, 8)).save(place)
    assert images.read(str(place), GREY).shape == (1, 8, 8)
