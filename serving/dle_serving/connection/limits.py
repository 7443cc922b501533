"""What a request may bring: a JSON body of bounded length or, where one is read, an image file; nothing else.

BentoML bounds no body and takes pickle where it is asked to; here neither exists.
"""

from collections.abc import Collection, Mapping
from typing import Any

from dle_serving.errors import BadRequest, TooLarge, UnsupportedMediaType

_JSON = "application/json"


class ClientDisconnected(Exception):
    """The client left before its request was complete; there is nobody to answer."""


def check_content(headers: Mapping[bytes, bytes], images: Collection[str] = ()) -> str:
    """The media type of the body: `application/json`, for which a body without a type is taken, or one of `images`.

    Raises UnsupportedMediaType for others, JSON in another encoding than UTF-8, and compressed bodies.
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


async def read_body(headers: Mapping[bytes, bytes], receive: Any, most: int) -> bytes:
    """The whole body. Raises TooLarge before reading a longer one, or as soon as a chunked one turns out longer.

    The server drops what the client still sends after that, without keeping it.
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
        return body
    chunks, length = [], 0
    while message["type"] == "http.request":
        chunk = message.get("body", b"")
        length += len(chunk)
        if length > most:
            raise _too_large(most, "found more")
        chunks.append(chunk)
        if not message.get("more_body"):
            return b"".join(chunks)
        message = await receive()
    raise ClientDisconnected


def _too_large(most: int, found: str) -> TooLarge:
    return TooLarge(f"expected a body of at most {most:,} bytes, {found}")
