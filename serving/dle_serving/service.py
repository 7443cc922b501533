"""The BentoML service, for `bentoml serve dle_serving.service:Service` with DLE_BUNDLES set.

`dle-serve` starts the same service with closer supervision. BentoML runs the server and its workers; `app` handles
the requests.
"""

import os
import sys
from concurrent.futures import wait
from typing import Any, NoReturn

import bentoml
import click
import uvicorn.config
from _bentoml_sdk import Service as BentoService  # type: ignore[import-untyped]
from bentoml._internal.configuration.containers import BentoMLContainer

from dle_bundle.errors import DleError, InputError
from dle_serving.auth import check_start
from dle_serving.feedback.databases import StoreError
from dle_serving.feedback.ids import load_signing_keys
from dle_serving.feedback.side_thread import SideThread
from dle_serving.feedback.store import DEADLINE_SECONDS, NewerStore, open_store
from dle_serving.server.logs import log_plainly
from dle_serving.server.processes import end_with_parent
from dle_serving.server.roster import Roster
from dle_serving.settings import ServerSettings, from_environment


class WrappedService(BentoService[Any]):  # type: ignore[misc]
    """A BentoML service that wraps BentoML's ASGI application in ours."""

    def to_asgi(self, is_main: bool = True) -> Any:
        """The application that BentoML's worker process passes to uvicorn."""
        end_with_parent()
        log_plainly("worker")
        # imported here: the supervising process does not need it
        from dle_serving.app import Application

        # BentoML makes uvicorn's configuration afterwards, without naming a protocol
        uvicorn.config.HTTP_PROTOCOLS["auto"] = "dle_serving.connection.protocol:Connection"
        try:
            return Application(from_environment(), super().to_asgi(is_main=is_main))
        except InputError as error:  # something changed after `prepare` checked it
            _refuse(error)


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


def _workers() -> int:
    try:
        return from_environment().workers
    except InputError:  # `prepare` reports it
        return 1


@bentoml.service(
    name="dle",
    service_class=WrappedService,
    workers=_workers(),
    metrics={"enabled": False},
    logging={"access": {"enabled": False}},
)
class Service:
    """Predictions of the bundles in DLE_BUNDLES, through ONNX Runtime."""

    @bentoml.on_deployment  # type: ignore[untyped-decorator]
    @staticmethod
    def prepare() -> None:
        """Check the settings and create the files that the workers share, once, before the workers start."""
        try:
            settings = from_environment()
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
