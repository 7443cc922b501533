"""The ASGI application of the service: it handles every request itself, so none reaches BentoML's application.

BentoML's middleware takes longer than a prediction, labels metrics by raw path and leaves a timer behind for each
request. Its pages have another error format and load files from the internet. BentoML makes the inner application, and
`bentoml serve` runs the workers.
"""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import replace
from typing import Any

from dle_serving.auth import Keyring
from dle_serving.connection.admission import Admission, Overloaded
from dle_serving.connection.connections import IS_WANTED, Connections
from dle_serving.connection.heads import Head
from dle_serving.connection.lane import Destination, Lane
from dle_serving.connection.limits import ClientDisconnected
from dle_serving.errors import HttpError, InternalError, MethodNotAllowed, NotFound, NotReady
from dle_serving.feedback.store import open_store
from dle_serving.models.repository import LoadState, Repository
from dle_serving.monitoring.collector import DriftSeries, WorkersSeries
from dle_serving.monitoring.metrics import CLIENT_LEFT, Metrics
from dle_serving.monitoring.quality import Quality
from dle_serving.routes import docs
from dle_serving.routes.contract import JSON, Message, Receive, Request, Response, Route, Send
from dle_serving.routes.drift import DriftHandler
from dle_serving.routes.feedback import FeedbackHandler
from dle_serving.routes.openapi import OpenApiHandler
from dle_serving.routes.predict import PredictHandler
from dle_serving.routes.router import UNKNOWN, Router
from dle_serving.routes.status import StatusHandlers
from dle_serving.server.processes import settle
from dle_serving.server.roster import Roster
from dle_serving.settings import ServerSettings

Asgi = Callable[[Message, Receive, Send], Awaitable[None]]

log = logging.getLogger(__name__)
_COUNTING_SECONDS = 0.1
"""Interval between two counts of new predictions: long enough for many rows to be counted together."""


class Application:
    """Handles HTTP requests; passes the lifespan protocol on to `inner`, BentoML's application.

    `interface` describes the service to BentoML's clients: the body of /schema.json.
    """

    def __init__(self, settings: ServerSettings, inner: Asgi, interface: Mapping[str, Any]) -> None:
        self._inner = inner
        openapi = OpenApiHandler(repository := Repository(settings, metrics := Metrics(settings.home / "metrics")))
        self.repository, self.metrics = repository, metrics
        self.store = open_store(settings.feedback_store, settings.home)
        reading = open_store(settings.feedback_store, settings.home)
        self._quality = Quality(reading, repository.monitored, settings.drift_window)
        metrics.add(DriftSeries(repository.monitored, self._quality))
        self.roster = Roster(settings.home, settings.workers)
        metrics.add(WorkersSeries(self.roster.answering))
        admission = Admission(settings, metrics)
        self._feedback = FeedbackHandler(settings, repository, admission, metrics, self.store)
        self._predict = PredictHandler(settings, repository, admission, metrics)
        self._keyring = None if settings.api_keys_file is None else Keyring(settings.api_keys_file)
        status = StatusHandlers(repository, self.roster, metrics, interface)
        drift = DriftHandler(repository, self._quality)
        routes = _routes(self._predict, self._feedback, drift, status, openapi)
        self._router = Router(routes if self._keyring is None else _guarded(routes))
        openapi.routes = self._router.routes
        metrics.declare_responses(self._router.responses())
        lane = Lane(settings, self._destination, self._keyring, admission, metrics)
        self.connections = Connections(settings, lane, metrics, self.roster.stopping)

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        """The ASGI entry."""
        if scope["type"] == "http":
            await self._http(scope, receive, send)
        else:
            await self._live(scope, receive, send)

    async def call(self, path: str, body: bytes) -> Response:
        """The response to a POST from within this process: it needs no API key, and is no request in the metrics.

        `path` is one without parameters. Raises an `HttpError` for anything wrong with the body.
        """
        found = self._router.find(path)
        assert found is not None
        route, parameters = found

        async def receive() -> Message:
            return {"type": "http.request", "body": body}

        return await route.handler(Request("POST", path, b"", {}, receive, parameters))

    async def load(self) -> None:
        """Load the models in a thread, then sign the roster."""
        await asyncio.to_thread(self.repository.load)
        if self.repository.state is LoadState.READY:
            try:
                self.roster.sign()
            except OSError as error:
                self.repository.fail(f"the worker cannot sign its server's roster: {error}")

    def close(self) -> None:
        """Finish the work that the threads have begun, end them, and count the last predictions."""
        self._predict.close()
        self._feedback.close()
        for served in self.repository.loaded:
            served.close()
        self._quality.close()
        self.store.close()
        self.metrics.close()

    async def _live(self, scope: Message, receive: Receive, send: Send) -> None:
        loading, counting = asyncio.create_task(self._settle()), asyncio.create_task(self._count())
        sweeping = asyncio.create_task(self.connections.sweep())
        beating = asyncio.create_task(self.roster.keep_beating())
        try:
            # the other workers respond meanwhile, so a replacement accepts connections only when it is ready
            if self.roster.replaces():
                await loading
            if loading.done() and self.repository.state is not LoadState.READY:  # this process ends and is replaced
                await send({"type": "lifespan.startup.failed"})
            else:
                await self._inner(scope, receive, send)
        finally:
            await loading
            for task in (counting, sweeping, beating):
                task.cancel()
            self.close()

    async def _settle(self) -> None:
        await self.load()
        settle()

    async def _count(self) -> None:
        while True:
            await asyncio.sleep(_COUNTING_SECONDS)
            await self.repository.count()

    def _destination(self, head: Head) -> Destination | None:
        """Where the lane finds the model for a plain request; None if the application has to respond."""
        found = self._router.find(head.path)
        if found is None or found[0].handler is not self._predict:
            return None
        return self._predict.destination(head, *found, needs_key=self._keyring is not None)

    async def _http(self, scope: Message, receive: Receive, send: Send) -> None:
        started = time.perf_counter()
        self.metrics.inflight.inc()
        name, code = UNKNOWN, CLIENT_LEFT
        try:
            found = self._router.find(scope["path"])
            if found is not None:
                name = found[0].path
            response = await self._answer(scope, receive, found, started)
            code = response.status
            await _send(response, send, head=scope["method"] == "HEAD")
        except ClientDisconnected:
            pass
        finally:
            self.metrics.inflight.inc(-1)
            self.metrics.request(name, code, time.perf_counter() - started)

    async def _answer(self, scope: Message, receive: Receive, found: Any, begun: float) -> Response:
        try:
            if found is None:
                raise NotFound(f"path {scope['path'][:200]!r} does not exist; GET /docs lists the paths")
            route, parameters = found
            headers = dict(scope["headers"])
            if self._keyring is not None and route.scope is not None:
                self._keyring.check(headers.get(b"authorization"), route.scope)
            method = scope["method"]
            if method != route.method and method not in route.methods:
                raise MethodNotAllowed(method[:20], route.methods)
            is_wanted = scope.get(IS_WANTED, lambda: True)
            request = Request(
                method, scope["path"], scope["query_string"], headers, receive, parameters, begun, is_wanted
            )
            response: Response = await route.handler(request)
        except HttpError as error:
            if isinstance(error, Overloaded):
                self.metrics.shed(error.reason)
            return Response(error.body(), JSON, error.status, error.headers)
        except ClientDisconnected:
            raise
        except asyncio.CancelledError:  # the server is shutting down and its grace period is over
            ending = NotReady("the server is shutting down", retry_after=1)
            return Response(ending.body(), JSON, ending.status, ending.headers)
        except Exception:
            log.exception("%s %s failed", scope["method"], scope["path"])
            return Response(InternalError("internal error").body(), JSON, InternalError.status)
        return response


