"""A worker process of `dle-serve`: a BentoML service on a socket that it inherits. The supervisor starts it."""

import argparse
import importlib
import os
import signal
import socket
import sys
from typing import Any

from dle_serving.server.processes import end_with_parent

BACKLOG = 2048
"""How many connections wait until a worker accepts them."""


def main() -> None:
    """Serve until SIGTERM."""
    parser = argparse.ArgumentParser(prog="python -m dle_serving.server.worker")
    parser.add_argument("service", metavar="MODULE:NAME", help="the BentoML service")
    parser.add_argument("--fd", type=int, required=True, help="the socket that listens")
    parser.add_argument("--parent", type=int, required=True, help="the process that started this one")
    parser.add_argument("--grace", type=int, required=True, help="seconds for requests in progress after SIGTERM")
    options = parser.parse_args()
    end_with_parent()
    if os.getppid() != options.parent:  # it had died before
        sys.exit(1)
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    os.set_inheritable(options.fd, False)  # a process that a library starts must not keep it open
    _serve(options.service, socket.socket(fileno=options.fd), options.grace)


def _serve(service: str, listener: socket.socket, grace: int) -> None:
    import uvicorn

    config = uvicorn.Config(
        _application(service),
        backlog=BACKLOG,
        log_config=None,
        timeout_graceful_shutdown=grace,
        server_header=False,
    )
    uvicorn.Server(config).run(sockets=[listener])


def _application(service: str) -> Any:
    """The service's application, in the context that BentoML's own worker (`_bentoml_impl.worker.service`) makes."""
    from bentoml._internal.configuration.containers import BentoMLContainer
    from bentoml._internal.context import server_context

    module, _, name = service.partition(":")
    bento = getattr(importlib.import_module(module), name)
    BentoMLContainer.development_mode.set(False)
    server_context.service_type = "entry_service"
    server_context.service_name = server_context.bento_name = bento.name
    server_context.bento_version = "not available"
    server_context.service_routes = [api.route for api in bento.apis.values()]
    return bento.to_asgi(is_main=True)


if __name__ == "__main__":
    main()
