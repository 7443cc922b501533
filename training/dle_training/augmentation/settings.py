"""The settings of augmentation: the section `augmentation` of the configuration."""

from typing import Annotated

from msgspec import Meta

from dle_training.settings.base import Settings


class AugmentationConfig(Settings, frozen=True):
    """Random variation of training examples, drawn again in each epoch; null: the model family's own value."""

    flip: Annotated[bool | None, Meta(description="Images: mirror left and right with probability 1/2.")] = None
    shift: Annotated[
        Annotated[float, Meta(ge=0, le=0.5)] | None,
        Meta(description="Images: shift by up to this fraction of width and height, in both directions."),
    ] = None
    rotation: Annotated[float, Meta(ge=0, le=180, description="Images: rotate by up to this many degrees.")] = 0.0
    zoom: Annotated[float, Meta(ge=0, lt=1, description="Images: enlarge or shrink by up to this fraction.")] = 0.0
    shear: Annotated[float, Meta(ge=0, le=45, description="Images: shear by up to this many degrees.")] = 0.0
    brightness: Annotated[float, Meta(ge=0, lt=1, description="Images: brighten or darken by up to this fraction.")] = (
        0.0
    )
    contrast: Annotated[float, Meta(ge=0, lt=1, description="Images: change the contrast by up to this fraction.")] = (
        0.0
    )
    erasing: Annotated[
        float, Meta(ge=0, le=1, description="Images: probability that a random rectangle is erased.")
    ] = 0.0
    jitter: Annotated[
        Annotated[float, Meta(ge=0)] | None,
        Meta(description="Series: standard deviation of noise added to the standardised values."),
    ] = None
    scaling: Annotated[
        Annotated[float, Meta(ge=0)] | None,
        Meta(description="Series: standard deviation of a random factor around 1 for each channel."),
    ] = None
    slicing: Annotated[
        Annotated[float, Meta(ge=0, lt=1)] | None,
        Meta(description="Series: fraction that may be cut off at the ends; the rest is stretched to the full length."),
    ] = None
