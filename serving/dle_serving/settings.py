"""The service's settings: environment variables, read once, all faults told at once.

`bentoml serve` passes nothing else on to its workers, and a container is configured by its environment anyway.
`VARIABLES` is the one description of each: `docs/configuration.md` is generated from it.
"""

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

from dle_bundle.errors import InputError

Device = Literal["auto", "cpu", "cuda"]


@dataclass(frozen=True, slots=True)
class Settings:
    """What one server works by; every field is a row of `VARIABLES`."""

    bundles: tuple[Path, ...]
    home: Path = Path(".dle")
    workers: int = 1
    device: Device = "auto"
    threads: int = 1
    batch_rows: int = 256
    max_body_bytes: int = 8 << 20
    max_rows: int = 20_000
    token_keys_file: Path | None = None

    @property
    def keys_file(self) -> Path:
        """Where the keys of prediction ids are."""
        return self.token_keys_file or self.home / "token.keys"


@dataclass(frozen=True, slots=True)
class Variable:
    """One environment variable: the field it sets, how its text is read, and what it means."""

    name: str
    field: str
    read: Callable[[str], Any]
    expected: str
    meaning: str


def _paths(text: str) -> tuple[Path, ...]:
    paths = tuple(Path(part) for part in text.split(os.pathsep) if part)
    if not paths:
        raise ValueError
    return paths


def _device(text: str) -> str:
    if text not in get_args(Device):
        raise ValueError
    return text


def _positive(text: str) -> int:
    if int(text) < 1:
        raise ValueError
    return int(text)


VARIABLES = (
    Variable(
        "DLE_BUNDLES",
        "bundles",
        _paths,
        "a list of paths",
        "Bundles, or folders that hold bundles, separated as in PATH; the first bundle answers the bare routes. "
        "Required.",
    ),
    Variable(
        "DLE_HOME",
        "home",
        Path,
        "a path",
        "The server's own directory: token keys and what its workers share. Two servers never share one.",
    ),
    Variable("DLE_WORKERS", "workers", _positive, "a positive integer", "Worker processes."),
    Variable(
        "DLE_DEVICE",
        "device",
        _device,
        "auto, cpu or cuda",
        "Where models run; auto takes CUDA where it works and says which it took.",
    ),
    Variable(
        "DLE_THREADS",
        "threads",
        _positive,
        "a positive integer",
        "Threads of one model run in each worker. More than one helps large batches and costs small ones.",
    ),
    Variable(
        "DLE_BATCH_ROWS",
        "batch_rows",
        _positive,
        "a positive integer",
        "Most rows gathered from concurrent requests into one run. A larger request runs alone, in a thread.",
    ),
    Variable(
        "DLE_MAX_BODY_BYTES",
        "max_body_bytes",
        _positive,
        "a positive integer",
        "Longest request body; a longer one is answered with 413.",
    ),
    Variable(
        "DLE_MAX_ROWS",
        "max_rows",
        _positive,
        "a positive integer",
        "Most rows in one request; more are answered with 413.",
    ),
    Variable(
        "DLE_TOKEN_KEYS_FILE",
        "token_keys_file",
        Path,
        "a path",
        "Keys that sign prediction ids, one a line in hexadecimal; the first signs, all verify. Replicas need the "
        "same file. Unset: token.keys in DLE_HOME, made at the first start.",
    ),
)


def from_environment(environment: Mapping[str, str] = os.environ) -> Settings:
    """Read the settings; raises InputError naming every variable that is absent or unreadable.

    Others that begin with DLE_ are left alone: Kubernetes makes such for a Service named dle.
    """
    faults, values = [], {}
    for variable in VARIABLES:
        text = environment.get(variable.name, "")
        if not text:  # set to nothing is not set, as compose files and shells have it
            continue
        try:
            values[variable.field] = variable.read(text)
        except ValueError:
            faults.append(f"{variable.name}: expected {variable.expected}, found {text!r}")
    if "bundles" not in values and not any(fault.startswith("DLE_BUNDLES") for fault in faults):
        faults.append("DLE_BUNDLES: expected a list of bundles, or of folders that hold bundles; it is not set")
    if faults:
        raise InputError("The service cannot start with these settings", faults)
    return Settings(**values)
