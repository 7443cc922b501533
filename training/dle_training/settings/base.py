"""What every section of the configuration is made of."""

from typing import Annotated

import msgspec
from msgspec import Meta

Positive = Annotated[float, Meta(gt=0)]


Fraction = Annotated[float, Meta(gt=0, lt=1)]


Count = Annotated[int, Meta(ge=1)]


class Settings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What all sections share: read-only, named arguments, no unknown keys."""
