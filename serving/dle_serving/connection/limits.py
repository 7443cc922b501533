"""Limits on request bodies: their size, and their media type (JSON, or an image file where the route accepts one).

BentoML neither limits the size of a body nor refuses pickle; this service does both.
"""

from collections.abc import Callable, Collection, Mapping
from typing import Any

from dle_serving.errors import BadRequest, TooLarge, UnsupportedMediaType

_JSON = "application/json"


class ClientDisconnected(Exception):
    """The client disconnected before its request was complete."""


def check_content(headers: Mapping[bytes, bytes], images: Collection[str] = ()) -> str:
    """Return the media type of the body: `application/json` (also when none is given) or one of `images`.

    Raises UnsupportedMediaType for any other type, for JSON in another encoding than UTF-8 and for compressed bodies.
    """
    encoding = headers.get(b"content-encoding", b"identity")
    if encoding.lower() != b"identity":
        raise UnsupportedMediaType(f"expected no content-encoding, got {encoding[:100].decode('latin-1')!r}")
    content_type = headers.get(b"content-type")
    if content_type is None or content_type == _JSON.encode():
        return _JSON
    media, _, parameters = content_type.decode("latin-1").lower().partition(";")
    media, charset = media.strip(), parameters.strip().replace('"', "")
    if media in images or (media == _JSON and charset in ("", "charset=utf-8")):
        return media
    shown = content_type.decode("latin-1")[:100]
    expected = ", ".join((_JSON, *images))
    raise UnsupportedMediaType(f"expected content-type {expected}, got {shown!r}")


async def read_body(headers: Mapping[bytes, bytes], receive: Any, most: int, take: Callable[[int], None]) -> bytes:
    """Read the whole body, of at most `most` bytes; `take` is called with the size of each part.

    Raises TooLarge before reading anything when content-length is larger, or as soon as a chunked body exceeds `most`;
    the server then discards the rest of the body. Raises ClientDisconnected when the client leaves too early.
    """
    declared = headers.get(b"content-length")
    if declared is not None:
        if not declared.isdigit():
            raise BadRequest("content-length: expected a number of bytes")
        if int(declared) > most:
            raise _too_large(most, f"found {int(declared):,}")
    message = await receive()
    if not message.get("more_body") and message["type"] == "http.request":
        body: bytes = message.get("body", b"")
        if len(body) > most:
            raise _too_large(most, "found more")
        take(len(body))
        return body
    chunks, length = [], 0
    while message["type"] == "http.request":
        chunk = message.get("body", b"")
        length += len(chunk)
        if length > most:
            raise _too_large(most, "found more")
        take(len(chunk))
        chunks.append(chunk)
        if not message.get("more_body"):
            return b"".join(chunks)
        message = await receive()
    raise ClientDisconnected


def _too_large(most: int, found: str) -> TooLarge:
    return TooLarge(f"expected a body of at most {most:,} bytes, {found}")
