"""Augmentation of a training batch, on the device of the batch; validation and serving do not use it.

All random numbers come from torch's global generator on the CPU, and checkpoints contain its state. So a resumed run
varies its examples as an uninterrupted run does, and a GPU as a CPU does.
"""

from torch import Tensor

from dle_training.augmentation.images import ImageAugmentation
from dle_training.augmentation.series import SeriesAugmentation
from dle_training.augmentation.settings import AugmentationConfig
from dle_training.preprocessing.shape import Inputs, InputShape
from dle_training.settings.base import chosen

IMAGES = ("flip", "shift", "rotation", "zoom", "shear", "brightness", "contrast", "erasing")
SERIES = ("jitter", "scaling", "slicing")
"""The settings for each kind of input."""


class Augmentation:
    """Varies images and series in the inputs of a training batch; labels and other inputs do not change.

    Call: inputs of N rows, on one device → a new dictionary with the same shapes. `image` becomes float32 in 0 to 255.
    """

    def __init__(self, images: ImageAugmentation | None, series: SeriesAugmentation | None) -> None:
        self.images = images
        self.series = series

    def __call__(self, inputs: Inputs) -> Inputs:
        varied: dict[str, Tensor] = dict(inputs)
        if self.images is not None:
            varied["image"] = self.images(inputs["image"])
        if self.series is not None:
            varied["sequence"], varied["lengths"] = self.series(inputs["sequence"], inputs["lengths"])
        return varied


def build(config: AugmentationConfig, shape: InputShape) -> Augmentation | None:
    """The augmentation that `config` sets for the inputs in `shape`; None if it sets none."""
    images = ImageAugmentation(config, shape.image) if shape.image is not None and _any(config, IMAGES) else None
    series = None
    if shape.sequence is not None and _any(config, SERIES):
        series = SeriesAugmentation(config, shape.sequence.indicators, shape.sequence.levels)
    return None if images is None and series is None else Augmentation(images, series)


def _any(config: AugmentationConfig, names: tuple[str, ...]) -> bool:
    return any(chosen(getattr(config, name)) for name in names)
