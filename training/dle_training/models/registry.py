"""The models that `model.name` can choose."""

from collections.abc import Callable
from dataclasses import dataclass

from dle_training.config import ModelConfig
from dle_training.models import mlp
from dle_training.models._base import InputShape, Network


@dataclass(frozen=True, slots=True)
class ModelEntry:
    """A model that can be chosen by name: `build(config, shape, outputs)` makes it with fresh weights."""

    name: str
    description: str
    build: Callable[[ModelConfig, InputShape, int], Network]


MODELS = {
    entry.name: entry
    for entry in (
        ModelEntry("mlp", "Fully connected layers over scaled numbers, one-hot and embedded categories.", mlp.build),
    )
}


def build(config: ModelConfig, shape: InputShape, outputs: int) -> Network:
    """The network that `config` names, with fresh weights from torch's global generator: (N, outputs) for N rows."""
    return MODELS[config.name].build(config, shape, outputs)
