"""The model family `timm:NAME`: image backbones of the timm library, many of them with pretrained weights.

timm is an extra (`vision`) and needs a torchvision that fits the installed PyTorch. Published weights are downloaded
only when a run starts; a run that is opened again loads its own weights.
"""

import importlib
from types import ModuleType
from typing import Annotated, Any

import torch
from msgspec import Meta
from torch import Tensor, nn

from dle_bundle.errors import InputError, nearest
from dle_training.models._base import Encoder, matrices
from dle_training.models.dropout import Dropout
from dle_training.models.family import SHIFTED_IMAGES, ModelFamily, Recipe
from dle_training.models.pixels import Standardised
from dle_training.preprocessing.shape import Images, Inputs, InputShape
from dle_training.settings.base import Settings
from dle_training.settings.dimensions import Choice, Float
from dle_training.settings.proposals import setting


class BackboneConfig(Settings, frozen=True):
    """`timm:NAME`: a backbone of the timm library, over images (extra `vision`)."""

    pretrained: Annotated[bool, Meta(description="Download published weights and start from them.")] = True
    frozen: Annotated[bool, Meta(description="Do not change the backbone's weights; train the head alone.")] = False


BACKBONE = "timm:"
"""The prefix of an architecture's name in `model.name`."""
_COLOURS = 3
_OPERATORS = ("nms", "qnms")
"""Operators of torchvision's binary that its Python code extends on import."""


class BackboneEncoder(Encoder):
    """An architecture of timm without its head; `architecture` is its name in timm, with or without a tag.

    All image columns share the weights. Grey images are repeated to three channels. Pixels are standardised as the
    published weights expect, or by the statistics of the training part if `settings.pretrained` is off. `pretrained`
    says whether to load published weights now; pass False if the weights of a run are loaded next. With
    `settings.frozen` neither weights nor batch statistics change.

    Shape: {"image": uint8 or float32 in 0 to 255 (N, columns · C, H, W)} → (N, columns · features).

    Raises InputError if timm is not installed, if timm does not know the name, if the architecture cannot read images
    of this size, or if the published weights cannot be loaded.

    Example:
        >>> images = Images(columns=1, channels=1, height=32, width=32, mean=(0.3,), std=(0.35,))
        >>> encoder = BackboneEncoder(
        ...     BackboneConfig(pretrained=False),
        ...     InputShape(image=images),
        ...     dropout=0.0,
        ...     architecture="test_resnet",
        ...     pretrained=False,
        ... )
        >>> encoder({"image": torch.zeros(2, 1, 32, 32, dtype=torch.uint8)}).shape == (2, encoder.width)
        True
    """

    def __init__(
        self, settings: BackboneConfig, shape: InputShape, dropout: float, *, architecture: str, pretrained: bool
    ) -> None:
        super().__init__()
        assert shape.image is not None
        images, timm = shape.image, _import(architecture)
        _check_known(timm, architecture)
        self.repeats = _COLOURS if images.channels == 1 else 1
        self.backbone, features = _plain(timm, architecture, images)
        if pretrained:
            self.backbone = _pretrained(timm, architecture, images)
        mean, std = images.mean, images.std
        if settings.pretrained and self.repeats * images.channels == _COLOURS:
            expected = timm.data.resolve_model_data_config(self.backbone)
            mean, std = expected["mean"], expected["std"]
        else:
            mean, std = mean * self.repeats, std * self.repeats
        # part of the state dict, because the next release of timm may expect other statistics
        self.standardised = Standardised(images.columns, mean, std, persistent=True)
        self.frozen = settings.frozen
        self.backbone.requires_grad_(not self.frozen)
        self.dropout = Dropout(dropout)
        self.width = images.columns * features
        self.train()

    def train(self, mode: bool = True) -> "BackboneEncoder":
        """Set the mode as usual, but keep a frozen backbone in evaluation mode, so that its batch statistics stay."""
        super().train(mode)
        if self.frozen:
            self.backbone.eval()
        return self

    def forward(self, inputs: Inputs) -> Tensor:
        pixels = inputs["image"]  # (N, columns · C, H, W)
        if self.repeats > 1:  # (N, columns, H, W) → (N, columns · 3, H, W), each image beside itself
            pixels = pixels.repeat_interleave(self.repeats, dim=1)
        features: Tensor = self.backbone(self.standardised(pixels))  # (N · columns, features)
        whole: Tensor = self.dropout(features.reshape(pixels.shape[0], self.width))  # (N, columns · features)
        return whole

    def hidden_matrices(self) -> list[nn.Parameter]:
        return matrices(self.backbone)


