"""Recognises the head of a plain request, which contains nothing that HTTP servers are known to read differently.

Everything that is not plain goes to the HTTP parser, so this file may refuse anything, but must accept nothing that the
parser would read in another way.
"""

import re
from dataclasses import dataclass

MOST_HEAD_BYTES = 8 << 10
"""Longer heads are not plain."""

_END = b"\r\n\r\n"
_REQUEST = re.compile(rb"POST (/[A-Za-z0-9._~/-]*)(?:\?([A-Za-z0-9=&_-]*))? HTTP/1\.1\r\n")
_HEADER = re.compile(rb"([A-Za-z0-9-]+): ([\x21-\x7e](?:[\x20-\x7e]*[\x21-\x7e])?)\r\n")
_LENGTH = re.compile(rb"[0-9]{1,9}")
_ONCE = {b"content-length", b"content-type", b"authorization", b"host"}
_NEVER = {
    b"transfer-encoding",
    b"content-encoding",
    b"expect",
    b"upgrade",
    b"proxy-connection",
    b"te",
    b"trailer",
    b"http2-settings",
    b"x-request-timeout-ms",
}
_KEEP_ALIVE = b"keep-alive"


@dataclass(frozen=True, slots=True)
class Head:
    """The head of a plain POST request. `size` and `length` are the bytes of the head and of the body."""

    path: str
    query: bytes
    size: int
    length: int
    headers: dict[bytes, bytes]


def end_of_head(data: bytes) -> int:
    """The size of the head at the start of `data`; 0 if it is not complete or too long to be plain."""
    end = data.find(_END, 0, MOST_HEAD_BYTES)
    return end + len(_END) if end >= 0 else 0


def plain_head(head: bytes) -> Head | None:
    """The content of a whole head, or None if it is not plain.

    Plain means: POST, HTTP/1.1, a path without escapes, one header a line with a name of letters, digits and hyphens,
    values of printable ASCII, exactly one content-length, and no header that changes how the body or the connection is
    used.
    """
    request = _REQUEST.match(head)
    if request is None:
        return None
    headers: dict[bytes, bytes] = {}
    place, end = request.end(), len(head) - 2
    while place < end:
        header = _HEADER.match(head, place, end)
        if header is None:
            return None
        name, value = header[1].lower(), header[2]
        if name in _NEVER or (name in _ONCE and name in headers):
            return None
        if name == b"connection" and value.lower() != _KEEP_ALIVE:
            return None
        headers[name] = value
        place = header.end()
    length = headers.get(b"content-length", b"")
    if not _LENGTH.fullmatch(length):
        return None
    return Head(request[1].decode(), request[2] or b"", len(head), int(length), headers)
