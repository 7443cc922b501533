"""GET /livez, /healthz, /readyz, /metrics, /schema and /schema.json: the state of the server and its models."""

import asyncio
from collections.abc import Mapping
from typing import Any

import msgspec

from dle_bundle import documents
from dle_bundle.errors import counted
from dle_serving.errors import NotReady
from dle_serving.models.repository import Repository
from dle_serving.monitoring.metrics import CONTENT_TYPE, Metrics
from dle_serving.routes.contract import Request, Response
from dle_serving.server.readiness import LoadedModel, Readiness
from dle_serving.server.roster import Roster

_ALIVE = Response(b'{"status":"alive"}')


class StatusHandlers:
    """Handles these routes; /healthz is BentoML's name of /livez."""

    def __init__(self, repository: Repository, roster: Roster, metrics: Metrics, interface: Mapping[str, Any]) -> None:
        self._interface = Response(msgspec.json.encode(interface))
        self._repository = repository
        self._roster = roster
        self._metrics = metrics

    async def livez(self, request: Request) -> Response:
        """Status 200 as long as the event loop runs."""
        request.flags()
        return _ALIVE

    async def readyz(self, request: Request) -> Response:
        """Status 200 when every worker has loaded and warmed up every model; else raises NotReady with the reason."""
        request.flags()
        models = tuple(
            LoadedModel(served.name, served.version, served.task, served.provider) for served in self._repository.all()
        )
        if self._roster.stopping():
            raise NotReady("the server is stopping", retry_after=1)
        missing = self._roster.missing()
        if missing:
            raise NotReady(f"{counted(missing, 'worker')} still loading the models", retry_after=1)
        return Response(msgspec.json.encode(Readiness("ready", self._roster.answering(), models)))

    async def metrics(self, request: Request) -> Response:
        """The metrics of all workers, in Prometheus' text format."""
        request.flags()
        await self._repository.count()
        text = await asyncio.to_thread(self._metrics.exposition)
        return Response(text, CONTENT_TYPE.encode())

    async def schema(self, request: Request) -> Response:
        """The `schema.json` of one model."""
        request.flags()
        served = self._repository.find(request.parameters.get("model"), request.parameters.get("version"))
        return Response(documents.encode(served.schema))

    async def interface(self, request: Request) -> Response:
        """What BentoML's clients read first: paths, inputs and outputs of the APIs, the same for every model."""
        request.flags()
        return self._interface
