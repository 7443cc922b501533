"""Statistics of images."""

import numpy as np
import pytest
from tests.unit.bundle.pictures import grey_of

from dle_bundle.images import pixels as images


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
