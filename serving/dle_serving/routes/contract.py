"""Request, response and route: a route maps a path and a method to a handler."""

import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qsl

from dle_bundle.errors import Fault, nearest
from dle_serving.auth import Scope
from dle_serving.errors import BadRequest

JSON = b"application/json"
Message = dict[str, Any]
"""A message of ASGI."""
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]


@dataclass(slots=True)
class Request:
    """One HTTP request; `parameters` come from its path, `receive` returns the next part of its body.

    `begun` is when its headers arrived, in seconds of `time.perf_counter`; `is_wanted` whether its client is there.
    """

    method: str
    path: str
    query: bytes
    headers: dict[bytes, bytes]
    receive: Receive
    parameters: Mapping[str, str] = field(default_factory=dict)
    begun: float = field(default_factory=time.perf_counter)
    is_wanted: Callable[[], bool] = lambda: True

    def flags(self, **defaults: bool) -> Mapping[str, bool]:
        """The boolean query parameters, with these defaults; raises BadRequest for any other name or value."""
        if not self.query:
            return defaults
        found, faults = dict(defaults), []
        for name, text in parse_qsl(self.query.decode("latin-1"), keep_blank_values=True):
            if name not in defaults:
                faults.append(Fault(None, name, "unknown", f"unknown query parameter{nearest(name[:50], defaults)}"))
            elif text not in ("true", "false"):
                faults.append(Fault(None, name, "type", f"expected true or false, got {text[:50]!r}"))
            else:
                found[name] = text == "true"
        if faults:
            raise BadRequest("invalid query", faults)
        return found


@dataclass(frozen=True, slots=True)
class Response:
    """One HTTP response."""

    body: bytes
    content_type: bytes = JSON
    status: int = 200
    headers: tuple[tuple[bytes, bytes], ...] = ()


Handler = Callable[[Request], Awaitable[Response]]


@dataclass(frozen=True, slots=True)
class Route:
    """A path, which may contain parameters in braces, and its handler. The path is the route's name in the metrics.

    `scope`: the scope that an API key needs, or None for a public route.
    `codes`: the status codes that the route returns in addition to 200, 400 (query), 405 and 500.
    """

    path: str
    method: str
    handler: Handler
    scope: Scope | None
    codes: tuple[int, ...] = ()

    @property
    def methods(self) -> tuple[str, ...]:
        """The supported methods; every GET route supports HEAD."""
        return ("GET", "HEAD") if self.method == "GET" else (self.method,)
