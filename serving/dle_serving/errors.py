"""What the service refuses, by HTTP status; every error of every route is one of these and has one body.

The body is `{"error": string, "details": [{"row", "field", "code", "message"}]}`.
"""

from collections.abc import Iterable

import msgspec

from dle_bundle.errors import DleError, Fault


class HttpError(DleError):
    """Base: an answer other than 200. `headers` go out beside the content's own."""

    status = 500

    def __init__(self, message: str, faults: Iterable[Fault] = (), headers: Iterable[tuple[bytes, bytes]] = ()) -> None:
        super().__init__(message)
        self.faults = tuple(faults)
        self.headers = tuple(headers)

    def body(self) -> bytes:
        """The JSON text of the answer."""
        return msgspec.json.encode({"error": self.message, "details": self.faults})


class BadRequest(HttpError):
    """The request must change: its rows, its JSON or its query."""

    status = 400


class Unauthorized(HttpError):
    """No API key, or one that is not known."""

    status = 401

    def __init__(self, message: str) -> None:
        super().__init__(message, headers=[(b"www-authenticate", b"Bearer")])


class Forbidden(HttpError):
    """The API key lacks the scope of the route."""

    status = 403


class NotFound(HttpError):
    """No such path, model or version."""

    status = 404


class MethodNotAllowed(HttpError):
    """The path exists, but not for this method; `Allow` names those that it has."""

    status = 405

    def __init__(self, method: str, allowed: Iterable[str]) -> None:
        listed = ", ".join(allowed)
        super().__init__(f"expected {listed}, got {method}", headers=[(b"allow", listed.encode())])


class TooLarge(HttpError):
    """More bytes or rows than the service takes."""

    status = 413


class UnsupportedMediaType(HttpError):
    """The body is not JSON, or is compressed."""

    status = 415


class NotReady(HttpError):
    """The models are not loaded (yet)."""

    status = 503

    def __init__(self, message: str, faults: Iterable[Fault] = (), *, retry_after: int) -> None:
        super().__init__(message, faults, headers=[(b"retry-after", b"%d" % retry_after)])


class InternalError(HttpError):
    """A defect; the log has the traceback, the answer has not."""

    status = 500
