"""The default search space, used if the user gives none: the settings that practitioners usually tune first."""

from collections.abc import Callable, Mapping

from dle_bundle.schema import Schema
from dle_training.models import registry
from dle_training.models.family import InputKind
from dle_training.preprocessing.settings import PreprocessingConfig
from dle_training.settings import yaml_text
from dle_training.settings.dimensions import Dimension, Float, Space
from dle_training.settings.yaml_text import Tree

COMMON: Mapping[str, Dimension] = {
    "optimizer.lr": Float(3e-4, 1e-2, log=True),
    "optimizer.weight_decay": Float(1e-6, 1e-1, log=True),
}
"""Dimensions for every model. A model family may replace their ranges in its registry entry."""

_EFFECTIVE: Mapping[str, Callable[[Schema, PreprocessingConfig], bool]] = {
    "model.embedding_dim": lambda schema, config: any(
        len(field.categories or ()) > config.one_hot_limit for field in schema.categorical if field != schema.scaled_by
    ),
    **dict.fromkeys(
        ("preprocessing.numeric", "preprocessing.piecewise_bins"),
        lambda schema, config: any(field.kind == "numeric" for field in schema.numeric),
    ),
}
"""Whether a setting has any effect on data with this schema. Settings that are not listed always have one."""


def space(chosen: Mapping[InputKind, str], fixed: Tree) -> Space:
    """Return the default space for the encoders `chosen` for each kind of input, without the settings in `fixed`."""
    merged = {**COMMON, **registry.space(chosen)}
    return Space({key: each for key, each in merged.items() if not yaml_text.has(fixed, key)})


def effective(space: Space, schema: Schema, config: PreprocessingConfig) -> Space:
    """Return the space without the settings that have no effect on data with this schema."""
    return Space(
        {
            key: each
            for key, each in space.dimensions.items()
            if key not in _EFFECTIVE or _EFFECTIVE[key](schema, config)
        }
    )
