"""What a model family is: everything that the rest of the project needs to know of an architecture, in one entry.

A family's file holds its settings, its encoder and its `Family`. To add one, write such a file, and list it in
`models/families.py`.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from msgspec import Meta
from msgspec.structs import replace

from dle_training.augmentation.settings import AugmentationConfig
from dle_training.models._base import Encoder
from dle_training.preprocessing.shape import InputShape
from dle_training.settings.base import Settings
from dle_training.settings.dimensions import Dimension

Input = Literal["image", "sequence", "text", "table"]
INPUTS: tuple[Input, ...] = ("image", "sequence", "text", "table")
"""The kinds of input, the dearest to train first."""

NO_AUGMENTATION = AugmentationConfig(flip=False, shift=0.0, jitter=0.0, scaling=0.0, slicing=0.0)
SHIFTED_IMAGES = replace(NO_AUGMENTATION, shift=0.08)
"""Images are moved, but not mirrored: a mirrored letter or digit is another one. `augmentation.flip` allows it."""


DropoutFraction = Annotated[float, Meta(ge=0, lt=1)]


class SharedConfig(Settings, frozen=True):
    """The settings that all families share."""

    name: Annotated[
        str | None,
        Meta(
            description="Model family, or several joined by +, one for a kind of input: cnn+bag; null: what suits each "
            "kind. `dle-train --list models` lists them."
        ),
    ] = None
    dropout: Annotated[
        DropoutFraction | dict[str, DropoutFraction] | None,
        Meta(
            description="Fraction of hidden units switched off in each training step: a number, or one for each model "
            "family, as in {bag: 0.5, mlp: 0.1}; null: what suits each family, 0.1 for columns."
        ),
    ] = None


@dataclass(frozen=True, slots=True)
class Recipe:
    """How a family is trained where the configuration leaves that open.

    `lr` is the peak learning rate of adamw. `epochs` become more until there are `least_steps` steps. `largest_batch`
    bounds the rows in a step.
    """

    lr: float
    epochs: int
    least_steps: int = 0
    largest_batch: int | None = None
    augmentation: AugmentationConfig = NO_AUGMENTATION


@dataclass(frozen=True, slots=True)
class Slot:
    """The place of an encoder in a network.

    `kind` is the input that it reads, and `name` the family as `model.name` has it. `dropout` is the fraction of units
    to switch off. `fresh` is False where the weights of a run are loaded next.
    """

    kind: Input
    name: str
    dropout: float
    fresh: bool = True


@dataclass(frozen=True, slots=True)
class Family:
    """A model family that `model.name` can choose.

    `reads` are the kinds of input that it has an encoder for. `settings` is its section of `model`, and
    `build(settings, shape, slot)` makes the encoder, with weights from torch's global generator. `dropout` and `recipe`
    hold where the configuration leaves them open. `space` is what a search varies, by dotted key, where the user gives
    no space.
    """

    name: str
    description: str
    reads: tuple[Input, ...]
    settings: type[Settings]
    build: Callable[[Any, InputShape, Slot], Encoder]
    dropout: float
    recipe: Recipe
    space: Mapping[str, Dimension]
