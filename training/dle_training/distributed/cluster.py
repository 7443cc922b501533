"""A cluster of Ray: the one that RAY_ADDRESS names, or Ray on this machine alone, and what its machines have room for.

Ray is an extra, which may not be installed: who is about to import it asks `check` first.
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
    """Raise InputError where Ray, or what this module of it needs, is not installed."""
    try:
        importlib.import_module(module)
    except ImportError as error:
        raise InputError(
            f"{error.name or module} is not installed, and the engine is ray: pip install "
            "'deep-learning-essentials[ray]', on every machine"
        ) from None


@contextmanager
def connected() -> Iterator[None]:
    """A connection to the cluster that `RAY_ADDRESS` names; without it, Ray on this machine alone, until it is left."""
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
        # what tasks have to say, they say in files or to an actor
        ray.init(**given, log_to_driver=False, logging_level=logging.ERROR)
    except (RayError, OSError, RuntimeError, ValueError) as error:
        where = f"the Ray cluster at {address} ({ADDRESS}) cannot be reached" if address else "Ray does not start"
        raise WorkError(f"{where}: {first_line(error.__cause__ or error)}") from error
    try:
        yield
    finally:
        ray.shutdown()


def _refuse_unreachable(address: str) -> None:
    """Raise WorkError where nobody listens, which Ray would try again and again before it ends the process."""
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
    """The resources of each machine of the cluster that is there."""
    import ray

    return [node["Resources"] for node in ray.nodes() if node["Alive"]]


@dataclass(frozen=True, slots=True)
class Share:
    """How many tasks run at a time, and what each takes of the machine that it runs on."""

    tasks: int
    cpus: int
    gpus: float


def share_of(nodes: Sequence[Mapping[str, float]], jobs: int | None, device: str) -> Share:
    """The largest share that lets `jobs` tasks run at a time; for None, one for each GPU, or for each CPU.

    `nodes` are the resources of each machine, as Ray counts them. A task has a GPU where the cluster has any, unless
    `device` is `cpu`; tasks share one where there are more tasks than GPUs. Raises InputError where `device` is `cuda`
    and there is none.
    """
    gpus = 0 if device == "cpu" else int(sum(node.get("GPU", 0) for node in nodes))
    if device == "cuda" and not gpus:
        raise InputError("device: expected cpu or auto, found cuda: the Ray cluster has no GPU")
    room = [int(node.get("CPU", 0)) for node in nodes if not gpus or node.get("GPU", 0)]
    tasks = jobs or gpus or sum(room) or 1
    fitting = (cpus for cpus in range(max(room, default=0), 0, -1) if sum(each // cpus for each in room) >= tasks)
    return Share(tasks=tasks, cpus=next(fitting, 1), gpus=1 / ceil(tasks / gpus) if gpus else 0)


def first_line(error: BaseException) -> str:
    """What an error of Ray says, less what follows, which may be pages."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:300]
