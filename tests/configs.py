"""Configurations without an open choice, for tests that train on tensors rather than on a source."""

from collections.abc import Sequence
from typing import Any

from dle_bundle.schema import Field, ImageShape, Kind, Outputs, Schema, SequenceShape, Task
from dle_training.config import run_config
from dle_training.config.resolve import resolve
from dle_training.config.run_config import RunConfig

_SHAPES: dict[str, dict[str, Any]] = {
    "image": {"image": ImageShape(channels=1, height=12, width=12)},
    "sequence": {"sequence": SequenceShape(channels=("a",), max_steps=100, observed_steps=(1, 100))},
}


def resolved(
    *assignments: str, task: Task = "multiclass", rows: int = 1_000, kinds: Sequence[Kind] = ("numeric",)
) -> RunConfig:
    """The preset fast, changed by `assignments`, for an input of each of `kinds` and `rows` training rows."""
    fields = tuple(Field(name=kind, kind=kind, required=True, **_SHAPES.get(kind, {})) for kind in kinds)
    classes = {"binary": ("a", "b"), "multiclass": ("a", "b", "c"), "regression": None}[task]
    schema = Schema(inputs=fields, outputs=Outputs(target="y", task=task, classes=classes))
    return resolve(run_config.load(None, ["preset=fast", *assignments]), schema, rows)
