"""A file that is no image is refused with the reason, and never in another way."""

import contextlib
import sys
import warnings
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.unit.bundle.pictures import FILES, RGB, png

from dle_bundle.images import pixels as images
from dle_bundle.images.pixels import BadImage


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


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    for place, reason in ((tmp_path / "a.png", "no such file"), (tmp_path, "directory"), ("a\0b", "not a valid path")):
        with pytest.raises(BadImage, match=reason):
            images.read(str(place), RGB)
