"""What suits a model where the configuration leaves a choice open: learning rate, epochs, batches, augmentation.

A model of several encoders follows the recipe of the one that is dearest to train. Tables keep the settings that the
optimizer and the loop have by themselves.
"""

from dataclasses import dataclass

import msgspec

from dle_training import loop, optimizers
from dle_training.config import AugmentationConfig, RunConfig
from dle_training.models.registry import BACKBONE, Input

NONE = AugmentationConfig(flip=False, shift=0.0, jitter=0.0, scaling=0.0, slicing=0.0)


@dataclass(frozen=True, slots=True)
class Recipe:
    """Settings for one encoder; `epochs` is stretched until there are `least_steps` steps, `lr` is that of adamw."""

    lr: float
    epochs: int
    least_steps: int = 0
    batch_size: int | None = None
    weight_decay: float | None = None
    augmentation: AugmentationConfig = NONE


RECIPES = {
    "cnn": Recipe(lr=3e-3, epochs=12, least_steps=600),
    "timm": Recipe(lr=1e-3, epochs=8, least_steps=300),
    "tcn": Recipe(lr=2e-3, epochs=20, least_steps=300),
    "rnn": Recipe(lr=2e-3, epochs=15, least_steps=600),
    "transformer": Recipe(lr=5e-4, epochs=10, least_steps=600),
    "bag": Recipe(lr=3e-3, epochs=6, least_steps=200),
    "mlp": Recipe(lr=2e-3, epochs=loop.TABLE_EPOCHS),
}


def resolve(config: RunConfig, chosen: dict[Input, str], rows: int) -> RunConfig:
    """The configuration with every open choice made, for encoders `chosen` by kind of input and `rows` to train on."""
    change = msgspec.structs.replace
    name = next(iter(chosen.values()))  # images first, then series, text and columns
    recipe = RECIPES["timm" if name.startswith(BACKBONE) else name]
    size = config.training.batch_size or recipe.batch_size or loop.batch_size(config, rows)
    steps = max(rows // size, 1)
    epochs = config.training.epochs or max(recipe.epochs, -(-recipe.least_steps // steps))
    lr = config.optimizer.lr
    if lr is None:
        lr = recipe.lr if config.optimizer.name == "adamw" else optimizers.learning_rate(config.optimizer)
    augmentation = {
        key: getattr(recipe.augmentation, key) if value is None else value
        for key, value in msgspec.structs.asdict(config.augmentation).items()
    }
    return change(
        config,
        augmentation=change(config.augmentation, **augmentation),
        optimizer=change(config.optimizer, lr=lr),
        training=change(config.training, epochs=epochs, batch_size=size, patience=loop.patience(config, epochs)),
    )
