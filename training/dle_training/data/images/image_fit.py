"""Chooses how images get the ratio of sides that the model reads: cropped, padded or stretched.

A crop keeps the most pixels of what is at the centre, and suits photographs, whose sides differ by up to a factor of
1.6. What stands at the ends of a longer image is lost, so such images are padded.
"""

import math
import statistics
from collections.abc import Sequence

from dle_bundle.errors import counted
from dle_bundle.schema import ImageFit
from dle_training.preprocessing.settings import LARGEST_SIDE
from dle_training.settings.proposals import setting

FAR, FEW = 1.6, 0.1
"""Images are padded if more than `FEW` of them are by more than `FAR` too wide or too high for the model's ratio."""
_MULTIPLE = 8
_NOTED = 0.1
"""A crop that takes more than this share of a side is reported."""


def choose(sizes: Sequence[tuple[int, int]], height: int, width: int) -> tuple[ImageFit, str | None]:
    """Return the fit of images of these `sizes` (height, width) to `height` × `width`, and a note for the user."""
    factors = [_factor(tall / wide, height / width) for tall, wide in sizes]
    far = sum(factor > FAR for factor in factors)
    if far > FEW * len(sizes):
        found = f"{far:,} of {counted(len(sizes), 'image')} {'is' if far == 1 else 'are'}"
        return "pad", (
            f"{found} more than {FAR} times too wide or too high for {width} × {height} pixels, so images are padded "
            f"with grey; to cut off the ends, set {_setting('crop')}; to distort the images, set "
            f"{_setting('stretch')}; to give the model the shape of most images, set "
            f"{setting('preprocessing.image_size', _shape_of_most(sizes, height, width))}"
        )
    cut = sum(1 - 1 / factor > _NOTED for factor in factors)
    if not cut:
        return "crop", None
    return "crop", (
        f"images are cropped at the centre to {width} × {height} pixels, and {cut:,} of {len(sizes):,} "
        f"{'loses' if cut == 1 else 'lose'} more than {_NOTED:.0%} of a side; to keep them whole, set "
        f"{_setting('pad')}"
    )


def _shape_of_most(sizes: Sequence[tuple[int, int]], height: int, width: int) -> tuple[int, int]:
    """Return a height and width with about as many pixels as `height` × `width`, in the median ratio of `sizes`."""
    ratio = statistics.median(wide / tall for tall, wide in sizes)
    area = height * width
    return _whole(math.sqrt(area / ratio)), _whole(math.sqrt(area * ratio))


def _whole(side: float) -> int:
    """The nearest multiple of `_MULTIPLE` within the limits of the setting."""
    return min(max(round(side / _MULTIPLE), 1) * _MULTIPLE, LARGEST_SIDE)


def _factor(one: float, other: float) -> float:
    return max(one / other, other / one)


def _setting(fit: ImageFit) -> str:
    return setting("preprocessing.image_fit", fit)
