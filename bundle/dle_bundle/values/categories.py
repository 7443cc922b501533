"""Converts the values of categories to text, so that a category is the same in every file format and in JSON."""

import re
import unicodedata

from dle_bundle.values.numbers import SPACES

_WHOLE = re.compile(r"([+-]?)(0|[1-9][0-9]*)\.0*")


def category(value: str | int | float | bool) -> str:
    """The text of a category: trimmed text, `true` or `false`, whole numbers without a decimal point.

    Whole numbers are one category however they are written: `1`, `1.0` and `1.`. Leading zeros are kept. Hard spaces
    are spaces, and accents are composed (NFC), since both print alike.
    """
    if isinstance(value, str):
        text = value.strip()
        if not text.isascii():
            text = unicodedata.normalize("NFC", text.translate(SPACES))
        if text[-1:] in ("0", ".") and (whole := _WHOLE.fullmatch(text)):
            return f"{'-' if whole[1] == '-' and whole[2] != '0' else ''}{whole[2]}"
        return text
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float) and value.is_integer() and abs(value) < 2**53:
        return str(int(value))
    return str(value)
