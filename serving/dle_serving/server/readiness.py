"""The body of GET /readyz when the server is ready: the route writes it and the launcher reads it."""

import msgspec


class LoadedModel(msgspec.Struct, frozen=True):
    """One served model; `provider` is the device that it runs on: `cpu` or `cuda`."""

    model: str
    version: int
    task: str
    provider: str


class Readiness(msgspec.Struct, frozen=True):
    """The body; `models` begins with the default model."""

    status: str
    models: tuple[LoadedModel, ...]
