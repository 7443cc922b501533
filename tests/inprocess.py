"""The service's application without server and sockets, for tests of what it answers."""

import asyncio
from typing import Any, cast

import httpx

from dle_serving.app import Application
from dle_serving.settings import ServerSettings


async def silent(scope: Any, receive: Any, send: Any) -> None:
    """Stands where BentoML's application stands; no request may reach it."""
    raise AssertionError(f"a request fell through: {scope['path']}")


class InProcess:
    """One application in an event loop of its own."""

    def __init__(self, settings: ServerSettings, *, load: bool = True) -> None:
        self.app = Application(settings, silent, {})
        self.loop = asyncio.new_event_loop()
        transport = httpx.ASGITransport(app=cast(Any, self.app))
        self.client = httpx.AsyncClient(transport=transport, base_url="http://test")
        if load:
            self.load()

    def load(self) -> None:
        self.loop.run_until_complete(self.app.load())

    def request(self, method: str, path: str, **arguments: Any) -> httpx.Response:
        return self.loop.run_until_complete(self.client.request(method, path, **arguments))

    def get(self, path: str, **arguments: Any) -> httpx.Response:
        return self.request("GET", path, **arguments)

    def post(self, path: str, **arguments: Any) -> httpx.Response:
        return self.request("POST", path, **arguments)

    def together(self, *requests: tuple[str, dict[str, Any]]) -> list[httpx.Response]:
        """POST all of (path, arguments) at once."""

        async def send() -> list[httpx.Response]:
            return list(await asyncio.gather(*(self.client.post(path, **arguments) for path, arguments in requests)))

        return self.loop.run_until_complete(send())

    def close(self) -> None:
        self.loop.run_until_complete(self.client.aclose())
        self.app.close()
        self.loop.run_until_complete(self.loop.shutdown_default_executor())
        self.loop.close()


def assert_is_error(response: httpx.Response, status: int) -> dict[str, Any]:
    """The answer has the status and the one body of all errors; returns it."""
    assert response.status_code == status, response.text[:500]
    assert response.headers["content-type"] == "application/json"
    body: dict[str, Any] = response.json()
    assert set(body) == {"error", "details"}
    assert isinstance(body["error"], str)
    for detail in body["details"]:
        assert set(detail) == {"row", "field", "code", "message"}
    return body
