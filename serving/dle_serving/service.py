"""The BentoML service: `bentoml serve dle_serving.service:Service` with DLE_BUNDLES set, or `dle-serve` for people.

BentoML runs the server, its workers and their replacement. The application in front of it is ours (see `app`).
"""

import os
import sys
from concurrent.futures import wait
from typing import Any, NoReturn

import bentoml
import click
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
from dle_serving.settings import Settings, from_environment


class WrappedService(BentoService[Any]):  # type: ignore[misc]
    """A BentoML service whose ASGI application stands behind ours."""

    def to_asgi(self, is_main: bool = True) -> Any:
        """What BentoML's worker process gives to uvicorn."""
        end_with_parent()
        log_plainly("worker")
        # only here: the supervising process needs none of it
        from dle_serving.app import Application

        try:
            return Application(from_environment(), super().to_asgi(is_main=is_main))
        except InputError as error:  # what `prepare` found in order was changed since
            _refuse(error)


def _host() -> str:
    """Where `bentoml serve` is about to listen: at its --host or BENTOML_HOST, else as its configuration says."""
    context = click.get_current_context(silent=True)
    given = None if context is None else context.params.get("host")
    return str(given or BentoMLContainer.http.host.get())


def _refuse(error: DleError) -> NoReturn:
    sys.stderr.write(f"Error: {error}\n")
    sys.exit(error.exit_code)


def _check_store(settings: Settings) -> None:
    """Make what is missing; a store that cannot be reached now may be later, and predictions need none."""
    store = open_store(settings.feedback_store, settings.home)
    checking = SideThread("check").submit(store.check)
    try:
        if not wait([checking], DEADLINE_SECONDS).done:
            raise StoreError(f"no answer within {DEADLINE_SECONDS:g} s")
        checking.result()
    except NewerStore:
        raise
    except StoreError as error:
        sys.stderr.write(f"Warning: feedback is answered with 503 until its store can be reached: {error}\n")
    finally:
        store.close()


def _workers() -> int:
    try:
        return from_environment().workers
    except InputError:  # told by `prepare`, with all that is wrong
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
        """Check the settings and make what the workers share, once, before they start."""
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
                "Warning: DLE_TOKEN_KEYS_FILE is not set: each replica signs prediction ids with a key of its own, "
                "so that feedback finds its prediction at one of them only\n"
            )
        Roster(settings.home, settings.workers).reset()
