"""Parts of a split share the array of all images, and answer as copies of its rows would."""

import numpy as np
import pytest
import torch

from dle_training.data.images.image_rows import ArrayStream, ImageRows


def test_rows_answer_as_a_copy_does(seed: int) -> None:
    images = np.random.default_rng(seed).integers(0, 256, (9, 3, 4, 5), dtype=np.uint8)
    rows = np.array([7, 0, 3, 3, 8])
    part, copy = ImageRows(images, rows), images[rows]
    assert (part.shape, len(part), part.ndim, part.dtype) == (copy.shape, 5, 4, copy.dtype)
    np.testing.assert_array_equal(part, copy)
    for index in (slice(1, 4), slice(None, None, 2), np.array([4, 0]), [2], copy[:, 0, 0, 0] > 100):
        some = part[index]
        assert isinstance(some, ImageRows)
        np.testing.assert_array_equal(some, copy[index])
    np.testing.assert_array_equal(part[:, 1:], copy[:, 1:])
    np.testing.assert_array_equal(part[2], copy[2])
    assert np.asarray(part, dtype=np.float32).dtype == np.float32
    with pytest.raises(ValueError, match="without a copy"):
        np.array(part, copy=False)


def test_rows_see_the_array_and_hold_no_copy() -> None:
    images = np.zeros((3, 1, 1, 1), dtype=np.uint8)
    part = ImageRows(images, np.array([2, 1]))[1:]
    images[1] = 5
    assert np.asarray(part).item() == 5


def test_a_stream_gives_the_rows_of_each_batch() -> None:
    images = np.arange(24, dtype=np.uint8).reshape(6, 1, 2, 2)
    stream = ArrayStream(images)
    assert stream.cells == 4
    wanted = [torch.tensor([5, 0]), torch.tensor([1]), torch.tensor([], dtype=torch.int64)]
    found = list(stream.batches(wanted))
    assert len(found) == 3
    for batch, rows in zip(found, wanted, strict=True):
        np.testing.assert_array_equal(batch, images[rows.numpy()])
