"""What suits a model where the configuration leaves a choice open: learning rate, epochs, batches, augmentation.

A model of several encoders follows the recipe of the one that is dearest to train. Tables keep the settings that the
optimizer and the loop have by themselves.
"""

from dataclasses import dataclass

from msgspec.structs import asdict, replace

from dle_bundle.schema import Schema
from dle_training.augmentation.settings import AugmentationConfig
from dle_training.config.run_config import RunConfig
from dle_training.fitting import devices, loop
from dle_training.models import registry
from dle_training.models.registry import BACKBONE, Input
from dle_training.optimization import optimizers, schedules
from dle_training.preprocessing import piecewise

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


def _suited(config: RunConfig, chosen: dict[Input, str], rows: int) -> RunConfig:
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


def resolve(config: RunConfig, schema: Schema, rows: int) -> RunConfig:
    """The configuration with every choice made that is left open, for `rows` to train on; InputError for wrong ones."""
    devices.choose(config.device)
    chosen = registry.choose(config.model.name, registry.inputs(schema))
    suited = _suited(config, chosen, rows)
    return replace(
        suited,
        preprocessing=replace(config.preprocessing, piecewise_bins=piecewise.bins(config.preprocessing, rows)),
        model=replace(config.model, name=registry.joined(chosen)),
        schedule=schedules.resolve(config.schedule),
    )
