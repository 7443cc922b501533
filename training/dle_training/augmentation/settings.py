"""The settings of augmentation."""

from typing import Annotated

from msgspec import Meta

from dle_training.settings.base import Settings


class AugmentationConfig(Settings, frozen=True):
    """How training examples are varied, anew in each epoch; null: what suits the kind of input."""

    flip: Annotated[bool | None, Meta(description="Images: mirror left and right, every second one.")] = None
    shift: Annotated[
        Annotated[float, Meta(ge=0, le=0.5)] | None,
        Meta(description="Images: move by up to this fraction of the size, both ways."),
    ] = None
    rotation: Annotated[float, Meta(ge=0, le=180, description="Images: turn by up to so many degrees.")] = 0.0
    zoom: Annotated[float, Meta(ge=0, lt=1, description="Images: enlarge or shrink by up to this fraction.")] = 0.0
    shear: Annotated[float, Meta(ge=0, le=45, description="Images: slant by up to so many degrees.")] = 0.0
    brightness: Annotated[float, Meta(ge=0, lt=1, description="Images: brighten or darken by up to this fraction.")] = (
        0.0
    )
    contrast: Annotated[float, Meta(ge=0, lt=1, description="Images: change the contrast by up to this fraction.")] = (
        0.0
    )
    erasing: Annotated[
        float, Meta(ge=0, le=1, description="Images: chance that a rectangle of the image is blotted out.")
    ] = 0.0
    jitter: Annotated[
        Annotated[float, Meta(ge=0)] | None,
        Meta(description="Series: standard deviation of noise added to the standardised values."),
    ] = None
    scaling: Annotated[
        Annotated[float, Meta(ge=0)] | None,
        Meta(description="Series: standard deviation of the factor, about 1, on each channel."),
    ] = None
    slicing: Annotated[
        Annotated[float, Meta(ge=0, lt=1)] | None,
        Meta(description="Series: fraction that may be cut off at the ends, the rest stretched to the whole."),
    ] = None
