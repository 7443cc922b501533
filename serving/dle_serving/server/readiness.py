"""The body of GET /readyz: the routes write it and the launcher reads it."""

import msgspec

from dle_bundle.errors import Fault


class LoadedModel(msgspec.Struct, frozen=True):
    """One served model; `provider` is the device that it runs on: `cpu` or `cuda`."""

    model: str
    version: int
    task: str
    provider: str


class Readiness(msgspec.Struct, frozen=True):
    """The body; `workers` is how many answer, and `models` begins with the default model."""

    status: str
    workers: int
    models: tuple[LoadedModel, ...]


class NotReadyYet(msgspec.Struct, frozen=True):
    """The body while the server is not ready, or if it has failed: an error as of each route."""

    error: str
    details: tuple[Fault, ...]
