"""The model family `cnn`: a small residual network with batch normalisation, over images of any size.

Each stage is convolution → max-pooling → normalisation → ReLU, then residual blocks (He et al., "Deep Residual Learning
for Image Recognition", 2016). Because pooling comes early, the rest of the stage processes a quarter of the pixels.
"""

from typing import Annotated

from msgspec import Meta
from torch import Tensor, nn
from torch.nn import functional as F

from dle_training.models._base import Encoder
from dle_training.models.dropout import Dropout
from dle_training.models.family import SHIFTED_IMAGES, ModelFamily, Recipe
from dle_training.models.norm import BatchNorm2d
from dle_training.models.pixels import Standardised
from dle_training.preprocessing.shape import Inputs, InputShape
from dle_training.settings.base import Count, Settings
from dle_training.settings.dimensions import Choice, Float


class CnnConfig(Settings, frozen=True):
    """`cnn`: a residual network with batch normalisation, over images."""

    width: Annotated[Count, Meta(description="Channels of the first stage; each further stage has twice as many.")] = 16
    blocks: Annotated[
        tuple[Count, ...],
        Meta(description="Residual blocks of each stage; each stage halves the resolution, down to 2."),
    ] = (1, 1, 1)


_LARGE = 64
"""The first convolution halves sides of at least this length until they are shorter."""
_LEAST_SIDE = 2
"""Pooling never makes a side shorter: batch normalisation needs more than one value even for a single row."""


class Stage(nn.Module):
    """Convolution to `outputs` channels, max-pooling if `pool`, normalisation, ReLU.

    Shape: (N, inputs, H, W) → (N, outputs, ⌈H / stride⌉, ⌈W / stride⌉); `pool` halves height and width.

    Example:
        >>> import torch
        >>> Stage(3, 16)(torch.zeros(2, 3, 28, 28)).shape
        torch.Size([2, 16, 14, 14])
    """

    def __init__(self, inputs: int, outputs: int, *, stride: int = 1, pool: bool = True) -> None:
        super().__init__()
        self.convolution = nn.Conv2d(inputs, outputs, 2 * stride + 1, stride, padding=stride, bias=False)
        self.norm = BatchNorm2d(outputs)
        self.pool = pool

    def forward(self, maps: Tensor) -> Tensor:
        maps = self.convolution(maps)
        if self.pool:
            maps = F.max_pool2d(maps, 2)
        return F.relu(self.norm(maps))


class ResidualBlock(nn.Module):
    """Two convolutions with a shortcut around them: the input is added to their output.

    Shape: (N, width, H, W) → the same.

    Example:
        >>> import torch
        >>> ResidualBlock(16)(torch.zeros(2, 16, 14, 14)).shape
        torch.Size([2, 16, 14, 14])
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.first, self.first_norm = _convolution(width), BatchNorm2d(width)
        self.second, self.second_norm = _convolution(width), BatchNorm2d(width)

    def forward(self, maps: Tensor) -> Tensor:
        inner = F.relu(self.first_norm(self.first(maps)))
        return F.relu(maps + self.second_norm(self.second(inner)))


def _convolution(width: int) -> nn.Conv2d:
    return nn.Conv2d(width, width, 3, padding=1, bias=False)


class CnnEncoder(Encoder):
    """Stages of residual blocks, then the mean over the image; all image columns share the weights.

    The stride of the first convolution reduces large images, so that the other layers cost as much as for images of 32
    to 63 pixels. A stage that would reduce a side below 2 keeps the resolution.

    Shape: {"image": uint8 or float32 in 0 to 255 (N, columns · C, H, W)} → (N, columns · channels of the last stage).

    Example:
        >>> import torch
        >>> from dle_training.preprocessing.shape import Images
        >>> images = Images(columns=1, channels=1, height=28, width=28, mean=(0.3,), std=(0.35,))
        >>> encoder = CnnEncoder(CnnConfig(), InputShape(image=images), dropout=0.1)
        >>> encoder({"image": torch.zeros(5, 1, 28, 28, dtype=torch.uint8)}).shape
        torch.Size([5, 64])
    """

    def __init__(self, settings: CnnConfig, shape: InputShape, dropout: float) -> None:
        super().__init__()
        assert shape.image is not None
        images = shape.image
        self.standardised = Standardised(images.columns, images.mean, images.std)
        side, stride = min(images.height, images.width), 1
        while side // stride >= _LARGE:
            stride *= 2
        side //= stride
        layers: list[nn.Module] = []
        inputs, outputs = images.channels, settings.width
        for stage, blocks in enumerate(settings.blocks):
            pool = side // 2 >= _LEAST_SIDE
            side = side // 2 if pool else side
            layers.append(Stage(inputs, outputs, stride=stride if stage == 0 else 1, pool=pool))
            layers += [ResidualBlock(outputs) for _ in range(blocks)]
            inputs, outputs = outputs, 2 * outputs
        self.layers = nn.Sequential(*layers)
        self.dropout = Dropout(dropout)
        self.width = images.columns * inputs

    def forward(self, inputs: Inputs) -> Tensor:
        pixels = inputs["image"]  # (N, columns · C, H, W)
        maps: Tensor = self.layers(self.standardised(pixels))  # (N · columns, channels, h, w)
        # (N · columns, channels) → (N, columns · channels)
        features: Tensor = self.dropout(maps.mean((2, 3)).reshape(pixels.shape[0], self.width))
        return features


FAMILY = ModelFamily(
    name="cnn",
    description="Small residual network with batch normalisation.",
    reads=("image",),
    section="cnn",
    settings=CnnConfig,
    build=lambda settings, shape, slot: CnnEncoder(settings, shape, slot.dropout),
    dropout=0.1,
    recipe=Recipe(lr=3e-3, epochs=10, least_steps=1_200, largest_batch=128, augmentation=SHIFTED_IMAGES),
    space={
        "model.cnn.width": Choice((16, 32, 64)),
        "model.cnn.blocks": Choice(([1, 1], [1, 1, 1], [2, 2, 2], [1, 1, 1, 1])),
        "model.dropout": Float(0.0, 0.5),
        "augmentation.shift": Float(0.0, 0.2),
    },
)