def _import(architecture: str) -> ModuleType:
    """The timm package. Raises InputError that names what to install."""
    try:
        _import_torchvision()
        import timm
    except (ImportError, RuntimeError) as error:  # RuntimeError: a torchvision made for another PyTorch
        raise InputError(
            f"model.name: timm:{architecture} needs timm and the torchvision made for PyTorch {torch.__version__}, and "
            f"importing them failed ({str(error).splitlines()[0]}): pip install 'deep-learning-essentials[vision]', "
            "with torchvision from the same index as PyTorch"
        ) from None
    package: ModuleType = timm
    return package


def _import_torchvision() -> None:
    """Import torchvision, even if it was built for another build of PyTorch.

    The torchvision on PyPI needs CUDA. Beside a PyTorch for the CPU its binary is not loaded, and its import fails at
    missing operators. timm needs only torchvision's Python code, so this function declares the operators without code.
    """
    try:
        importlib.import_module("torchvision")
    except RuntimeError as error:
        if "torchvision::" not in str(error):
            raise
        for operator in _OPERATORS:
            torch.library.define(
                f"torchvision::{operator}", "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor"
            )


def _check_known(timm: ModuleType, architecture: str) -> None:
    known = timm.list_pretrained() if "." in architecture else timm.list_models()
    if architecture not in known:
        likely = nearest(architecture, known) or "; timm.list_models() lists the names"
        raise InputError(f"model.name: timm {timm.__version__} has no architecture {architecture!r}{likely}")


def _plain(timm: ModuleType, architecture: str, images: Images) -> tuple[nn.Module, int]:
    """The architecture with random weights, and its number of features, found by a run on empty images."""
    size = f"{images.height} × {images.width}"
    try:
        backbone = _create(timm, architecture, images, pretrained=False).eval()
        with torch.no_grad():
            features = backbone(torch.zeros(2, _channels(images), images.height, images.width))
    except (AssertionError, RuntimeError, TypeError, ValueError, ZeroDivisionError) as error:
        said = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise InputError(
            f"model.name: timm:{architecture} cannot read images of {size} pixels ({said}): choose another "
            "preprocessing.image_size (timm's own example has "
            f"{timm.models.get_pretrained_cfg(architecture).input_size[-1]}) or another architecture"
        ) from None
    if not isinstance(features, Tensor) or features.ndim != 2:
        raise InputError(f"model.name: timm:{architecture} does not give one vector per image; choose another")
    return backbone, features.shape[1]


def _pretrained(timm: ModuleType, architecture: str, images: Images) -> nn.Module:
    """The architecture with its published weights."""
    without = f"set {setting('model.timm.pretrained', False)} to start from random weights"
    published = timm.models.get_pretrained_cfg(architecture)
    if published is None or not published.has_weights:
        raise InputError(f"model.timm.pretrained: there are no published weights for timm:{architecture}; {without}")
    try:
        return _create(timm, architecture, images, pretrained=True)
    except Exception as error:  # noqa: BLE001 - the libraries for network, hub and files raise different types
        raise InputError(
            f"model.timm.pretrained: the published weights of timm:{architecture} cannot be loaded "
            f"({type(error).__name__}: {str(error).splitlines()[0]}): check the network, or {without}"
        ) from None


def _create(timm: ModuleType, architecture: str, images: Images, *, pretrained: bool) -> nn.Module:
    settings: dict[str, Any] = {"num_classes": 0, "in_chans": _channels(images)}
    described = timm.models.get_pretrained_cfg(architecture)
    if described is not None and described.fixed_input_size:
        settings["img_size"] = (images.height, images.width)
    backbone: nn.Module = timm.create_model(architecture, pretrained=pretrained, **settings)
    return backbone


def _channels(images: Images) -> int:
    return _COLOURS if images.channels == 1 else images.channels


FAMILY = ModelFamily(
    name=f"{BACKBONE}NAME",
    description="Any backbone of the timm library, with pretrained weights if they are published (extra `vision`).",
    reads=("image",),
    section="timm",
    settings=BackboneConfig,
    build=lambda settings, shape, slot: BackboneEncoder(
        settings,
        shape,
        slot.dropout,
        architecture=slot.name.removeprefix(BACKBONE),
        pretrained=slot.fresh and settings.pretrained,
    ),
    dropout=0.0,
    recipe=Recipe(lr=1e-3, epochs=8, least_steps=300, largest_batch=64, augmentation=SHIFTED_IMAGES),
    space={
        "model.timm.frozen": Choice((False, True)),
        "model.dropout": Float(0.0, 0.5),
        "augmentation.shift": Float(0.0, 0.2),
        "optimizer.lr": Float(3e-5, 3e-3, log=True),
    },
)
