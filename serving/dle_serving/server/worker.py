"""A worker process of `dle-serve`: a BentoML service on a socket that it inherits. The supervisor starts it."""

import argparse
import asyncio
import importlib
import os
import signal
import socket
import sys
from contextlib import suppress
from typing import Any

import uvicorn

from dle_serving.server.processes import end_with_parent
from dle_serving.server.supervisor import BACKLOG

_SEND_SECONDS = 0.1
"""How long after the port was closed a connection may begin to send the request that it is for."""


class ClosingServer(uvicorn.Server):
    """A uvicorn server that answers every connection that its socket has taken before it closed.

    Uvicorn would reset the connections that it has not accepted yet, and those whose request it has not read.
    """

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Close the socket, give each connection time to send its request, then end as uvicorn does.

        From the beginning, each response says that it is the last one of its connection. So what uvicorn closes in the
        end are connections without a request.
        """
        self.config.app.connections.is_closing = True  # type: ignore[union-attr]
        waiting = [connection for listener in sockets or () for connection in _accepted(listener)]
        for server in self.servers:
            server.close()
        for listener in sockets or ():
            listener.close()
        for connection in waiting:
            await asyncio.get_running_loop().connect_accepted_socket(self._protocol, connection)
        await asyncio.sleep(_SEND_SECONDS)
        await super().shutdown(sockets)

    def _protocol(self) -> asyncio.Protocol:
        protocol: Any = self.config.http_protocol_class
        made: asyncio.Protocol = protocol(
            config=self.config, server_state=self.server_state, app_state=self.lifespan.state
        )
        return made


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
    listener = socket.socket(fileno=options.fd)
    config = uvicorn.Config(
        _application(options.service),
        backlog=BACKLOG,
        log_config=None,
        timeout_graceful_shutdown=options.grace,
        server_header=False,
    )
    ClosingServer(config).run(sockets=[listener])


def _accepted(listener: socket.socket) -> list[socket.socket]:
    """The connections that wait in the socket."""
    listener.setblocking(False)
    accepted: list[socket.socket] = []
    with suppress(OSError):  # no more
        while len(accepted) < BACKLOG:
            connection, _ = listener.accept()
            connection.setblocking(False)
            accepted.append(connection)
    return accepted


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
