"""The Ray cluster to work on, and the number of tasks that its machines have room for.

RAY_ADDRESS names the cluster; without it, Ray starts on this machine alone. Ray is an optional dependency: call `check`
before importing it.
"""

import importlib
import logging
import os
import socket
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from math import ceil
from typing import Any
from urllib.parse import urlsplit

from dle_bundle.errors import InputError, WorkError

ADDRESS = "RAY_ADDRESS"
_CONNECT_SECONDS = 10


def check(module: str = "ray") -> None:
    """Raise InputError if Ray, or a package that this module of Ray needs, is not installed."""
    try:
        importlib.import_module(module)
    except ImportError as error:
        raise InputError(
            f"{error.name or module} is not installed, and the engine is ray: pip install "
            "'deep-learning-essentials[ray]', on every machine"
        ) from None


@contextmanager
def connected() -> Iterator[None]:
    """Connect to the cluster that `RAY_ADDRESS` names, or start Ray on this machine; disconnect at the end.

    Raises InputError for an invalid address, and WorkError when the cluster cannot be reached or Ray does not start.
    """
    import ray
    from ray.exceptions import RayError

    address = os.environ.get(ADDRESS)
    given: dict[str, Any] = {"address": address}
    if address:
        _refuse_unreachable(address)
    else:
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # nothing leaves the machine
        given = {"address": "local", "include_dashboard": False}
    try:
        # tasks report through files or an actor, so their logs stay out of the command's output
        ray.init(**given, log_to_driver=False, logging_level=logging.ERROR)
    except (RayError, OSError, RuntimeError, ValueError) as error:
        where = f"the Ray cluster at {address} ({ADDRESS}) cannot be reached" if address else "Ray does not start"
        raise WorkError(f"{where}: {first_line(error.__cause__ or error)}") from error
    try:
        yield
    finally:
        ray.shutdown()


def _refuse_unreachable(address: str) -> None:
    """Raise WorkError if nothing listens at `address`; Ray itself would retry for long and then end the process."""
    try:
        parts = urlsplit(address if "://" in address else f"//{address}")
        host, port = parts.hostname, parts.port
    except ValueError:
        host = port = None
    if host is None or port is None:
        if address == "auto":
            return
        raise InputError(f"{ADDRESS}: expected HOST:PORT (or auto: the cluster of this machine), found {address!r}")
    try:
        socket.create_connection((host, port), timeout=_CONNECT_SECONDS).close()
    except OSError as error:
        raise WorkError(f"the Ray cluster at {address} ({ADDRESS}) cannot be reached: {error}") from error


def machines() -> list[Mapping[str, float]]:
    """The resources of each machine that the cluster has now."""
    import ray

    return [node["Resources"] for node in ray.nodes() if node["Alive"]]


@dataclass(frozen=True, slots=True)
class Allocation:
    """The number of tasks that run at a time, and the CPUs and GPUs of each; `gpus` may be a fraction."""

    tasks: int
    cpus: int
    gpus: float


def allocate(nodes: Sequence[Mapping[str, float]], jobs: int | None, device: str) -> Allocation:
    """The most CPUs and GPUs that each of `jobs` tasks can have; None means one task for each GPU, or for each CPU.

    `nodes` are the resources of each machine, as Ray counts them. In a cluster with GPUs every task gets one, unless
    `device` is `cpu`; if there are more tasks than GPUs, tasks share them. Raises InputError if `device` is `cuda` and
    the cluster has no GPU.
    """
    gpus = 0 if device == "cpu" else int(sum(node.get("GPU", 0) for node in nodes))
    if device == "cuda" and not gpus:
        raise InputError("device: expected cpu or auto, found cuda: the Ray cluster has no GPU")
    room = [int(node.get("CPU", 0)) for node in nodes if not gpus or node.get("GPU", 0)]
    tasks = jobs or gpus or sum(room) or 1
    fitting = (cpus for cpus in range(max(room, default=0), 0, -1) if sum(each // cpus for each in room) >= tasks)
    return Allocation(tasks=tasks, cpus=next(fitting, 1), gpus=1 / ceil(tasks / gpus) if gpus else 0)


def first_line(error: BaseException) -> str:
    """The first line of an error of Ray, whose message may run over pages."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:300]
