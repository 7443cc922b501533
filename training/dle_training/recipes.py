"""What suits a model where the configuration leaves a choice open: learning rate, epochs, batches, augmentation.

A model of several encoders follows the recipe of the one that is dearest to train. Tables keep the settings that the
optimizer and the loop have by themselves.
"""

from dataclasses import dataclass

from msgspec.structs import asdict, replace

from dle_training import loop, optimizers
from dle_training.config import AugmentationConfig, RunConfig
from dle_training.models.registry import BACKBONE, Input

NONE = AugmentationConfig(flip=False, shift=0.0, jitter=0.0, scaling=0.0, slicing=0.0)


@dataclass(frozen=True, slots=True)
class Recipe:
    """Settings for one encoder. `lr` is that of adamw; `epochs` are stretched until there are `least_steps` steps."""

    lr: float
    epochs: int
    least_steps: int = 0
    largest_batch: int | None = None
    augmentation: AugmentationConfig = NONE


RECIPES = {
    # mirrored letters and digits are other letters, or none: flipping is for the data to allow
    "cnn": Recipe(3e-3, 10, 1_200, 128, replace(NONE, shift=0.08)),
    "timm": Recipe(1e-3, 8, 300, 64, replace(NONE, shift=0.08)),
    "tcn": Recipe(2e-3, 20, 300, 64),
    "rnn": Recipe(3e-3, 12, 600, 128),
    "transformer": Recipe(5e-4, 10, 600, 64),
    "bag": Recipe(3e-3, 6, 200, 256),
    "mlp": Recipe(2e-3, loop.TABLE_EPOCHS),
}


def resolve(config: RunConfig, chosen: dict[Input, str], rows: int) -> RunConfig:
    """The configuration with every open choice made, for encoders `chosen` by kind of input and `rows` to train on."""
    name = next(iter(chosen.values()))  # images first, then series, text and columns
    recipe = RECIPES["timm" if name.startswith(BACKBONE) else name]
    size = loop.batch_size(config, rows)
    if config.training.batch_size is None and recipe.largest_batch is not None:
        size = min(size, recipe.largest_batch)
    steps = len(loop.split_batches(rows, size))
    epochs = config.training.epochs or max(recipe.epochs, -(-recipe.least_steps // steps))
    lr = config.optimizer.lr
    if lr is None:
        lr = recipe.lr if config.optimizer.name == "adamw" else optimizers.learning_rate(config.optimizer)
    augmentation = {
        key: getattr(recipe.augmentation, key) if value is None else value
        for key, value in asdict(config.augmentation).items()
    }
    return replace(
        config,
        augmentation=replace(config.augmentation, **augmentation),
        optimizer=replace(config.optimizer, lr=lr),
        training=replace(config.training, epochs=epochs, batch_size=size, patience=loop.patience(config, epochs)),
    )
