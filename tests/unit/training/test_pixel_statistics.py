"""The statistics by which encoders standardise pixels."""

import numpy as np
import pytest

from dle_training.preprocessing import pixels


@pytest.mark.parametrize("columns", [1, 2])
def test_mean_and_spread_are_those_of_all_pixels(columns: int, seed: int) -> None:
    images = np.random.default_rng(seed).integers(0, 200, (150, 3 * columns, 5, 7), dtype=np.uint8)
    images[:, ::3] //= 4
    fitted = pixels.fit(images, 3)
    levels = images.reshape(-1, 3, 5, 7) / 255
    np.testing.assert_allclose(fitted.mean, levels.mean(axis=(0, 2, 3)), rtol=1e-12)
    np.testing.assert_allclose(fitted.std, levels.std(axis=(0, 2, 3)), rtol=1e-9)


def test_images_of_one_level_have_the_least_spread() -> None:
    assert pixels.fit(np.full((3, 1, 2, 2), 9, dtype=np.uint8), 1).std == (pixels.LEAST_STD,)
