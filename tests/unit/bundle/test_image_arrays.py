"""Arrays follow the rules of image files, and files stand in for arrays."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from tests.unit.bundle.pictures import COLOUR, GREY, RGB, encode

from dle_bundle.errors import InputError
from dle_bundle.images import pixels as images
from dle_bundle.images.pixels import ImageFiles
from dle_bundle.schema import ImageShape


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
