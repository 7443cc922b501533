"""The body of a ready server's /readyz: the route writes it, the launcher reads it."""

import msgspec


class LoadedModel(msgspec.Struct, frozen=True):
    """One model that the server serves; `provider` is where it runs: `cpu` or `cuda`."""

    model: str
    version: int
    task: str
    provider: str


class Readiness(msgspec.Struct, frozen=True):
    """Sent with status 200, the first model first."""

    status: str
    models: tuple[LoadedModel, ...]
