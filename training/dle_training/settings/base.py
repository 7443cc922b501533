"""What every section of the configuration is made of."""

from typing import Annotated, TypeVar

import msgspec
from msgspec import Meta

Positive = Annotated[float, Meta(gt=0)]
Fraction = Annotated[float, Meta(gt=0, lt=1)]
Count = Annotated[int, Meta(ge=1)]


class Settings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What all sections share: read-only, named arguments, no unknown keys."""


Value = TypeVar("Value")


def chosen(value: Value | None) -> Value:
    """The value of a setting that a configuration may leave open, once `config.resolve` has made the choice."""
    assert value is not None, "config.resolve makes every open choice before anything is trained"
    return value
