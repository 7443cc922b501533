"""JSON files that people read as well: written indented, read by type, refused with the place that is wrong."""

from pathlib import Path
from typing import Any, TypeVar

import msgspec

from dle_bundle.errors import InputError

Document = TypeVar("Document")


def encode(value: Any) -> bytes:
    """The text of a JSON file: indented, closed by a line end. Accepts what msgspec does."""
    return msgspec.json.format(msgspec.json.encode(value), indent=2) + b"\n"


def read(path: Path, kind: type[Document], error: type[InputError] = InputError) -> Document:
    """The content of a JSON file as `kind`; raises `error` when it is absent or something else."""
    try:
        return msgspec.json.decode(path.read_bytes(), type=kind)
    except (OSError, msgspec.MsgspecError) as fault:
        raise error(f"{path}: no readable {kind.__name__.lower()}: {fault}") from fault
