"""Folders of image files: what is read of them, and what is left out and reported."""

from pathlib import Path

import pytest

from dle_bundle.errors import InputError
from dle_bundle.images import pixels
from dle_bundle.tables import folders


def write(folder: Path, *names: str) -> Path:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(b"")
    return folder


@pytest.fixture
def without_heif(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)


def test_every_suffix_of_an_image_is_read(tmp_path: Path) -> None:
    names = [f"a/{index:02}{suffix}" for index, suffix in enumerate(pixels.IMAGE_SUFFIXES)]
    assert {".heic", ".avif", ".webp", ".tif", ".bmp", ".gif", ".jfif", ".jp2", ".jpg"} < set(pixels.IMAGE_SUFFIXES)
    table = folders.read(write(tmp_path, *names, "b/UPPER.JPG"))
    assert table.column("image").to_pylist() == [*names, "b/UPPER.JPG"]
    assert folders.left_out(tmp_path) == ()


@pytest.mark.usefixtures("without_heif")
def test_other_files_are_counted_and_named(tmp_path: Path) -> None:
    names = ["a/1.png", "b/1.png", "b/2.heic", "b/3.HEIC", "a/deep/4.tga", "a/LICENSE", ".hidden/5.tga", "b/.6.tga"]
    others = folders.left_out(write(tmp_path, *names))
    assert [file.as_posix() for file in others] == ["a/LICENSE", "a/deep/4.tga", "b/2.heic", "b/3.HEIC"]
    assert folders.described(others) == (
        "4 files, .heic (2), no suffix (1), .tga (1): a/LICENSE, a/deep/4.tga, b/2.heic, b/3.HEIC; HEIF (.heic) needs "
        "pillow-heif: pip install 'deep-learning-essentials[heif]'"
    )
    many = [Path(f"{index}.x{index}") for index in range(12)]
    assert folders.described(many).endswith(", .x9 (1), …: 0.x0, 1.x1, 2.x2, 3.x3, 4.x4, …")
    assert folders.lost(folders.read(tmp_path), others) == {}


@pytest.mark.usefixtures("without_heif")
@pytest.mark.parametrize("parts", [False, True])
def test_a_class_without_readable_images_is_lost(parts: bool, tmp_path: Path) -> None:
    first = "train/" if parts else ""
    names = [f"{first}cats/1.png", f"{first}dogs/1.heic", f"{first}dogs/more/2.heic", "notes.txt"]
    write(tmp_path, *names, *(["test/cats/1.png", "test/dogs/1.png"] if parts else []))
    found = folders.lost(folders.read(tmp_path), folders.left_out(tmp_path))
    files = [Path(f"{first}dogs/1.heic"), Path(f"{first}dogs/more/2.heic")]
    assert found == {f"{first}dogs": files}


@pytest.mark.usefixtures("without_heif")
def test_a_folder_of_other_files_alone(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"expected image files \(\.png, .*\), in the folder itself") as caught:
        folders.read(write(tmp_path, "a/1.heic", "b/2.tga"))
    (line,) = caught.value.details
    assert line.startswith("found 2 files, .heic (1), .tga (1): a/1.heic, b/2.tga; HEIF (.heic) needs pillow-heif: ")
    with pytest.raises(InputError) as caught:
        folders.read(write(tmp_path / "bare" / ".keep", "x").parent)
    assert caught.value.details == ()
