"""The points of a search space: a value for each of its dimensions, by dotted key, which makes one trial.

A study keeps scalars only; lists and mappings are kept as JSON text.
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

if TYPE_CHECKING:  # it takes longer to import than all else here
    from optuna.trial import BaseTrial

Point = dict[str, Any]
Stored = None | bool | int | float | str


def apply(fixed: Tree, values: Point) -> RunConfig:
    """The configuration of a trial: the `fixed` settings and these. Raises InputError where they exclude each other."""
    tree = copy.deepcopy(fixed)
    for key, value in values.items():
        yaml_text.assign(tree, key, value)
    return yaml_text.to_struct(tree, RunConfig, "The configuration of the trial")


def size(space: Space) -> int:
    """The number of points of a space of choices, valid or not. Raises InputError for ranges."""
    return math.prod(len(values) for values in _choices(space).values())


def grid(space: Space, fixed: Tree) -> tuple[Point, ...]:
    """The valid points of a space of choices, the first key varying slowest. Raises InputError for ranges.

    It holds them all: see `size` first.
    """
    return tuple(point for point in _product(_choices(space)) if _is_valid(fixed, point))


def ranges(space: Space) -> list[str]:
    """A fault for each dimension of which a grid cannot have all values."""
    found = [key for key, dimension in space.dimensions.items() if not isinstance(dimension, Choice)]
    return [f"{key}: expected a choice, found a range: give its values, as in --grid {key}=…" for key in found]


def some(space: Space, count: int) -> Iterator[Point]:
    """All points where there are no more than `count`, else that many at random, the same ones in each call."""
    finite = all(isinstance(dimension, Choice) for dimension in space.dimensions.values())
    if finite and size(space) <= count:
        yield from _product(_choices(space))
        return
    generator = random.Random(0)
    for _ in range(count):
        yield {key: _draw(dimension, generator) for key, dimension in space.dimensions.items()}


def within(space: Space, config: RunConfig) -> Point:
    """The settings of `config` that vary in the space, as far as it holds them."""
    point: Point = {}
    for key, dimension in space.dimensions.items():
        value: Any = reduce(getattr, key.split("."), config)
        value = list(value) if isinstance(value, tuple) else value
        if dimension.holds(value):
            point[key] = value
    return point


def suggest(space: Space, trial: "BaseTrial") -> Point:
    """The point that the study's sampler suggests for this trial."""
    return from_storable(space, {key: _suggest(trial, key, each) for key, each in space.dimensions.items()})


def to_storable(values: Point) -> dict[str, Stored]:
    """The point as a study keeps it, for instance to enqueue it."""
    return {key: _storable(value) for key, value in values.items()}


def from_storable(space: Space, stored: Mapping[str, Stored]) -> Point:
    """The point of `space` that a study keeps so. The study must be one of this very space."""
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
    """The values of each dimension. Raises InputError with the ranges."""
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
