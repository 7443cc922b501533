"""A checkpoint file: tensors and a JSON record in one file, replaced atomically.

`NAME.safetensors` holds both, with the record in its header, so a crash cannot combine the weights of one moment with
the record of another. `NAME.json` is a copy of the record for people; no code reads it.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import TypeVar

import msgspec
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor, nn

from dle_bundle import documents
from dle_bundle.errors import InputError
from dle_bundle.files import write_atomic

Record = TypeVar("Record", bound=msgspec.Struct)
_KEY = "record"


def write(path: Path, tensors: dict[str, Tensor], record: msgspec.Struct) -> None:
    """Write `tensors` and `record` to `path`, a .safetensors file, and a copy of the record to a .json file."""
    text = msgspec.json.encode(record)
    contiguous = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    write_atomic(path, save(contiguous, metadata={_KEY: text.decode()}))
    write_atomic(path.with_suffix(".json"), documents.encode(record))


def read(path: Path, kind: type[Record]) -> tuple[dict[str, Tensor], Record]:
    """The tensors, on the CPU, and the record. Raises InputError if the file is missing or holds no such record."""
    try:
        with safe_open(path, framework="pt") as file:
            # cloned: views into the file need not be aligned, and arithmetic may depend on that
            tensors = {name: file.get_tensor(name).clone() for name in file.keys()}  # noqa: SIM118 (no mapping)
            return tensors, msgspec.json.decode((file.metadata() or {})[_KEY], type=kind)
    except FileNotFoundError:
        raise InputError(f"{path}: expected a checkpoint, found no file") from None
    except (OSError, SafetensorError, KeyError, msgspec.MsgspecError) as error:
        raise InputError(f"{path} is not a checkpoint of this version: {error}") from None


def load(network: nn.Module, tensors: Mapping[str, Tensor], path: Path) -> None:
    """Load weights that were read from `path` into `network`. Raises InputError if they belong to another model."""
    try:
        network.load_state_dict(tensors)
    except RuntimeError as error:
        raise InputError(f"{path} holds another model: {str(error).splitlines()[-1].strip()}") from None
