"""Bodies that make as much work and take as much memory as they can for their size, for every kind of input."""

import base64
import io
import json
import struct
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from PIL import Image
from tests import bundles

from dle_bundle.schema import Schema


@dataclass(frozen=True, slots=True)
class Hostile:
    """A family of bodies of any size: `make(n)` has about n bytes."""

    schema: Schema
    make: Callable[[int], bytes]


def body(*rows: Any) -> bytes:
    """A body of these rows, without spaces."""
    return json.dumps({"rows": rows}, ensure_ascii=False, separators=(",", ":")).encode()


def _rows(row: bytes, size: int) -> bytes:
    return b'{"rows":[' + b",".join([row] * min(size // (len(row) + 1), 19_999)) + b"]}"


INCOME = dict(bundles.EXAMPLE)
(_PROMOTION,) = bundles.rows(bundles.PROMOTION, 1)


def _income(**values: Any) -> Hostile:
    """A valid row of a table; one value of it is a text, or a function of the size."""
    return Hostile(
        bundles.INCOME,
        lambda n: body(INCOME | {name: value(n) if callable(value) else value for name, value in values.items()}),
    )


def _raw(name: str, value: Callable[[int], bytes], schema: Schema = bundles.INCOME, row: Any = None) -> Hostile:
    """A row with a value that is written by hand."""
    mark = b'"here"'
    return Hostile(schema, lambda n: body({**(row or {}), name: "here"}).replace(mark, value(n)))


TABLES = {
    "empty rows": Hostile(bundles.INCOME, lambda n: _rows(b"{}", n)),
    "rows that are numbers": Hostile(bundles.INCOME, lambda n: _rows(b"1", n)),
    "many valid rows": Hostile(bundles.INCOME, lambda n: _rows(json.dumps(INCOME).encode(), n)),
    "many unknown inputs": Hostile(bundles.INCOME, lambda n: body({f"{i}": 1 for i in range(n // 9)})),
    "one long unknown input": Hostile(bundles.INCOME, lambda n: body({"x" * n: 1})),
    "nested lists": Hostile(bundles.INCOME, lambda n: b'{"rows":' + b"[" * (n // 2) + b"]" * (n // 2) + b"}"),
    "unclosed lists": Hostile(bundles.INCOME, lambda n: b"[" * n),
    "nested objects": _raw("age", lambda n: b'{"":' * (n // 5) + b"1" + b"}" * (n // 5), row=INCOME),
    "numeric: digits": _raw("age", lambda n: b"9" * n, row=INCOME),
    "numeric: decimals": _raw("age", lambda n: b"0." + b"9" * n, row=INCOME),
    "numeric: exponent": _raw("age", lambda n: b"1e" + b"9" * n, row=INCOME),
    "numeric: empty lists": _raw("age", lambda n: b"[" + b",".join([b"[]"] * (n // 3)) + b"]", row=INCOME),
    "numeric: small objects": _raw("age", lambda n: b"[" + b",".join([b'{"":1}'] * (n // 7)) + b"]", row=INCOME),
    "boolean: a text": _income(married=lambda n: "true" * (n // 4)),
    "categorical: one letter": _income(workclass=lambda n: "A" * n),
    "categorical: accents": _income(workclass=lambda n: "a" + "\u0315\u0300" * (n // 4)),
    "categorical: parts of syllables": _income(workclass=lambda n: "\u1100" + "\u1161" * (n // 3)),
    "categorical: spaces": _income(workclass=lambda n: "a" + "\u00a0" * (n // 2) + "b"),
    "categorical: zeros": _income(workclass=lambda n: "1." + "0" * n),
    "categorical: escapes": _raw("workclass", lambda n: b'"' + b"\\u0301" * (n // 6) + b'"', row=INCOME),
    "categorical: whole number": _raw("zone", lambda n: b"9" * n, row=INCOME),
    "datetime: figures": _income(since=lambda n: "2" * n),
    "datetime: months": _income(since=lambda n: "January " * (n // 8)),
    "datetime: brackets": _income(since=lambda n: "(" * n),
    "datetime: many": Hostile(bundles.INCOME, lambda n: body(*[{"since": f"{i}-01-01"} for i in range(n // 25)])),
}
SERIES = {
    "sequence: many steps": _raw("signal", lambda n: b"[" + b",".join([b"[1,2]"] * (n // 6)) + b"]", bundles.SIGNAL),
    "sequence: empty steps": _raw("signal", lambda n: b"[" + b",".join([b"[]"] * (n // 3)) + b"]", bundles.SIGNAL),
    "sequence: texts": _raw("signal", lambda n: b"[" + b",".join([b'["x",1]'] * (n // 8)) + b"]", bundles.SIGNAL),
    "sequence: digits": _raw("signal", lambda n: b"[[" + b"9" * n + b",1]]", bundles.SIGNAL),
    "sequence: a long one pads many": Hostile(
        bundles.SIGNAL, lambda n: body({"signal": [[1, 2]] * 50}, *[{"signal": [[1, 2]]}] * min(n // 19, 19_999))
    ),
    "forecast: many steps": _raw("sequence", lambda n: b"[" + b",".join([b"1"] * (n // 2)) + b"]", bundles.FORECAST),
    "known: many steps": _raw(
        "known", lambda n: b"[" + b",".join([b"[1,0,0]"] * (n // 8)) + b"]", bundles.PROMOTION, _PROMOTION
    ),
}
TEXTS = {
    "text: signs": Hostile(bundles.REVIEW, lambda n: body({"text": "!" * n})),
    "text: one word": Hostile(bundles.REVIEW, lambda n: body({"text": "a" * n})),
    "text: words": Hostile(bundles.REVIEW, lambda n: body({"text": "a " * (n // 2)})),
    "text: spaces": Hostile(bundles.REVIEW, lambda n: body({"text": "a" + " " * n + "a"})),
    "text: accents": Hostile(bundles.REVIEW, lambda n: body({"text": "a" + "\u0315\u0300" * (n // 4)})),
    "text: syllables": Hostile(bundles.REVIEW, lambda n: body({"text": "각" * (n // 3)})),
    "tokens: many texts": Hostile(bundles.REVIEW, lambda n: body(*[{"text": "!" * 400}] * (n // 412))),
    "tokens: a long text pads many": Hostile(
        bundles.REVIEW, lambda n: body({"text": "a " * 8_000}, *[{"text": "a"}] * min(n // 13, 19_999))
    ),
}


def chunk(name: bytes, content: bytes) -> bytes:
    """A part of a PNG file."""
    return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))


def png(width: int, height: int, more: bytes = b"", data: bytes | None = None) -> bytes:
    """A black PNG file in colours, with further parts before its pixels, or with other `data` in place of them."""
    if data is None:
        packer = zlib.compressobj(9)
        row = bytes(1 + 3 * width)
        data = b"".join(packer.compress(row) for _ in range(height)) + packer.flush()
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + more + chunk(b"IDAT", data) + chunk(b"IEND", b"")


def _photo(make: Callable[[int], bytes]) -> Hostile:
    return Hostile(bundles.PICTURE, lambda n: body({"photo": base64.b64encode(make(n)).decode()}))


_TINY = base64.b64encode(png(4, 4)).decode()
IMAGES = {
    "image: one letter": Hostile(bundles.PICTURE, lambda n: body({"photo": "A" * n})),
    "image: spaces": Hostile(bundles.PICTURE, lambda n: body({"photo": " A" * (n // 2)})),
    "image: commas": Hostile(bundles.PICTURE, lambda n: body({"photo": "data:" + "," * n})),
    "image: small images": Hostile(bundles.PICTURE, lambda n: body(*[{"photo": _TINY}] * (n // (len(_TINY) + 13)))),
    "image: comments": _photo(lambda n: png(8, 8, chunk(b"tEXt", b"k\0a") * (n // 20))),
    "image: packed comments": _photo(
        lambda n: png(8, 8, chunk(b"zTXt", b"k\0\0" + zlib.compress(bytes(500_000))) * (n // 740))
    ),
    "image: packed colours": _photo(lambda n: png(8, 8, chunk(b"iCCP", b"k\0\0" + zlib.compress(bytes(n * 700))))),
    "image: huge on paper": _photo(lambda n: png(60_000, 60_000, data=bytes(n // 2))),
}


BOMBS: dict[str, dict[str, Any]] = {
    "png": {},
    "gif": {},
    "jpeg": {"progressive": True},
    "webp": {},
    "avif": {},
    "jpeg2000": {},
    "tiff": {"compression": "tiff_adobe_deflate"},
}
"""Formats of which small files become many pixels, and how to write them."""
BOMB_PIXELS = 4_000_000


def bomb(kind: str) -> bytes:
    """A small file of `BOMB_PIXELS` pixels."""
    out = io.BytesIO()
    Image.new("RGB", (2_000, 2_000)).save(out, kind, **BOMBS[kind])
    return out.getvalue()
