"""What a search may vary: one dimension for each setting, and how each is written in YAML.

Models tell their own dimensions (`models.registry`), and `search.space` reads those of a user.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypeGuard

from dle_training.settings import yaml_text

KINDS = ("choice", "int", "float", "log")
"""The one key of a mapping that stands for a dimension: {log: [1e-4, 1e-2]}."""

_LARGEST = 2**53  # whole numbers up to here are exact as floats, as which a study keeps them


@dataclass(frozen=True, slots=True)
class Choice:
    """Some values, in no order: scalars, or lists and mappings as YAML has them. ValueError for none or equal ones."""

    values: tuple[Any, ...]

    def __post_init__(self) -> None:
        if not self.values:
            raise ValueError("choice: expected at least one value, found none")
        twice = [value for place, value in enumerate(self.values) if value in self.values[:place]]
        if twice:
            raise ValueError(f"choice: expected each value once, found {yaml_text.found(twice[0])} again")

    def holds(self, value: object) -> bool:
        return value in self.values


@dataclass(frozen=True, slots=True)
class Int:
    """Whole numbers from `low` to `high`, both included; `log`: evenly by order of magnitude. ValueError."""

    low: int
    high: int
    log: bool = False

    def __post_init__(self) -> None:
        _check_bounds("log" if self.log else "int", [self.low, self.high])

    def holds(self, value: object) -> bool:
        return _is_number(value, "int") and self.low <= value <= self.high


@dataclass(frozen=True, slots=True)
class Float:
    """Numbers from `low` to `high`, both included; `log`: evenly by order of magnitude. ValueError."""

    low: float
    high: float
    log: bool = False

    def __post_init__(self) -> None:
        _check_bounds("log" if self.log else "float", [self.low, self.high])

    def holds(self, value: object) -> bool:
        return _is_number(value, "float") and self.low <= value <= self.high


Dimension = Choice | Int | Float


@dataclass(frozen=True, slots=True)
class Space:
    """What varies between trials: a dimension for each setting, by its dotted key, in the order given.

    Two spaces are equal whatever their order.
    """

    dimensions: Mapping[str, Dimension]


def is_written(value: object) -> bool:
    """Whether `value` is how YAML has a dimension: a mapping with exactly one of `KINDS`."""
    return isinstance(value, dict) and len(value) == 1 and next(iter(value)) in KINDS


def parse(written: Mapping[str, Any], *, whole: bool) -> Dimension:
    """The dimension that {kind: values} stands for; `whole`: the setting takes whole numbers only.

    Raises ValueError, with what is expected and found.
    """
    ((kind, values),) = written.items()
    if kind == "choice":
        if not isinstance(values, list):
            raise ValueError(f"choice: expected a list of values, found {yaml_text.found(values)}")
        return Choice(tuple(values))
    if isinstance(values, list) and (whole or kind == "int"):  # 1e3 is a float in YAML
        values = [int(each) if isinstance(each, float) and each.is_integer() else each for each in values]
    _check_bounds(kind, values)
    low, high = values
    if kind == "int" or (kind == "log" and whole and isinstance(low, int) and isinstance(high, int)):
        return Int(low, high, log=kind == "log")
    return Float(float(low), float(high), log=kind == "log")


def write(dimension: Dimension) -> dict[str, list[Any]]:
    """The mapping that `parse` reads back as an equal dimension."""
    if isinstance(dimension, Choice):
        return {"choice": list(dimension.values)}
    kind = "log" if dimension.log else "int" if isinstance(dimension, Int) else "float"
    return {kind: [dimension.low, dimension.high]}


def _check_bounds(kind: str, bounds: object) -> None:
    """Raise ValueError unless these bounds make a range of this kind."""
    if isinstance(bounds, list) and len(bounds) == 2:
        low, high = bounds
        if _is_number(low, kind) and _is_number(high, kind) and low < high and (low > 0 or kind != "log"):
            if max(abs(low), abs(high)) > _LARGEST:
                raise ValueError(f"{kind}: expected numbers of at most 2**53, found {yaml_text.found(bounds)}")
            return
    numbers = {"int": "whole numbers", "float": "numbers", "log": "numbers above 0"}[kind]
    raise ValueError(f"{kind}: expected two {numbers}, the lower first, found {yaml_text.found(bounds)}")


def _is_number(value: object, kind: str) -> TypeGuard[float]:
    numbers = int if kind == "int" else (int, float)
    return isinstance(value, numbers) and not isinstance(value, bool)
