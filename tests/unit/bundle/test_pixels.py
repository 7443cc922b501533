"""Every kind of image file becomes the same pixels, or a reason why not."""

import contextlib
import io
import struct
import subprocess
import sys
import warnings
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pillow_heif
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from dle_bundle.errors import InputError
from dle_bundle.images import pixels as images
from dle_bundle.images.pixels import BadImage, ImageFiles, Pixels
from dle_bundle.schema import ImageFit, ImageShape

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


@pytest.mark.parametrize(("height", "width"), [(8, 8), (4, 12), (12, 4)])
@pytest.mark.parametrize("side", [(20, 30), (30, 20), (5, 6), (1, 1), (9, 400), (8, 9), (8, 12)])
def test_the_shorter_side_is_resized_and_the_rest_cropped_at_the_centre(
    side: tuple[int, int], height: int, width: int
) -> None:
    stripes = np.zeros(side, dtype=np.uint8)
    stripes[:, side[1] // 2 :] = 255
    pixels = images.decode(encode(Image.fromarray(stripes)), ImageShape(channels=1, height=height, width=width))[0]
    assert pixels.shape == (height, width)
    if side[1] > 1:
        assert pixels[:, 0].max() < 128 < pixels[:, -1].min()


@pytest.mark.parametrize(
    ("fit", "height", "width", "expected"),
    [
        ("crop", 10, 40, [[255] * 8] * 8),
        ("stretch", 10, 40, [[0] * 2 + [255] * 4 + [0] * 2] * 8),
        ("pad", 10, 40, [[128] * 8] * 3 + [[0] * 2 + [255] * 4 + [0] * 2] * 2 + [[128] * 8] * 3),
        ("pad", 40, 10, [[128] * 3 + [0] * 2 + [128] * 3] * 2 + [[128] * 3 + [255] * 2 + [128] * 3] * 4),
        ("pad", 8, 4, [[128] * 2 + [255] * 4 + [128] * 2] * 8),
        ("pad", 8, 3, [[128] * 2 + [255] * 3 + [128] * 3] * 8),
        ("pad", 1, 2_000, [[128] * 8] * 3 + [[0] * 2 + [255] * 4 + [0] * 2] + [[128] * 8] * 4),
    ],
)
def test_images_of_another_ratio(fit: ImageFit, height: int, width: int, expected: list[list[int]]) -> None:
    """A white image with black ends of a quarter, unless it is only 8 pixels long."""
    picture = np.full((height, width), 255, dtype=np.uint8)
    if width > 8:
        picture[:, : width // 4] = picture[:, -width // 4 :] = 0
    elif height > 8:
        picture[: height // 4] = picture[-height // 4 :] = 0
    shape = ImageShape(channels=1, height=8, width=8, fit=fit)
    found = images.decode(encode(Image.fromarray(picture)), shape)[0].astype(int)
    assert found.shape == (8, 8)
    wanted = np.array(expected)
    # a resize blurs the pixels beside an edge
    flat = np.abs(found[: len(wanted)] - wanted) <= 2
    edges = np.zeros_like(flat)
    edges[:, 1:] |= wanted[:, 1:] != wanted[:, :-1]
    edges[:, :-1] |= wanted[:, 1:] != wanted[:, :-1]
    edges[1:] |= wanted[1:] != wanted[:-1]
    edges[:-1] |= wanted[1:] != wanted[:-1]
    assert (flat | (edges & (wanted != 128))).all(), found


@given(
    st.integers(1, 60), st.integers(1, 60), st.integers(1, 20), st.integers(1, 20), st.sampled_from(["pad", "stretch"])
)
def test_no_corner_is_lost(tall: int, wide: int, height: int, width: int, fit: Any) -> None:
    """Images shrink by halves at least, where a bright corner may fade, but they are not cut."""
    corners = np.zeros((tall, wide), dtype=np.uint8)
    corners[:: max(tall - 1, 1), :: max(wide - 1, 1)] = 255
    found = images.decode(encode(Image.fromarray(corners)), ImageShape(channels=1, height=height, width=width, fit=fit))
    rows, columns = np.nonzero((found[0] != images.PADDING) | (fit == "stretch"))
    seen = found[0, rows.min() : rows.max() + 1, columns.min() : columns.max() + 1]
    if min(seen.shape) * 2 >= max(tall, wide):
        assert min(seen[0, 0], seen[0, -1], seen[-1, 0], seen[-1, -1]) > 40


def test_what_has_the_size_in_one_side_is_cropped_and_not_blurred() -> None:
    wide = np.tile(GRID, (1, 2))[:, :13]
    assert (images.decode(encode(Image.fromarray(wide)), GREY)[0] == wide[:, 2:10]).all()


def test_a_resized_image_is_smooth() -> None:
    chequered = (np.indices((64, 64)).sum(axis=0) % 2 * 255).astype(np.uint8)
    assert np.abs(images.decode(encode(Image.fromarray(chequered)), GREY)[0].astype(int) - 128).max() < 8


def test_a_line_of_an_image_takes_no_more_memory_than_it_should() -> None:
    assert images.decode(encode(Image.new("L", (65_000, 1), 9)), GREY).tolist() == np.full((1, 8, 8), 9).tolist()


PEAK = """
import sys
from dle_bundle.images import pixels as images
from dle_bundle.schema import ImageShape

def peak():
    with open("/proc/self/status") as status:
        return next(int(line.split()[1]) for line in status if line.startswith("VmHWM")) * 1024

shape, place = ImageShape(channels=int(sys.argv[2]), height=8, width=8), sys.argv[1]
images.read(sys.argv[3], shape)
before = peak()
images.read(place, shape)
print(peak() - before)
"""


def of_mode(mode: str, side: int) -> bytes:
    """The content of a file whose pixels Pillow holds in this mode."""
    ramp = Image.linear_gradient("L").resize((side, side), Image.Resampling.NEAREST)
    if mode in ("I;16", "I", "F"):
        levels = np.asarray(ramp).astype({"I;16": np.uint16, "I": np.int32, "F": np.float32}[mode])
        return encode(Image.fromarray(levels), "tiff")
    options = {"transparency": bytes(range(256))} if mode == "P" else {}
    return encode(ramp.convert(mode), "tiff" if mode == "CMYK" else "png", **options)


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="the system does not tell the peak")
@pytest.mark.parametrize(
    ("mode", "cell"),
    [("L", 1), ("P", 1), ("RGB", 4), ("LA", 4), ("RGBA", 4), ("CMYK", 4), ("I;16", 2), ("I", 4), ("F", 4)],
)
def test_a_large_image_takes_little_more_memory_than_its_pixels(mode: str, cell: int, tmp_path: Path) -> None:
    (tmp_path / "large").write_bytes(of_mode(mode, 3_000))
    (tmp_path / "small").write_bytes(of_mode(mode, 400))
    told = [str(tmp_path / "large"), "3", str(tmp_path / "small")]
    done = subprocess.run([sys.executable, "-c", PEAK, *told], capture_output=True, text=True, check=True)
    content = (tmp_path / "large").stat().st_size
    assert 3_000**2 * cell * 0.9 < int(done.stdout) < 3_000**2 * cell * 1.7 + content


@pytest.mark.parametrize("turn", range(1, 9))
@pytest.mark.parametrize("side", [(90, 70), (64, 200), (200, 64), (1, 500)])
@pytest.mark.parametrize("mode", ["L", "P", "RGBA", "I;16", "F"])
def test_blocks_give_the_pixels_of_the_whole(
    turn: int, side: tuple[int, int], mode: str, monkeypatch: pytest.MonkeyPatch, seed: int
) -> None:
    random = np.random.default_rng(seed)
    if mode in ("I;16", "F"):
        levels = random.integers(0, 65_536, side).astype(np.uint16 if mode == "I;16" else np.float32)
        image = Image.fromarray(levels)
    else:
        colours = Image.fromarray(random.integers(0, 256, (*side, 4), dtype=np.uint8))
        image = colours if mode == "RGBA" else colours.convert("RGB").convert(mode)
    exif = Image.Exif()
    exif[0x0112] = turn
    content = encode(image, "tiff") if mode == "F" else encode(image, exif=exif)
    shapes = [ImageShape(channels=3, height=64, width=40, fit=fit) for fit in ("crop", "pad", "stretch")]
    for shape in (GREY, *shapes):
        whole = images.decode(content, shape)
        with monkeypatch.context() as patch:
            patch.setattr(images, "_SMALL_PIXELS", 0)
            patch.setattr(images, "_BLOCK_PIXELS", 1_000)
            blocks = images.decode(content, shape)
        assert np.abs(blocks.astype(int) - whole).max() <= 1


@pytest.mark.parametrize("turned", [False, True])
def test_a_large_jpeg_is_read_at_a_fraction_of_its_size_and_looks_the_same(turned: bool) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6 if turned else 1
    large = Image.fromarray(COLOUR).resize((800, 600), Image.Resampling.BICUBIC)
    shape = ImageShape(channels=3, height=32, width=24)
    fast, exact = (images.decode(encode(large, *kind, exif=exif), shape) for kind in (("jpeg",), ("png",)))
    assert np.abs(fast.astype(int) - exact).mean() < 2


def test_too_many_pixels() -> None:
    for width, height in ((100_000, 100_000), (10_000, 6_401), (2**31 - 1, 1)):
        with pytest.raises(BadImage, match=f"too many pixels \\({width:,} × {height:,}"):
            images.decode(png(width, height), RGB)
        with pytest.raises(BadImage, match="too many pixels"):
            images.measure(png(width, height))


@pytest.mark.parametrize("kind", FILES)
def test_truncated_files_are_refused(kind: str) -> None:
    content = FILES[kind]
    for left in (len(content) // 2, len(content) * 9 // 10, len(content) - 9):
        with pytest.raises(BadImage, match=r"^truncated"):
            images.decode(content[:left], RGB)


def test_heif_needs_its_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    assert ".heic" in images.readable_suffixes()
    monkeypatch.setitem(sys.modules, "pillow_heif", None)
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(
        BadImage, match=r"^HEIF \(\.heic\) needs pillow-heif: pip install 'deep-learning-essentials\[heif\]'$"
    ):
        images.decode(FILES["heif"], RGB)
    assert ".heic" not in images.readable_suffixes()
    assert ".avif" in images.readable_suffixes()
    assert images.decode(FILES["avif"], RGB).shape == (3, 8, 8)


@pytest.mark.parametrize(
    ("content", "reason"), [(b"", "empty"), (b"a,b\n1,2\n", "not an image"), (b"%PDF-1.7", "not an image")]
)
def test_what_is_no_image(content: bytes, reason: str) -> None:
    with pytest.raises(BadImage, match=f"^{reason}$"):
        images.decode(content, RGB)


@given(st.binary(max_size=200), st.sampled_from(sorted(FILES)), st.booleans())
def test_any_bytes_are_an_image_or_a_bad_one(tail: bytes, kind: str, headed: bool) -> None:
    content = FILES[kind][:16] + tail if headed else tail
    for function in (lambda: images.decode(content, RGB), lambda: images.measure(content)):
        settled(function)


@given(st.sampled_from(sorted(FILES)), st.data())
def test_any_damage_to_an_image_leaves_an_image_or_a_bad_one(kind: str, data: st.DataObject) -> None:
    content = bytearray(FILES[kind])
    for _ in range(data.draw(st.integers(1, 8))):
        content[data.draw(st.integers(0, min(len(content) - 1, 400)))] = data.draw(st.integers(0, 255))
    settled(lambda: images.decode(bytes(content), RGB))


def settled(function: Callable[[], object]) -> None:
    """The function succeeds or raises BadImage; it does not fail in another way, nor warn."""
    with warnings.catch_warnings(), contextlib.suppress(BadImage):
        warnings.simplefilter("error")
        function()


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


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    for place, reason in ((tmp_path / "a.png", "no such file"), (tmp_path, "directory"), ("a\0b", "not a valid path")):
        with pytest.raises(BadImage, match=reason):
            images.read(str(place), RGB)


@pytest.mark.parametrize("shape", [GREY, RGB, ImageShape(channels=3, height=5, width=4)])
def test_arrays_follow_the_rules_of_files(shape: ImageShape) -> None:
    wide = np.concatenate([COLOUR, COLOUR[:, :3]], axis=1)
    alpha = np.dstack([wide, np.full(wide.shape[:2], 128, dtype=np.uint8)])
    for array in (wide, wide[..., 0], alpha):
        wanted = images.decode(encode(Image.fromarray(array)), shape)
        given = [array, array.transpose(2, 0, 1)] if array.ndim == 3 else [array, array[..., None], array[None]]
        for form in given:
            assert (images.fit(form, shape) == wanted).all()


@pytest.mark.parametrize("shape", [(8,), (8, 8, 2), (2, 8, 8), (1, 3, 8, 8), (0, 8)])
def test_arrays_that_are_no_image(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="expected an image"):
        images.fit(np.zeros(shape, dtype=np.uint8), RGB)


def levels(count: int) -> list[bytes]:
    return [encode(Image.new("L", (8, 8), 10 + index)) for index in range(count)]


def test_files_stand_in_for_the_array(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(levels(1)[0])
    files = ImageFiles([str(tmp_path / "a.png"), b"", *levels(4)[2:]], GREY)
    array = np.asarray(files)
    assert array[:, 0, 0, 0].tolist() == [10, 0, 12, 13]
    assert (files.shape, files.ndim, files.dtype, len(files)) == (array.shape, array.ndim, array.dtype, len(array))
    for index in (slice(1, 3), slice(None, None, 2), np.array([3, 0, 3]), np.array([True, False, True, False])):
        taken = files[index]
        assert isinstance(taken, ImageFiles)
        assert taken.shape == array[index].shape
        assert (np.asarray(taken) == array[index]).all()
    assert (files[2] == array[2]).all()
    assert (files[1, 0] == array[1, 0]).all()
    assert (files[:, :1, 2] == array[:, :1, 2]).all()
    assert np.asarray(files, dtype=np.float32).dtype == np.float32
    assert (np.concatenate([files, files[:1]]) == np.concatenate([array, array[:1]])).all()


def test_several_images_of_a_row_stand_one_after_another() -> None:
    files = ImageFiles(levels(6), RGB)
    pairs = files.reshape(3, -1, 8, 8)
    assert pairs.shape == (3, 6, 8, 8)
    assert (np.asarray(pairs) == np.asarray(files).reshape(3, -1, 8, 8)).all()
    assert np.asarray(pairs[1:])[:, ::3, 0, 0].tolist() == [[12, 13], [14, 15]]
    for shape in ((4, -1, 8, 8), (3, -1, 4, 16), (3, 3, 8, 8)):
        with pytest.raises(ValueError, match="cannot reshape"):
            files.reshape(*shape)


def test_a_file_that_has_gone_since() -> None:
    with pytest.raises(InputError, match=r"gone\.png: no such file"):
        np.asarray(ImageFiles(["gone.png"], GREY))


def test_statistics_say_what_they_are_called() -> None:
    flat, dark = np.full((1, 9, 9), 100, dtype=np.uint8), np.zeros((1, 9, 9), dtype=np.uint8)
    chequered = (np.indices((1, 9, 9)).sum(axis=0) % 2 * 255).astype(np.uint8)
    found = images.statistics(np.stack([flat, dark, chequered]))
    assert tuple(found) == images.STATISTICS
    assert all(values.dtype == np.float32 for values in found.values())
    assert found["brightness"] == pytest.approx([100 / 255, 0, 40 / 81])
    assert found["contrast"] == pytest.approx([0, 0, np.std(chequered) / 255])
    assert found["sharpness"] == pytest.approx([0, 0, 1])


@pytest.mark.parametrize("channels", [1, 3])
def test_statistics_do_not_depend_on_the_company(channels: int, seed: int) -> None:
    pixels = np.random.default_rng(seed).integers(0, 256, (300, channels, 28, 30), dtype=np.uint8)
    together = images.statistics(pixels)
    for row in (0, 170, 299):
        for name, values in images.statistics(pixels[row : row + 1]).items():
            assert values[0] == together[name][row]
    grey = pixels[:, 0] if channels == 1 else np.stack([grey_of(image.transpose(1, 2, 0)) for image in pixels])
    assert together["brightness"] == pytest.approx(grey.mean(axis=(1, 2)) / 255, abs=0.01)
    assert together["contrast"] == pytest.approx(grey.std(axis=(1, 2)) / 255, abs=0.01)


def test_statistics_of_little() -> None:
    assert images.statistics(np.zeros((0, 3, 8, 8), dtype=np.uint8))["contrast"].shape == (0,)
    assert images.statistics(np.full((2, 1, 2, 5), 255, dtype=np.uint8))["sharpness"].tolist() == [0, 0]
