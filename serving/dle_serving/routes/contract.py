"""What a route is: a path, and for each method a function from a request to a response."""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qsl

from dle_bundle.errors import Fault, nearest
from dle_serving.auth import Scope
from dle_serving.errors import BadRequest

JSON = b"application/json"
CLIENT_LEFT = 499
"""In the metrics, the code of a request whose client left before it was complete."""
Send = Callable[[dict[str, Any]], Awaitable[None]]


@dataclass(slots=True)
class Request:
    """One HTTP request; `parameters` are those of its path, `receive` gives its body in pieces."""

    method: str
    path: str
    query: bytes
    headers: dict[bytes, bytes]
    receive: Callable[[], Awaitable[dict[str, Any]]]
    parameters: Mapping[str, str] = field(default_factory=dict)

    def flags(self, **defaults: bool) -> Mapping[str, bool]:
        """The query's truth values over these defaults; raises BadRequest for any other name or value."""
        if not self.query:
            return defaults
        found, faults = dict(defaults), []
        for name, text in parse_qsl(self.query.decode("latin-1"), keep_blank_values=True):
            if name not in defaults:
                faults.append(Fault(None, name, "unknown", f"no such query parameter{nearest(name[:50], defaults)}"))
            elif text not in ("true", "false"):
                faults.append(Fault(None, name, "type", f"expected true or false, got {text[:50]!r}"))
            else:
                found[name] = text == "true"
        if faults:
            raise BadRequest("the query does not fit the route", faults)
        return found


@dataclass(frozen=True, slots=True)
class Response:
    """An answer that went well, or the body of one that did not."""

    body: bytes
    content_type: bytes = JSON
    status: int = 200
    headers: tuple[tuple[bytes, bytes], ...] = ()


Handler = Callable[[Request], Awaitable[Response]]


@dataclass(frozen=True, slots=True)
class Route:
    """`path` may hold parameters in braces, and is the route's name in the metrics.

    `scope`: what a key must be allowed to do, None: open to everybody.
    `codes`: the status codes that it gives beside 200, 400 (query), 405 and 500.
    """

    path: str
    method: str
    handler: Handler
    scope: Scope | None
    codes: tuple[int, ...] = ()

    @property
    def methods(self) -> tuple[str, ...]:
        """The methods that it takes; HEAD works where GET does."""
        return ("GET", "HEAD") if self.method == "GET" else (self.method,)
