"""The BentoML service, for `bentoml serve dle_serving.service:Service` with DLE_BUNDLES set, and for `bentoml build`.

`bentoml serve` runs the server and its workers; `dle-serve` runs the same service with a supervisor of its own, see
`server.supervisor`. `app` handles the requests, also those of BentoML's clients. The APIs of `Service` describe them in
/schema.json.
"""

import os
import sys
from dataclasses import replace
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, NoReturn, cast

import bentoml
import click
import msgspec
import uvicorn.config
from _bentoml_sdk import Service as BentoService  # type: ignore[import-untyped]
from bentoml._internal.configuration.containers import BentoMLContainer
from bentoml.exceptions import BentoMLException, ServiceUnavailable
from bentoml.images import Image
from bentoml.models import BentoModel
from pydantic import BaseModel

from dle_bundle.errors import DleError, InputError, WorkError
from dle_bundle.locks import Lock
from dle_serving.errors import HttpError
from dle_serving.models.model_store import bundle_of
from dle_serving.server.logs import log_plainly
from dle_serving.server.preparation import prepare
from dle_serving.server.processes import end_with_parent
from dle_serving.settings import ServerSettings, from_environment

_LOCKS: list[Lock] = []
"""The lock on DLE_HOME that `bentoml serve` holds until its process ends."""
_PREPARED = "BENTOML_DLE_PREPARED"
"""The environment variable by which `bentoml serve` tells its workers that DLE_BUNDLES has all bundles, as copies."""

if TYPE_CHECKING:
    from dle_serving.app import Application

_SOURCES = ("pyproject.toml", "constraints.txt", "README.md", "LICENSE", "bundle", "cli", "serving", "training")
"""What the image of a bento installs this project from. `[tool.bentoml.build]` includes them in the bento."""


class PredictResponse(BaseModel):
    """The body of POST /predict, as BentoML's clients read it. /openapi.json describes the predictions of a model."""

    model: str
    version: int
    predictions: list[dict[str, Any]]


class FeedbackResponse(BaseModel):
    """The body of POST /feedback, as BentoML's clients read it."""

    accepted: int
    duplicates: int
    rejected: list[dict[str, Any]]


class WrappedService(BentoService[Any]):  # type: ignore[misc]
    """A BentoML service that wraps BentoML's ASGI application in ours."""

    application: "Application | None" = None

    def to_asgi(self, is_main: bool = True) -> Any:
        """The application that BentoML's worker process passes to uvicorn."""
        end_with_parent()
        log_plainly("worker")
        # imported here: the supervising process does not need it
        from dle_serving.app import Application

        # BentoML makes uvicorn's configuration afterwards, without naming a protocol
        uvicorn.config.HTTP_PROTOCOLS["auto"] = "dle_serving.connection.protocol:Connection"
        try:
            self.application = Application(self.settings(), super().to_asgi(is_main=is_main), self.schema())
        except DleError as error:  # something changed after `prepare` checked it
            _refuse(error)
        except OSError as error:  # such as a full disk
            _refuse(WorkError(f"DLE_HOME: {error}"))
        return self.application

    def settings(self) -> ServerSettings:
        """The settings; the bundles include the models of DLE_BENTO_MODELS or, if it is unset, those of the bento.

        In a worker, they are the copies that `prepare` made of these. Raises InputError for wrong settings, and for a
        model that is not in BentoML's model store.
        """
        if _PREPARED in os.environ:
            return from_environment()
        held = () if self.bento is None else (str(model.tag) for model in self.bento.info.all_models)
        models = os.environ.get("DLE_BENTO_MODELS") or ",".join(held)
        settings = from_environment({**os.environ, "DLE_BENTO_MODELS": models})
        return replace(settings, bundles=(*settings.bundles, *map(bundle_of, settings.bento_models)))

    async def call(self, path: str, body: dict[str, Any]) -> bytes:
        """The body of our application's response to a POST; an error becomes BentoML's exception, with its status."""
        if self.application is None:
            raise ServiceUnavailable("the service does not run; dle_serving.load(BUNDLE) predicts without a server")
        try:
            response = await self.application.call(path, msgspec.json.encode(body))
        except HttpError as error:
            raise BentoMLException(error.body().decode(), error_code=HTTPStatus(error.status)) from None
        return response.body


def _host() -> str:
    """The host on which `bentoml serve` will listen: its --host, BENTOML_HOST, or BentoML's configuration."""
    context = click.get_current_context(silent=True)
    given = None if context is None else context.params.get("host")
    return str(given or BentoMLContainer.http.host.get())


def _refuse(error: DleError) -> NoReturn:
    sys.stderr.write(f"Error: {error}\n")
    sys.exit(error.exit_code)


def _at_import() -> ServerSettings:
    """The settings that BentoML needs at import, before it says which bento it loads; `prepare` reports the others."""
    try:
        return from_environment({**os.environ, "DLE_BUNDLES": os.environ.get("DLE_BUNDLES") or "unknown"})
    except InputError as error:
        if any(detail.startswith("DLE_BENTO_MODELS") for detail in error.details):  # `bentoml build` needs them
            _refuse(error)
        return ServerSettings()


_EARLY = _at_import()


@bentoml.service(
    name="dle",
    service_class=WrappedService,
    workers=_EARLY.workers,
    image=Image(lock_python_packages=False).build_include(*_SOURCES),
    metrics={"enabled": False},
    logging={"access": {"enabled": False}},
)
class Service:
    """Predictions of exported models, through ONNX Runtime.

    Over HTTP, `app` answers the paths of these APIs before BentoML's routes. The methods answer calls from within the
    process, through the same models.
    """

    bento_service: WrappedService  # BentoML sets it

    @bentoml.api  # type: ignore[untyped-decorator]
    async def predict(self, rows: list[dict[str, Any]]) -> PredictResponse:
        """Predictions of the first model for rows; each row maps the names of its inputs to values."""
        return PredictResponse.model_validate_json(await self.bento_service.call("/predict", {"rows": rows}))

    @bentoml.api  # type: ignore[untyped-decorator]
    async def feedback(self, items: list[dict[str, Any]]) -> FeedbackResponse:
        """Report the true values of earlier predictions; each item is the `id` of a prediction and its `actual`."""
        return FeedbackResponse.model_validate_json(await self.bento_service.call("/feedback", {"items": items}))

    @bentoml.on_deployment  # type: ignore[untyped-decorator]
    @staticmethod
    def prepare() -> None:
        """Check the settings and create the files that the workers share, once, before the workers start."""
        try:
            settings, lock = prepare(cast(WrappedService, Service).settings(), _host())
        except DleError as error:
            _refuse(error)
        _LOCKS.append(lock)
        # The workers inherit these, and run elsewhere: in the folder of the bento.
        os.environ.update({**settings.places(), _PREPARED: "true"})
        # Bentos set it in their containers, and BentoML then does not replace dead workers.
        os.environ.pop("BENTOML_CONTAINERIZED", None)


# `bentoml build` puts them into the bento
cast(WrappedService, Service).models.extend(map(BentoModel, _EARLY.bento_models))
