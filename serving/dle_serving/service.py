"""The BentoML service, for `bentoml serve dle_serving.service:Service` with DLE_BUNDLES set, and for `bentoml build`.

`dle-serve` starts the same service with closer supervision. BentoML runs the server and its workers; `app` handles
the requests, also those of BentoML's clients. The APIs of `Service` describe them in /schema.json.
"""

import os
import sys
from concurrent.futures import wait
from dataclasses import replace
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, NoReturn, cast

import bentoml
import click
import msgspec
from _bentoml_sdk import Service as BentoService  # type: ignore[import-untyped]
from bentoml._internal.configuration.containers import BentoMLContainer
from bentoml.exceptions import BentoMLException, ServiceUnavailable
from bentoml.images import Image
from bentoml.models import BentoModel
from pydantic import BaseModel

from dle_bundle.errors import DleError, InputError
from dle_serving.auth import check_start
from dle_serving.errors import HttpError
from dle_serving.feedback.databases import StoreError
from dle_serving.feedback.ids import load_signing_keys
from dle_serving.feedback.side_thread import SideThread
from dle_serving.feedback.store import DEADLINE_SECONDS, NewerStore, open_store
from dle_serving.models.model_store import bundle_of
from dle_serving.server.logs import log_plainly
from dle_serving.server.processes import end_with_parent
from dle_serving.server.roster import Roster
from dle_serving.settings import ServerSettings, from_environment

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

        try:
            self.application = Application(self.settings(), super().to_asgi(is_main=is_main), self.schema())
        except InputError as error:  # something changed after `prepare` checked it
            _refuse(error)
        return self.application

    def settings(self) -> ServerSettings:
        """The settings; the bundles include the models of DLE_BENTO_MODELS or, if it is unset, those of the bento.

        Raises InputError for wrong settings, and for a model that is not in BentoML's model store.
        """
        held = () if self.bento is None else (str(model.tag) for model in self.bento.info.all_models)
        models = os.environ.get("DLE_BENTO_MODELS") or ",".join(held)
        settings = from_environment({**os.environ, "DLE_BENTO_MODELS": models})
        places = (place.resolve() for place in (*settings.bundles, *map(bundle_of, settings.bento_models)))
        return replace(settings, bundles=tuple(dict.fromkeys(places)))  # in a worker, `prepare` has added them before

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


def _check_store(settings: ServerSettings) -> None:
    """Connect to the feedback store and create its tables. An unreachable store is only a warning."""
    store = open_store(settings.feedback_store, settings.home)
    checking = SideThread("check").submit(store.check)
    try:
        if not wait([checking], DEADLINE_SECONDS).done:
            raise StoreError(f"no response within {DEADLINE_SECONDS:g} s")
        checking.result()
    except NewerStore:
        raise
    except StoreError as error:
        sys.stderr.write(
            f"Warning: the feedback store cannot be reached; POST /feedback returns 503 until it can: {error}\n"
        )
    finally:
        store.close()


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
            settings = cast(WrappedService, Service).settings()
            check_start(settings, _host())
            load_signing_keys(settings.signing_keys_file, create=settings.token_keys_file is None)
            _check_store(settings)
        except (InputError, NewerStore) as error:
            _refuse(error)
        several = "KUBERNETES_SERVICE_HOST" in os.environ or settings.feedback_store is not None
        if several and settings.token_keys_file is None:
            sys.stderr.write(
                "Warning: DLE_TOKEN_KEYS_FILE is not set: each replica signs prediction ids with its own key, so only "
                "the replica that made a prediction accepts feedback on it\n"
            )
        Roster(settings.home, settings.workers).reset()
        # The workers run elsewhere: in the folder of the bento.
        os.environ.update(settings.places())
        # Bentos set it in their containers, and BentoML then does not replace dead workers.
        os.environ.pop("BENTOML_CONTAINERIZED", None)


# `bentoml build` puts them into the bento
cast(WrappedService, Service).models.extend(map(BentoModel, _EARLY.bento_models))
