"""Images that are far from the model's ratio of sides are padded by default, and what is cut off is reported."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import dle_training
from dle_training.config import run_config
from dle_training.data import dataset
from dle_training.data.dataset import Dataset
from dle_training.data.images import image_fit


def test_photographs_are_cropped_and_long_images_padded() -> None:
    square, photograph, wide, high = (64, 64), (333, 500), (100, 161), (161, 100)
    assert image_fit.choose([square] * 9, 64, 64) == ("crop", None)
    assert image_fit.choose([], 64, 64) == ("crop", None)
    assert image_fit.choose([(60, 64)] * 9, 64, 64) == ("crop", None)
    fit, note = image_fit.choose([photograph] * 3 + [square] * 7, 64, 64)
    assert fit == "crop"
    assert note == (
        "images are cropped at the centre to 64 × 64 pixels, and 3 of 10 lose more than 10% of a side; to keep them "
        "whole, set preprocessing.image_fit=pad"
    )
    assert image_fit.choose([photograph] * 18 + [wide, high], 64, 64)[0] == "crop"
    fit, note = image_fit.choose([photograph] * 17 + [wide, wide, high], 64, 64)
    assert fit == "pad"
    assert note is not None
    assert note.startswith("3 of 20 images are more than 1.6 times too wide or too high for 64 × 64 pixels")
    assert note.endswith("set 'preprocessing.image_size=[56, 80]'")
    fit, note = image_fit.choose([(1, 100_000)] * 5, 64, 64)
    assert fit == "pad"
    assert note is not None
    assert note.endswith("set 'preprocessing.image_size=[8, 1024]'")
    assert image_fit.choose([(100, 400)] * 9, 32, 128) == ("crop", None)


def write(folder: Path, count: int = 60) -> str:
    """Images of 400 × 100 pixels; a dark square at the left or the right end is the class."""
    random = np.random.default_rng(0)
    for name in ("left", "right"):
        (folder / name).mkdir(parents=True)
        for index in range(count):
            pixels = random.integers(90, 166, (100, 400), dtype=np.uint8)
            top, first = random.integers(0, 70), random.integers(0, 20)
            first = first if name == "left" else 370 - first
            pixels[top : top + 30, first : first + 30] = random.integers(0, 60)
            Image.fromarray(pixels).save(folder / name / f"{index:03}.png")
    return str(folder)


def load(source: str, *assignments: str) -> Dataset:
    return dataset.load(run_config.load(None, [f"data.source={source}", *assignments], {}))


def test_the_choice_stands_in_the_schema_and_the_note_names_the_others(tmp_path: Path) -> None:
    source = write(tmp_path / "ends", 4)
    found = load(source)
    form = found.schema.image[0].image
    assert form is not None
    assert (form.fit, form.height, form.width) == ("pad", 64, 64)
    assert (np.asarray(found.groups.image)[:, :, :24] == 128).all()
    (note,) = found.notes
    assert "set preprocessing.image_fit=crop" in note
    assert "set 'preprocessing.image_size=[32, 128]'" in note
    for fit in ("crop", "stretch", "pad"):
        asked = load(source, f"preprocessing.image_fit={fit}")
        assert asked.schema.image[0].image is not None
        assert asked.schema.image[0].image.fit == fit
        assert asked.notes == ()
    (tmp_path / "rows.csv").write_text(
        "photo,y\n" + "".join(f"ends/{side}/{row:03}.png,{side}\n" for side in ("left", "right") for row in range(4))
    )
    table = load(str(tmp_path / "rows.csv"), "data.target=y")
    assert table.schema.image[0].image == form
    np.testing.assert_array_equal(table.groups.image, found.groups.image)


def test_a_given_test_part_has_no_say(tmp_path: Path) -> None:
    for part, mode, size in (("train", "L", (90, 90)), ("test", "RGB", (400, 100))):
        for name in ("dark", "light"):
            (tmp_path / part / name).mkdir(parents=True)
            for index in range(8):
                Image.new(mode, size, "grey" if name == "dark" else "white").save(
                    tmp_path / part / name / f"{index}.png"
                )
    found = load(str(tmp_path))
    form = found.schema.image[0].image
    assert form is not None
    assert (form.fit, form.channels, form.height, form.width) == ("crop", 1, 90, 90)
    assert not [note for note in found.notes if "image_fit" in note]


@pytest.mark.parametrize(("settings", "least", "most"), [({}, 0.95, 1), ({"image_fit": "crop"}, 0.2, 0.8)])
def test_an_object_at_the_end_is_seen_unless_it_is_cropped(
    settings: dict[str, str], least: float, most: float, tmp_path: Path
) -> None:
    own: dict[str, Any] = {"training": {"epochs": 4}, "model.cnn.width": 8, "device": "cpu", "preprocessing": settings}
    run = dle_training.train(write(tmp_path / "ends"), out=tmp_path / "run", progress=False, **own)
    assert run.config.preprocessing.image_fit == settings.get("image_fit", "pad")
    accuracy = run.evaluate().test["accuracy"]
    assert accuracy is not None
    assert least <= accuracy <= most
