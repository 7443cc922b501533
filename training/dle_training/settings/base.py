"""The base class of all configuration sections, and the constrained number types that their fields use."""

from typing import Annotated, TypeVar

import msgspec
from msgspec import Meta

Positive = Annotated[float, Meta(gt=0)]
Fraction = Annotated[float, Meta(gt=0, lt=1)]
Count = Annotated[int, Meta(ge=1)]


class Settings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Base class of all sections. Sections are immutable, take keyword arguments only, and reject unknown keys."""


Value = TypeVar("Value")


def chosen(value: Value | None) -> Value:
    """Return the value of a setting that a user may leave null. `config.resolve` has filled it in by then."""
    assert value is not None, "config.resolve fills in every null setting before training starts"
    return value
