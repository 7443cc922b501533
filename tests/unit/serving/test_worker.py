"""How a worker ends."""

from pathlib import Path
from typing import Any

import pytest
import uvicorn
from tests import bundles
from tests.inprocess import InProcess
from tests.wire import Wire, request

from dle_serving.server import worker
from dle_serving.settings import ServerSettings


def test_from_the_beginning_of_the_end_each_response_is_the_last_of_its_connection(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bundle = bundles.write(tmp_path / "spam", bundles.SPAM, name="spam")
    service = InProcess(ServerSettings(bundles=(bundle,), home=tmp_path / "home"))
    wire = Wire(service)
    assert b"connection: close" not in wire.send(request(b'{"rows": [{}]}'))
    ended: list[Any] = []

    async def end(server: uvicorn.Server, sockets: Any = None) -> None:
        ended.append(server)

    monkeypatch.setattr(uvicorn.Server, "shutdown", end)
    monkeypatch.setattr(worker, "_SEND_SECONDS", 0)
    server = worker.ClosingServer(wire.config)
    server.servers = []
    service.loop.run_until_complete(server.shutdown())
    assert ended == [server]
    assert not wire.transport.closed  # it may be sending
    assert b"connection: close" in wire.send(request(b'{"rows": [{}]}'))
    assert wire.transport.closed
    service.close()
