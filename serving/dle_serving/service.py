"""The BentoML service: `bentoml serve dle_serving.service:Service` with DLE_BUNDLES set, or `dle-serve` for people.

BentoML runs the server, its workers and their replacement. The application in front of it is ours (see `app`).
"""

import logging
import os
import sys
from typing import Any

import bentoml
from _bentoml_sdk import Service as BentoService  # type: ignore[import-untyped]

from dle_bundle.errors import InputError
from dle_serving.monitoring.tokens import load_keys
from dle_serving.processes import end_with_parent
from dle_serving.roster import Roster
from dle_serving.settings import from_environment


class InFront(BentoService[Any]):  # type: ignore[misc]
    """A BentoML service whose ASGI application stands behind ours."""

    def to_asgi(self, is_main: bool = True) -> Any:
        """What BentoML's worker process gives to uvicorn."""
        end_with_parent()
        _log_plainly()
        # only here: the worker's multiprocess directory is set by now, and the supervising process needs none of it
        from dle_serving.app import Application

        return Application(from_environment(), super().to_asgi(is_main=is_main))


def _log_plainly() -> None:
    """One line an event on standard error; BentoML's own say nothing that ours do not."""
    handler = logging.StreamHandler()
    handler.setFormatter(logging.Formatter(f"%(asctime)s %(levelname)s worker {os.getpid()}: %(message)s"))
    logger = logging.getLogger("dle_serving")
    logger.handlers, logger.propagate = [handler], False
    logger.setLevel(logging.INFO)
    logging.getLogger("bentoml").setLevel(logging.WARNING)


def _workers() -> int:
    try:
        return from_environment().workers
    except InputError:  # told by `prepare`, with all that is wrong
        return 1


@bentoml.service(
    name="dle",
    service_class=InFront,
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
            load_keys(settings.keys_file, create=settings.token_keys_file is None)
        except InputError as error:
            sys.stderr.write(f"Error: {error}\n")
            sys.exit(error.exit_code)
        Roster(settings.home, settings.workers).reset()
