"""The BentoML service, for `bentoml serve dle_serving.service:Service` with DLE_BUNDLES set.

`bentoml serve` runs the server and its workers; `dle-serve` runs the same service with a supervisor of its own, see
`server.supervisor`. `app` handles the requests.
"""

import os
import sys
from typing import Any, NoReturn

import bentoml
import click
import uvicorn.config
from _bentoml_sdk import Service as BentoService  # type: ignore[import-untyped]
from bentoml._internal.configuration.containers import BentoMLContainer

from dle_bundle.errors import DleError, InputError, WorkError
from dle_bundle.locks import Lock
from dle_serving.server.logs import log_plainly
from dle_serving.server.preparation import prepare
from dle_serving.server.processes import end_with_parent
from dle_serving.settings import from_environment

_LOCKS: list[Lock] = []
"""The lock on DLE_HOME that `bentoml serve` holds until its process ends."""


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
        except DleError as error:  # something changed after `prepare` checked it
            _refuse(error)
        except OSError as error:  # such as a full disk
            _refuse(WorkError(f"DLE_HOME: {error}"))


def _host() -> str:
    """The host on which `bentoml serve` will listen: its --host, BENTOML_HOST, or BentoML's configuration."""
    context = click.get_current_context(silent=True)
    given = None if context is None else context.params.get("host")
    return str(given or BentoMLContainer.http.host.get())


def _refuse(error: DleError) -> NoReturn:
    sys.stderr.write(f"Error: {error}\n")
    sys.exit(error.exit_code)


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
            settings, lock = prepare(from_environment(), _host())
        except DleError as error:
            _refuse(error)
        _LOCKS.append(lock)
        os.environ["DLE_BUNDLES"] = os.pathsep.join(map(str, settings.bundles))  # which the workers inherit
