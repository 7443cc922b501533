"""Images that cannot be read are listed or, if the user says so, left out and counted; a lost class stops the run."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from dle_bundle.errors import InputError
from dle_training.config import run_config
from dle_training.data import dataset
from dle_training.data.dataset import Dataset

SKIP = "data.skip_bad=true"


@pytest.fixture
def folder(tmp_path: Path, seed: int) -> Path:
    """24 images of two classes."""
    random = np.random.default_rng(seed)
    for name in ("cats", "dogs"):
        (tmp_path / name).mkdir()
        for index in range(12):
            Image.fromarray(random.integers(0, 256, (16, 16), dtype=np.uint8)).save(tmp_path / name / f"{index:02}.png")
    return tmp_path


def load(folder: Path, *assignments: str) -> Dataset:
    return dataset.load(run_config.load(None, [f"data.source={folder}", *assignments], {}))


def break_three(folder: Path) -> None:
    """A truncated file, an empty file, and a text that is named like an image."""
    content = (folder / "00.png").read_bytes()
    (folder / "cut.png").write_bytes(content[: len(content) // 2])
    (folder / "empty.jpg").write_bytes(b"")
    (folder / "text.png").write_text("no image")


LINES = ["dogs/cut.png: truncated", "dogs/empty.jpg: empty", "dogs/text.png: not an image"]


def test_broken_files_are_refused_together(folder: Path) -> None:
    break_three(folder / "dogs")
    with pytest.raises(InputError, match="3 of 27 rows have an image that cannot be read") as caught:
        load(folder)
    assert [line.partition(": ")[2] for line in caught.value.details] == LINES
    assert f"set {SKIP}" in caught.value.message


def test_broken_files_are_left_out_counted_and_named(folder: Path) -> None:
    break_three(folder / "dogs")
    found = load(folder, SKIP)
    (note,) = found.notes
    assert note == (
        f"3 of 27 rows were left out for an image that cannot be read: {'; '.join(LINES)}; to refuse such images, set "
        "data.skip_bad=false"
    )
    assert sum(len(found.split.rows(name)) for name in ("train", "validation", "test")) == 24


@pytest.mark.parametrize("assignments", [(), (SKIP,)])
def test_a_class_of_broken_files_stops_the_run(assignments: tuple[str, ...], folder: Path) -> None:
    break_three(folder / "dogs")
    for file in (folder / "dogs").glob("[01]*.png"):
        file.unlink()
    (folder / "cats" / "cut.png").write_bytes(b"")
    with pytest.raises(InputError, match="no image of dogs can be read") as caught:
        load(folder, *assignments)
    assert caught.value.details == (
        "dogs: 3 images: truncated (dogs/cut.png); empty (dogs/empty.jpg); not an image (dogs/text.png)",
        "other classes: 1 image",
    )


def test_classes_of_broken_files_are_named_with_each_reason_once(folder: Path) -> None:
    for name in ("birds", "mice"):
        (folder / name).mkdir()
        for number in range(6):
            (folder / name / f"{number}.png").write_text("no image")
    with pytest.raises(InputError, match="no image of the classes birds, mice can be read") as caught:
        load(folder)
    files = [", ".join(f"{name}/{number}.png" for number in range(5)) for name in ("birds", "mice")]
    assert caught.value.details == (
        f"birds: 6 images: not an image ({files[0]} and 1 more)",
        f"mice: 6 images: not an image ({files[1]} and 1 more)",
    )


def test_images_that_are_all_broken_stop_the_run_whatever_the_target(tmp_path: Path) -> None:
    (tmp_path / "rows.csv").write_text("photo,y\n" + "".join(f"{row}.png,{row}.5\n" for row in range(9)))
    with pytest.raises(InputError, match="no image of all rows can be read") as caught:
        load(tmp_path / "rows.csv", "data.target=y", SKIP)
    assert caught.value.details[0].startswith("all rows: 9 images: no such file or directory (0.png, 1.png, ")


def test_files_with_other_suffixes_are_named_and_a_class_of_them_stops_the_run(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    (folder / "cats" / "a.heic").write_bytes(b"")
    hint = "HEIF (.heic) needs pillow-heif: pip install 'deep-learning-essentials[heif]'"
    (note,) = load(folder).notes
    assert note == (
        f"files not named like images that can be read were left out: 1 file, .heic (1): cats/a.heic; {hint}"
    )
    (folder / "birds").mkdir()
    (folder / "birds" / "a.heic").write_bytes(b"")
    with pytest.raises(InputError, match="class folders hold no file named like an image") as caught:
        load(folder)
    assert caught.value.details == (f"birds: 1 file, .heic (1): birds/a.heic; {hint}",)


def test_heif_is_read_beside_other_formats(folder: Path) -> None:
    import pillow_heif

    grey = Image.new("RGB", (16, 16), (90, 90, 90))
    pillow_heif.from_pillow(grey).save(folder / "cats" / "a.heic")
    found = load(folder)
    assert found.notes == ()
    assert np.abs(np.asarray(found.groups.image)[12].astype(int) - 90).max() <= 2  # after 00.png to 11.png


def test_files_of_several_frames_are_counted(folder: Path) -> None:
    frames = [Image.new("L", (16, 16), level) for level in (10, 200)]
    for name in ("dogs/moving.gif", "dogs/pages.tif"):
        frames[0].save(folder / name, save_all=True, append_images=frames[1:])
    found = load(folder)
    assert found.notes == (
        "2 images have several frames or pages, and the first is used: dogs/moving.gif; dogs/pages.tif",
    )
    assert np.asarray(found.groups.image)[-1].max() == 10
