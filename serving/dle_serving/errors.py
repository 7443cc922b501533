"""HTTP errors, one class per status; every error response of every route is one of these, with the same body.

The body is `{"error": string, "details": [{"row", "field", "code", "message"}]}`. It lists the first `MOST_LISTED`
faults and says how many more there are, so that an answer is never much longer than its request.
"""

from collections.abc import Iterable

import msgspec

from dle_bundle.errors import DleError, Fault

MOST_LISTED = 100
"""Maximum number of faults in the body of an error."""


class HttpError(DleError):
    """Base class of error responses. `headers` are sent in addition to the content headers.

    `more`: there are more faults than `faults`, which were not looked for.
    """

    status = 500

    def __init__(
        self,
        message: str,
        faults: Iterable[Fault] = (),
        headers: Iterable[tuple[bytes, bytes]] = (),
        *,
        more: bool = False,
    ) -> None:
        super().__init__(message)
        self.faults = tuple(faults)
        self.more = more
        self.headers = tuple(headers)

    def body(self) -> bytes:
        """The response body as JSON."""
        rest = len(self.faults) - MOST_LISTED
        message = self.message
        if rest > 0:
            counted = f"{'over ' if self.more else ''}{rest:,}"
            message += f"; the first {MOST_LISTED} faults are listed, and there are {counted} more"
        return msgspec.json.encode({"error": message, "details": self.faults[:MOST_LISTED]})


class BadRequest(HttpError):
    """The rows, the JSON or the query of the request are wrong."""

    status = 400


class Unauthorized(HttpError):
    """The API key is missing or unknown."""

    status = 401

    def __init__(self, message: str) -> None:
        super().__init__(message, headers=[(b"www-authenticate", b"Bearer")])


class Forbidden(HttpError):
    """The API key lacks the scope that the route requires."""

    status = 403


class NotFound(HttpError):
    """The path, model or version does not exist."""

    status = 404


class MethodNotAllowed(HttpError):
    """The path does not support this method; the `Allow` header lists the methods that it supports."""

    status = 405

    def __init__(self, method: str, allowed: Iterable[str]) -> None:
        listed = ", ".join(allowed)
        super().__init__(f"expected {listed}, got {method}", headers=[(b"allow", listed.encode())])


class TooSlow(HttpError):
    """The headers or the body of the request did not arrive in time."""

    status = 408


class TooLarge(HttpError):
    """The request has more bytes or rows than the service allows."""

    status = 413


class UnsupportedMediaType(HttpError):
    """The body has a media type that the route does not accept, or is compressed."""

    status = 415


class HeadersTooLarge(HttpError):
    """The headers or trailers of the request have more bytes than the service allows."""

    status = 431


class NotReady(HttpError):
    """The server cannot respond now, for instance while it loads its models; `retry_after` is in seconds."""

    status = 503

    def __init__(self, message: str, faults: Iterable[Fault] = (), *, retry_after: int) -> None:
        super().__init__(message, faults, headers=[(b"retry-after", b"%d" % retry_after)])


class TooLate(HttpError):
    """The request waited longer than its client wants to wait, and no work on it began."""

    status = 504


class InternalError(HttpError):
    """A defect of the service. The log holds the traceback; the response does not."""

    status = 500
