"""Images of a training batch, varied: mirrored, moved, turned, brightened, blotted out.

Flip and shift, which the default recipe uses, are one gather of whole pixels, a tenth of what a warp costs (for 128
images of 28 × 28 on one core 0.2 ms against 2.3 ms with kornia, and 50 ms for the training step). The rest is kornia's,
which is imported only when a setting asks for it, for that takes a second.
"""

from collections.abc import Callable

import torch
from torch import Tensor

from dle_training.augmentation.settings import AugmentationConfig
from dle_training.preprocessing.shape import Images

_KORNIA = ("rotation", "zoom", "shear", "brightness", "contrast", "erasing")


class ImageAugmentation:
    """Varies each image by its own random draw; what leaves the frame is lost, and the border fills what enters.

    Call: uint8 (N, columns · C, H, W) → float32 of the same shape, in 0 to 255, on the same device.
    """

    def __init__(self, config: AugmentationConfig, images: Images) -> None:
        self.columns, self.channels = images.columns, images.channels
        self.flip = bool(config.flip)
        self.shift = config.shift or 0.0
        self.steps = _steps(config) if any(getattr(config, name) for name in _KORNIA) else []

    def __call__(self, images: Tensor) -> Tensor:
        pixels = images.reshape(len(images) * self.columns, self.channels, *images.shape[2:])
        if self.flip or self.shift:
            pixels = move(pixels, flip=self.flip, shift=self.shift)
        pixels = pixels.float()
        if self.steps:
            pixels = pixels / 255
            for step in self.steps:
                pixels = step(pixels)
            pixels = pixels * 255
        return pixels.reshape(images.shape)


def move(images: Tensor, *, flip: bool, shift: float) -> Tensor:
    """Each of (N, C, H, W) mirrored at random where `flip`, and moved by whole pixels, at most `shift` of each side."""
    count, channels, height, width = images.shape
    rows = (torch.arange(height) + _offsets(count, int(shift * height))).clamp_(0, height - 1)  # (N, H)
    columns = (torch.arange(width) + _offsets(count, int(shift * width))).clamp_(0, width - 1)  # (N, W)
    if flip:
        columns = torch.where(torch.rand(count, 1) < 0.5, width - 1 - columns, columns)
    places = rows[:, :, None] * width + columns[:, None, :]  # (N, H, W)
    index = places.view(count, 1, height * width).to(images.device).expand(-1, channels, -1)
    return images.flatten(2).gather(2, index).view(images.shape)


def _offsets(count: int, most: int) -> Tensor:
    """Whole numbers (count, 1) between −most and most."""
    return torch.randint(-most, most + 1, (count, 1))


def _steps(config: AugmentationConfig) -> list[Callable[[Tensor], Tensor]]:
    """Kornia's part, over float32 in [0, 1]: all that bends the frame in one warp, then light, then erasing."""
    from kornia import augmentation as kornia
    from kornia.enhance import adjust_contrast_with_mean_subtraction as around_mean

    steps: list[Callable[[Tensor], Tensor]] = []
    if config.rotation or config.zoom or config.shear:
        steps.append(
            kornia.RandomAffine(
                config.rotation,
                scale=_around_one(config.zoom) if config.zoom else None,
                shear=config.shear or None,
                padding_mode="border",
                p=1.0,
            )
        )
    if config.brightness:
        steps.append(kornia.RandomBrightness(_around_one(config.brightness), p=1.0))
    if config.contrast:
        least, most = _around_one(config.contrast)
        steps.append(lambda pixels: around_mean(pixels, _factors(len(pixels), least, most)))
    if config.erasing:
        steps.append(kornia.RandomErasing(p=config.erasing))
    return steps


def _factors(count: int, least: float, most: float) -> Tensor:
    """Random factors (count,) between the two."""
    return least + (most - least) * torch.rand(count)


def _around_one(fraction: float) -> tuple[float, float]:
    return 1 - fraction, 1 + fraction
