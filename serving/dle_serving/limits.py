"""What a request may bring: a JSON body of bounded length, nothing else.

BentoML bounds no body and takes pickle where it is asked to; here neither exists.
"""

from collections.abc import Mapping
from typing import Any

from dle_serving.errors import BadRequest, TooLarge, UnsupportedMediaType


class Disconnected(Exception):
    """The client left before its request was complete; there is nobody to answer."""


def check_content(headers: Mapping[bytes, bytes]) -> None:
    """Raise UnsupportedMediaType unless the body is plain JSON in UTF-8; a body without a type is taken for it."""
    content_type = headers.get(b"content-type")
    if content_type is not None and content_type != b"application/json":
        media, _, parameters = content_type.decode("latin-1").lower().partition(";")
        charset = parameters.strip().replace('"', "")
        if media.strip() != "application/json" or charset not in ("", "charset=utf-8"):
            shown = content_type.decode("latin-1")
            raise UnsupportedMediaType(f"expected content-type application/json, got {shown[:100]!r}")
    encoding = headers.get(b"content-encoding", b"identity")
    if encoding.lower() != b"identity":
        raise UnsupportedMediaType(f"expected no content-encoding, got {encoding[:100].decode('latin-1')!r}")


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
    raise Disconnected


def _too_large(most: int, found: str) -> TooLarge:
    return TooLarge(f"expected a body of at most {most:,} bytes, {found}")