def _routes(
    predict: PredictHandler,
    feedback: FeedbackHandler,
    drift: DriftHandler,
    status: StatusHandlers,
    openapi: OpenApiHandler,
) -> list[Route]:
    predicting = (404, 413, 415, 503, 504)
    routes = [
        Route("/predict", "POST", predict, "predict", (413, 415, 503, 504)),
        Route("/schema", "GET", status.schema, "predict", (503,)),
        Route("/drift", "GET", drift, "metrics", (404, 503)),
    ]
    for prefix in ("/models/{model}", "/models/{model}/versions/{version}"):
        routes += [
            Route(f"{prefix}/predict", "POST", predict, "predict", predicting),
            Route(f"{prefix}/schema", "GET", status.schema, "predict", (404, 503)),
            Route(f"{prefix}/drift", "GET", drift, "metrics", (404, 503)),
        ]
    return [
        *routes,
        Route("/feedback", "POST", feedback, "feedback", (413, 415, 503)),
        Route("/livez", "GET", status.livez, None),
        Route("/healthz", "GET", status.livez, None),
        Route("/readyz", "GET", status.readyz, None, (503,)),
        Route("/metrics", "GET", status.metrics, "metrics"),
        Route("/openapi.json", "GET", openapi, "predict", (503,)),
        Route("/schema.json", "GET", status.interface, None),
        Route("/docs", "GET", docs.page, None),
        Route("/docs/{file}", "GET", docs.asset, None, (404,)),
    ]


def _guarded(routes: Iterable[Route]) -> list[Route]:
    """The routes of a server with API keys: each one with a scope may also return 401 and 403."""
    return [route if route.scope is None else replace(route, codes=(*route.codes, 401, 403)) for route in routes]


async def _send(response: Response, send: Send, *, head: bool) -> None:
    headers = [
        (b"content-type", response.content_type),
        (b"content-length", b"%d" % len(response.body)),
        *response.headers,
    ]
    await send({"type": "http.response.start", "status": response.status, "headers": headers})
    await send({"type": "http.response.body", "body": b"" if head else response.body})
