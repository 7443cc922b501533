"""`ModelFamily`: everything that the rest of the project needs to know about an architecture, in one entry.

The file of a family holds its settings, its encoder and its `ModelFamily`. To add a family, write such a file and add
its entry to `FAMILIES` in `models/families.py`.
"""

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from msgspec import Meta
from msgspec.structs import replace

from dle_training.augmentation.settings import AugmentationConfig
from dle_training.models._base import Encoder, Network
from dle_training.preprocessing.settings import NumericScaling
from dle_training.preprocessing.shape import InputShape
from dle_training.settings.base import Settings
from dle_training.settings.dimensions import Dimension

InputKind = Literal["image", "sequence", "text", "table"]
INPUT_KINDS: tuple[InputKind, ...] = ("image", "sequence", "text", "table")
"""The kinds of input, beginning with the one that costs most to train."""

NO_AUGMENTATION = AugmentationConfig(flip=False, shift=0.0, jitter=0.0, scaling=0.0, slicing=0.0)
SHIFTED_IMAGES = replace(NO_AUGMENTATION, shift=0.08)
"""Images are shifted but not mirrored, because a mirrored letter is another letter; `augmentation.flip` mirrors."""


Preset = Literal["fast", "default", "best"]
DropoutFraction = Annotated[float, Meta(ge=0, lt=1)]


class SharedConfig(Settings, frozen=True):
    """The settings that all families share."""

    name: Annotated[
        str | None,
        Meta(
            description="Model family, or several joined by +, one for each kind of input: cnn+bag; null: the default "
            "family of each kind. `dle-train --list models` lists them."
        ),
    ] = None
    dropout: Annotated[
        DropoutFraction | dict[str, DropoutFraction] | None,
        Meta(
            description="Fraction of hidden units that each training step sets to 0: a number, or one for each model "
            "family, as in {bag: 0.5, mlp: 0.1}; null: each family's own."
        ),
    ] = None


@dataclass(frozen=True, slots=True)
class Recipe:
    """A family's training settings for whatever the configuration leaves open.

    `lr` is the peak learning rate of an optimizer that has no default of its own. `epochs` is raised until there are
    `least_steps` steps. `batch_size` is None if it grows with the rows, and `largest_batch` limits it. `patience` is
    None if it grows with the epochs. `regression_lr` is the learning rate of a regression if it is another one.
    `numeric`, `signs`, `quantiles` and `piecewise_bins` say how a table is prepared; bins are None if the rows decide.
    """

    lr: float
    epochs: int
    least_steps: int = 0
    regression_lr: float | None = None
    beta2: float = 0.999
    weight_decay: float = 1e-4
    batch_size: int | None = None
    largest_batch: int | None = None
    patience: int | None = None
    schedule: str = "cosine"
    regularisation: str = "constant"
    numeric: NumericScaling = "standard"
    signs: bool = False
    quantiles: bool = False
    piecewise_bins: int | None = None
    clamp: bool = False
    augmentation: AugmentationConfig = NO_AUGMENTATION


@dataclass(frozen=True, slots=True)
class Facts:
    """What defaults depend on: the kinds of input, the number of training rows, the task and the preset."""

    kinds: Collection[InputKind]
    rows: int
    regression: bool = False
    preset: Preset = "default"


@dataclass(frozen=True, slots=True)
class Slot:
    """The place of an encoder in a network.

    `kind` is the input that it reads, and `name` is its family as written in `model.name`. `dropout` is the fraction of
    units to set to 0. The network has `outputs`, which are values of a `regression` or logits. `fresh` is False if the
    weights of a run are loaded next.
    """

    kind: InputKind
    name: str
    dropout: float
    outputs: int
    regression: bool
    fresh: bool = True


@dataclass(frozen=True, slots=True)
class ModelFamily:
    """A model family that `model.name` can choose.

    `reads` lists the kinds of input that it can read. `settings` is the class of its settings. They are the section
    `section` of `model`, or `model` itself if `section` is None. `build(settings, shape, slot)` makes the encoder with
    weights from torch's global generator. A family that is `alone` allows no other family beside it, and makes the
    whole network.

    `dropout` and `recipe` are the defaults for whatever the configuration leaves open. `complete(settings, facts)`
    returns the settings with the defaults that depend on the data and the preset. `space` holds the settings that a
    search varies if the user gives no space, by dotted key.
    """

    name: str
    description: str
    reads: tuple[InputKind, ...]
    section: str | None
    settings: type[Settings]
    build: Callable[[Any, InputShape, Slot], Encoder | Network]
    dropout: float
    recipe: Recipe
    space: Mapping[str, Dimension]
    alone: bool = False
    complete: Callable[[Any, Facts], Any] = lambda settings, facts: settings
