"""The routes that say how the server is and what it has: /livez, /readyz, /metrics and the models' schemas."""

import asyncio

import msgspec

from dle_bundle import documents
from dle_serving.errors import NotReady
from dle_serving.models.repository import Repository
from dle_serving.monitoring.metrics import CONTENT_TYPE, Metrics
from dle_serving.routes.contract import Request, Response
from dle_serving.server.readiness import LoadedModel, Readiness
from dle_serving.server.roster import Roster

_ALIVE = Response(b'{"status":"alive"}')


class StateHandlers:
    """Handlers over the repository, the workers and the metrics."""

    def __init__(self, repository: Repository, roster: Roster, metrics: Metrics) -> None:
        self._repository = repository
        self._roster = roster
        self._metrics = metrics

    async def livez(self, request: Request) -> Response:
        """The event loop turns; nothing else is asked."""
        request.flags()
        return _ALIVE

    async def readyz(self, request: Request) -> Response:
        """Every worker has loaded, verified and warmed up every model; otherwise NotReady says why not."""
        request.flags()
        models = tuple(
            LoadedModel(served.name, served.version, served.task, served.provider) for served in self._repository.all()
        )
        missing = self._roster.missing()
        if missing:
            raise NotReady(f"{missing} more worker(s) are loading the models", retry_after=1)
        return Response(msgspec.json.encode(Readiness("ready", models)))

    async def metrics(self, request: Request) -> Response:
        """The series of all workers, for Prometheus."""
        request.flags()
        await self._repository.count()
        text = await asyncio.to_thread(self._metrics.exposition)
        return Response(text, CONTENT_TYPE.encode())

    async def schema(self, request: Request) -> Response:
        """The model's `schema.json`."""
        request.flags()
        served = self._repository.find(request.parameters.get("model"), request.parameters.get("version"))
        return Response(documents.encode(served.schema))
