"""Search dimensions (`Choice`, `Int`, `Float`), the search space, and their YAML form.

Each model family defines its own default dimensions (`models.registry`). `search.space` reads a user's dimensions.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypeGuard

from dle_training.settings import yaml_text

KINDS = ("choice", "int", "float", "log")
"""The kinds of dimension. A dimension in YAML is a mapping with one of these as its only key: {log: [1e-4, 1e-2]}."""

_LARGEST = 2**53  # a study stores numbers as floats, which hold whole numbers exactly up to here


@dataclass(frozen=True, slots=True)
class Choice:
    """Categorical dimension: an unordered set of scalars, lists or mappings.

    Raises ValueError if there are no values or if two values are equal.
    """

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
    """Whole numbers from `low` to `high`, both included. `log` samples on a logarithmic scale.

    Raises ValueError if the bounds are not a valid range.
    """

    low: int
    high: int
    log: bool = False

    def __post_init__(self) -> None:
        _check_bounds("log" if self.log else "int", [self.low, self.high])

    def holds(self, value: object) -> bool:
        return _is_number(value, "int") and self.low <= value <= self.high


@dataclass(frozen=True, slots=True)
class Float:
    """Real numbers from `low` to `high`, both included. `log` samples on a logarithmic scale.

    Raises ValueError if the bounds are not a valid range.
    """

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
    """A search space: one dimension for each setting that varies, by dotted key, in the order given.

    The order does not matter when two spaces are compared.
    """

    dimensions: Mapping[str, Dimension]


def is_written(value: object) -> bool:
    """Whether `value` has the YAML form of a dimension: a mapping whose only key is one of `KINDS`."""
    return isinstance(value, dict) and len(value) == 1 and next(iter(value)) in KINDS


def parse(written: Mapping[str, Any], *, whole: bool) -> Dimension:
    """Return the dimension that the mapping {kind: values} describes.

    `whole` says that the setting takes whole numbers only. Raises ValueError, which names what was expected and found.
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
    """Return the mapping {kind: values} from which `parse` returns an equal dimension."""
    if isinstance(dimension, Choice):
        return {"choice": list(dimension.values)}
    kind = "log" if dimension.log else "int" if isinstance(dimension, Int) else "float"
    return {kind: [dimension.low, dimension.high]}


def _check_bounds(kind: str, bounds: object) -> None:
    """Raise ValueError unless `bounds` are a valid range for a dimension of this kind."""
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
