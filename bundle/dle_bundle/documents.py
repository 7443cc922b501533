"""JSON files: written with indentation, read into a type, with errors that name the wrong place."""

import re
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from dle_bundle.errors import InputError

Document = TypeVar("Document")


def encode(value: Any) -> bytes:
    """Encode a value that msgspec supports as indented JSON with a newline at the end."""
    return msgspec.json.format(msgspec.json.encode(value), indent=2) + b"\n"


def read(path: Path, kind: type[Document], error: type[InputError] = InputError) -> Document:
    """Read a JSON file as `kind`; raises `error` when it is missing or does not match."""
    try:
        return msgspec.json.decode(path.read_bytes(), type=kind)
    except (OSError, msgspec.MsgspecError) as fault:
        name = re.sub("(?<=[a-z])(?=[A-Z])", " ", kind.__name__).lower()
        raise error(f"{path}: cannot read the {name}: {fault}") from fault
