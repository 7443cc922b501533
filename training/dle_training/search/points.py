"""The points of a search space: how they are enumerated, drawn, stored and applied to a configuration.

A point has one value for each dimension, by dotted key. A trial trains one point. Optuna stores scalars only, so lists
and mappings are stored as JSON text.
"""

import copy
import json
import math
import random
from collections.abc import Iterator, Mapping
from functools import reduce
from itertools import product
from typing import TYPE_CHECKING, Any

from dle_bundle.errors import InputError
from dle_training.config.run_config import RunConfig
from dle_training.settings import yaml_text
from dle_training.settings.dimensions import Choice, Dimension, Int, Space
from dle_training.settings.yaml_text import Tree

if TYPE_CHECKING:  # importing optuna is slow
    from optuna.trial import BaseTrial

Point = dict[str, Any]
Stored = None | bool | int | float | str


def apply(fixed: Tree, values: Point) -> RunConfig:
    """Return a trial's configuration: the `fixed` settings and these values. Raises InputError if they conflict."""
    tree = copy.deepcopy(fixed)
    for key, value in values.items():
        yaml_text.assign(tree, key, value)
    return yaml_text.to_struct(tree, RunConfig, "The configuration of the trial")


def size(space: Space) -> int:
    """Return the number of combinations in a space of choices, valid or not. Raises InputError if it has ranges."""
    return math.prod(len(values) for values in _choices(space).values())


def grid(space: Space, fixed: Tree) -> tuple[Point, ...]:
    """Return the valid points of a space of choices. The first key varies slowest. Raises InputError if it has ranges.

    All points are held in memory, so check `size` first.
    """
    return tuple(point for point in _product(_choices(space)) if _is_valid(fixed, point))


def ranges(space: Space) -> list[str]:
    """Return an error for each dimension that is a range, because a grid needs a list of values."""
    found = [key for key, dimension in space.dimensions.items() if not isinstance(dimension, Choice)]
    return [f"{key}: expected a choice, found a range: give its values, as in --grid {key}=…" for key in found]


def some(space: Space, count: int) -> Iterator[Point]:
    """Yield all points if there are at most `count`. Otherwise yield `count` random points, the same in every call."""
    finite = all(isinstance(dimension, Choice) for dimension in space.dimensions.values())
    if finite and size(space) <= count:
        yield from _product(_choices(space))
        return
    generator = random.Random(0)
    for _ in range(count):
        yield {key: _draw(dimension, generator) for key, dimension in space.dimensions.items()}


def within(space: Space, config: RunConfig) -> Point:
    """Return the point at which `config` is in the space, without the settings whose values are outside of it."""
    point: Point = {}
    for key, dimension in space.dimensions.items():
        value: Any = reduce(getattr, key.split("."), config)
        value = list(value) if isinstance(value, tuple) else value
        if dimension.holds(value):
            point[key] = value
    return point


def suggest(space: Space, trial: "BaseTrial") -> Point:
    """Return the point that the study's sampler suggests for this trial."""
    return from_storable(space, {key: _suggest(trial, key, each) for key, each in space.dimensions.items()})


def to_storable(values: Point) -> dict[str, Stored]:
    """Return the point in the form that Optuna stores, for example to enqueue it."""
    return {key: _storable(value) for key, value in values.items()}


def from_storable(space: Space, stored: Mapping[str, Stored]) -> Point:
    """Return the point of `space` from its stored form. The study must have been made with this space."""
    point: Point = dict(stored)
    for key, dimension in space.dimensions.items():
        if isinstance(dimension, Choice):
            point[key] = next(value for value in dimension.values if _storable(value) == stored[key])
    return point


def _storable(value: Any) -> Stored:
    return json.dumps(value) if isinstance(value, (list, dict)) else value


def _suggest(trial: "BaseTrial", key: str, dimension: Dimension) -> Stored:
    if isinstance(dimension, Choice):
        return trial.suggest_categorical(key, [_storable(value) for value in dimension.values])
    if isinstance(dimension, Int):
        return trial.suggest_int(key, dimension.low, dimension.high, log=dimension.log)
    return trial.suggest_float(key, dimension.low, dimension.high, log=dimension.log)


def _draw(dimension: Dimension, generator: random.Random) -> Any:
    if isinstance(dimension, Choice):
        return generator.choice(dimension.values)
    if isinstance(dimension, Int):
        return generator.randint(dimension.low, dimension.high)
    return generator.uniform(dimension.low, dimension.high)


def _choices(space: Space) -> dict[str, tuple[Any, ...]]:
    """Return the values of each dimension. Raises InputError, which lists the dimensions that are ranges."""
    if faults := ranges(space):
        raise InputError("A grid is made of choices", faults)
    return {key: each.values for key, each in space.dimensions.items() if isinstance(each, Choice)}


def _product(choices: Mapping[str, tuple[Any, ...]]) -> Iterator[Point]:
    for values in product(*choices.values()):
        yield dict(zip(choices, values, strict=True))


def _is_valid(fixed: Tree, values: Point) -> bool:
    try:
        apply(fixed, values)
    except InputError:
        return False
    return True
