"""Images of any size and ratio are brought to the size of the model, and large ones take little memory."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from tests.unit.bundle.pictures import COLOUR, GREY, GRID, encode

from dle_bundle.images import pixels as images
from dle_bundle.schema import ImageFit, ImageShape


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
