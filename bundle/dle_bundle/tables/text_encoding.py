"""The encoding of a file of delimited text: found by its bytes, which know better than a setting.

A file that is in another encoding is refused. The message shows how the encodings that read all of it read its first
words, so that the user sees which one is right.
"""

import codecs
import gzip
import io
import re
import unicodedata
from collections.abc import Iterator
from pathlib import Path
from typing import IO, cast

from dle_bundle.errors import InputError
from dle_bundle.proposals import setting

USUAL = "utf-8-sig"
"""UTF-8, with or without a byte-order mark."""
_MARKS = (
    (codecs.BOM_UTF8, USUAL),
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
_WIDE = ("utf-32-le", "utf-32-be", "utf-16-le", "utf-16-be")
_WESTERN = ("cp1252", "cp1250", "cp850", "mac-roman")
_OTHERS = ("gb18030", "cp932", "cp1251", "cp949", "big5")
_BLOCK = 1 << 20
_SAMPLED = 4000
_ESCAPED = "[\udc80-\udcff]"
"""A byte that does not fit the encoding, as Python's `surrogateescape` decodes it."""
_WORD = re.compile(rf"[^\s,;|\"]*{_ESCAPED}[^\s,;|\"]*")
_WORDS = 3
_CONTROLS = re.compile(rb"[\x01-\x08\x0e-\x1f\x80-\xff]")
_PROPOSED = 3
_SHOWN = 20


def opened(path: Path, kind: str) -> IO[bytes]:
    """Open the file for reading, decompressed if its suffix says that it is compressed."""
    return cast(IO[bytes], gzip.open(path) if kind.endswith(".gz") else path.open("rb"))


def find(path: Path, kind: str, head: bytes, given: str | None) -> tuple[str, tuple[str, ...]]:
    """Return the encoding of the file that begins with `head`, and notes on it; `given` is what a setting says.

    Raises InputError if Python has no encoding that is called `given`.
    """
    for mark, name in _MARKS:
        if head.startswith(mark):
            return name, () if name == USUAL else (f"the text is {name.upper()}",)
    if wide := _wide(head[:_SAMPLED]):
        return wide, (f"the text is {wide[:6].upper()}",)
    if given is None:
        return USUAL, ()
    try:
        b"".decode(given)
        name = codecs.lookup(given).name
    except (LookupError, UnicodeError):
        known = "utf-8, utf-16, cp1252, latin-1, shift_jis and others of Python"
        raise InputError(f"data.encoding: no encoding is called {given!r}; there are {known}") from None
    if not name.startswith("utf") and _is_utf8(path, kind):
        return USUAL, (f"the text is UTF-8, and is read so instead of as {given}",)
    return given, ()


def refusal(path: Path, kind: str, encoding: str, proposing: bool) -> InputError:
    """Return the error for a file that is not in `encoding`, with the first line that shows it.

    `proposing` says whether the user can change settings, which the message then names.
    """
    line, byte, words = _misfits(path, kind, encoding)
    expected = "expected UTF-8 text" if encoding == USUAL else f"expected text in {encoding}"
    cure = "save it as UTF-8"
    if proposing and words:
        # Latin-1 gives every byte a character, if not always a sensible one
        readings = _readings(path, kind, words) or [("latin-1", [word.decode("latin-1") for word in words])]
        listed = [
            f"{setting('data.encoding', name)} to read {', '.join(f'{word[:_SHOWN]!r}' for word in read)}"
            for name, read in readings
        ]
        cure = f"set {', or '.join(listed)}"
    return InputError(f"{path}: not readable as {kind}: {line}{expected}{byte}; {cure}")


def _wide(sample: bytes) -> str | None:
    """UTF-16 or UTF-32 if the text is in one of them, without a byte-order mark."""
    zeros = sample.count(0)
    if not zeros or (zeros < 0.4 * len(sample) and not _CONTROLS.search(sample)):  # ASCII would be half zeros
        return None
    for name in _WIDE:
        try:
            text = codecs.getincrementaldecoder(name)().decode(sample)
        except UnicodeDecodeError:
            continue
        odd = any(each not in "\t\r\n" and unicodedata.category(each) in ("Cc", "Cn", "Co") for each in text)
        if not odd and any(mark in text for mark in "\r\n,;\t|"):
            return name
    return None


def _is_utf8(path: Path, kind: str) -> bool:
    """Whether the first block with other characters than ASCII is valid UTF-8, which other encodings never are."""
    decoder = codecs.getincrementaldecoder("utf-8")()
    for block in _blocks(path, kind):
        try:
            text = decoder.decode(block)
        except UnicodeDecodeError:
            return False
        if not text.isascii():
            return True
    return False


def _blocks(path: Path, kind: str) -> Iterator[bytes]:
    with opened(path, kind) as file:
        while block := file.read(_BLOCK):
            yield block


def _misfits(path: Path, kind: str, encoding: str) -> tuple[str, str, list[bytes]]:
    """The first line that is not in the encoding and its first such byte, and the first words with such bytes."""
    place = byte = ""
    words: dict[bytes, None] = {}
    with io.TextIOWrapper(opened(path, kind), encoding, errors="surrogateescape", newline="") as text:
        for number, line in enumerate(text, start=1):
            if line.isascii() or not (found := re.search(_ESCAPED, line)):
                continue
            if not place:
                place, byte = f"line {number}: ", f", found byte {ord(found[0]) - 0xDC00:#04x}"
            if encoding.startswith(("utf-16", "utf-32")):
                break
            name = encoding.removesuffix("-sig")
            words |= dict.fromkeys(word.encode(name, "surrogateescape") for word in _WORD.findall(line))
            if len(words) >= _WORDS:
                break
    return place, byte, list(words)[:_WORDS]


def _readings(path: Path, kind: str, words: list[bytes]) -> list[tuple[str, list[str]]]:
    """The encodings that read the whole file, the likely ones first, each with how it reads `words`."""
    long = b"".join(word for word in words if len(word) > 1)
    western = 2 * len(re.findall(rb"[\x80-\xff]", long)) < len(long) or not long  # accents are few among letters
    names = (*_WESTERN, *_OTHERS) if western else (*_OTHERS, *_WESTERN)
    decoders = {name: codecs.getincrementaldecoder(name)() for name in names}
    for block in _blocks(path, kind):
        for name, decoder in list(decoders.items()):
            try:
                decoder.decode(block)
            except UnicodeDecodeError:
                del decoders[name]
    found: dict[tuple[str, ...], str] = {}
    for name in decoders:
        read = tuple(word.decode(name, "replace") for word in words)
        if not any(unicodedata.category(each) in ("Cc", "Cn", "Co") or each == "\ufffd" for each in "".join(read)):
            found.setdefault(read, name)
    return [(name, list(read)) for read, name in found.items()][:_PROPOSED]
