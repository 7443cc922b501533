"""Converts the values of categories to text, so that a category is the same in every file format and in JSON."""

import re
import unicodedata

from dle_bundle.values.numbers import SPACES

_PIECE = 100
"""Number of characters that are composed at once: the time grows with the square of the number of accents in a row."""
_MOST_ACCENTS = 30
"""The limit of Unicode Standard Annex #15; real scripts need three."""
_WHOLE = re.compile(r"([+-]?)(0|[1-9][0-9]*)\.0*")


def category(value: str | int | float | bool) -> str:
    """The text of a category: trimmed text, `true` or `false`, whole numbers without a decimal point.

    Whole numbers are one category however they are written: `1`, `1.0` and `1.`. Leading zeros are kept. Hard spaces
    are spaces, and accents are composed (NFC), since both print alike; beyond 30 accents on a letter, not all are.
    """
    if isinstance(value, str):
        text = value.strip()
        if not text.isascii():
            text = _composed(text)
        if text[-1:] in ("0", ".") and (whole := _WHOLE.fullmatch(text)):
            return f"{'-' if whole[1] == '-' and whole[2] != '0' else ''}{whole[2]}"
        return text
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float) and value.is_integer() and abs(value) < 2**53:
        return str(int(value))
    return str(value)


def _composed(text: str) -> str:
    """The text in NFC with plain spaces, piece by piece; no piece ends between a letter and its first 30 accents."""
    pieces, start = [], 0
    while len(text) - start > _PIECE:
        stop, most = start + _PIECE, min(start + _PIECE + _MOST_ACCENTS, len(text))
        while stop < most and _joins(text[stop]):
            stop += 1
        pieces.append(text[start:stop])
        start = stop
    return "".join([unicodedata.normalize("NFC", piece.translate(SPACES)) for piece in (*pieces, text[start:])])


def _joins(character: str) -> bool:
    """Whether a character can be composed with the one before it: an accent, or a part of a Korean syllable."""
    return unicodedata.category(character)[0] == "M" or "\u1160" <= character <= "\u11ff"
