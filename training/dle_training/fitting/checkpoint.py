"""Tensors and a record in one file that is replaced in one step, with a readable copy of the record beside it.

`NAME.safetensors` holds both (the record as JSON in its header), so that no crash can pair the weights of one moment
with the record of another. `NAME.json` is written after it, for people; nothing reads it.
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
    """Publish `tensors` and `record` as `path`, a .safetensors file, and the record as .json beside it."""
    text = msgspec.json.encode(record)
    contiguous = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    write_atomic(path, save(contiguous, metadata={_KEY: text.decode()}))
    write_atomic(path.with_suffix(".json"), documents.encode(record))


def read(path: Path, kind: type[Record]) -> tuple[dict[str, Tensor], Record]:
    """The tensors, on the CPU, and the record. Raises InputError for a file that is absent or not of that kind."""
    try:
        with safe_open(path, framework="pt") as file:
            # cloned: views into the file need not be aligned, and arithmetic may depend on that
            tensors = {name: file.get_tensor(name).clone() for name in file.keys()}  # noqa: SIM118 (no mapping)
            return tensors, msgspec.json.decode((file.metadata() or {})[_KEY], type=kind)
    except FileNotFoundError:
        raise InputError(f"{path}: no checkpoint is there") from None
    except (OSError, SafetensorError, KeyError, msgspec.MsgspecError) as error:
        raise InputError(f"{path} is not a checkpoint of this version: {error}") from None


def load(network: nn.Module, tensors: Mapping[str, Tensor], path: Path) -> None:
    """Give `network` the weights that were read from `path`. Raises InputError where they are of another model."""
    try:
        network.load_state_dict(tensors)
    except RuntimeError as error:
        raise InputError(f"{path} holds another model: {str(error).splitlines()[-1].strip()}") from None
