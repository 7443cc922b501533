"""What a search varies where the user gives no space: what practitioners try first, with the encoders at hand."""

from collections.abc import Mapping

from dle_training import config_text
from dle_training.config_text import Tree
from dle_training.dimensions import Dimension, Float, Space
from dle_training.models import registry
from dle_training.models.registry import Input

COMMON: Mapping[str, Dimension] = {
    "optimizer.lr": Float(3e-4, 1e-2, log=True),
    "optimizer.weight_decay": Float(1e-6, 1e-1, log=True),
}
"""Of every model, but where its own entry in the registry has another range."""


def space(chosen: Mapping[Input, str], fixed: Tree) -> Space:
    """The default space of encoders `chosen` by kind of input, without the settings that are `fixed`."""
    merged = {**COMMON, **registry.space(chosen)}
    return Space({key: each for key, each in merged.items() if not config_text.has(fixed, key)})
