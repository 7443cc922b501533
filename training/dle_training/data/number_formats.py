"""How a column writes its numbers: decimal mark, separator of thousands, unit, and brackets for negative numbers.

All values of a column share one format. If two formats fit and read the values differently (`1,234`), the user decides.
"""

import re
import unicodedata
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass

from dle_bundle.values.numbers import NUMBER, PLAIN, NumberFormat, parse_number, tidy

_CURRENCIES = frozenset({
    "AUD", "BRL", "CAD", "CHF", "CNY", "CZK", "DKK", "EUR", "GBP", "HKD", "HUF", "ILS", "INR", "JPY", "KRW", "MXN",
    "NOK", "NZD", "PLN", "RUB", "SEK", "SGD", "THB", "TRY", "USD", "ZAR", "Fr", "Fr.", "kr", "kr.", "Rs", "Rs.",
})  # fmt: skip
_NUMBER = r"(?:[0-9](?:[0-9.,'_ ]*[0-9])?[.,]?|[.,][0-9]+)(?:[eE][+-]?[0-9]+)?"
_SIGN = r"[+-]?"
_SPLIT = re.compile(
    rf"(?P<open>\()?(?P<sign>{_SIGN}) ?"
    rf"(?P<before>[^\d\s.,()+'_-]{{1,4}}\.?(?= ?[+-]?[.\d]))? ?(?P<inner>{_SIGN})"
    rf"(?P<number>{_NUMBER})(?P<after>-(?=\D*$))? ?"
    r"(?P<unit>[^\d\s.,()+'_-](?:[^\d()]{0,14}[^\s\d()])?[23]?)?(?P<close>\))?(?: ?(?P<last>[^\d\s()]{1,4}))?"
)
_FORMATS: tuple[tuple[str, str], ...] = (
    (".", ""), (",", ""), (".", ","), (",", "."), (".", " "), (",", " "), (".", "'"), (",", "'"), (".", "_"),
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Ambiguous:
    """Formats that all fit the values but read some of them as different numbers, and one such value."""

    formats: tuple[NumberFormat, ...]
    example: str


def infer(texts: Collection[str], decimal: str | None = None, thousands: str | None = None) -> NumberFormat | Ambiguous:
    """Return the format that fits every text; `decimal` and `thousands` are given if the user sets them.

    Raises ValueError, with the reason if there is one, when no format fits all texts.
    """
    parts = list(_parts(texts))
    units = {part.unit for part in parts} - {""}
    if len(units) > 1:
        raise ValueError(f"numbers with different units: {', '.join(map(repr, sorted(units)[:5]))}")
    negatives = {part.negative for part in parts} - {"-3"}
    if len(negatives) > 1:
        raise ValueError("negative numbers written in two ways: (3) and 3-")
    unit, negative = next(iter(units), ""), next(iter(negatives), "-3")
    if not units and not negatives and not any(mark in part.digits for part in parts for mark in ".,"):
        decimal = None  # no value has a decimal mark
    fitting = []
    for point, mark in _FORMATS:
        if (decimal or point) != point or point == thousands or (thousands is not None and mark not in ("", thousands)):
            continue
        if mark and not any(mark in part.digits for part in parts):
            continue
        written = NumberFormat(decimal=point, thousands=mark, unit=unit, negative=negative)  # type: ignore[arg-type]
        if all(_reads(text, written) for text in texts):
            fitting.append(written)
    if not fitting:
        raise ValueError("")
    return _only(fitting, texts)


def may_be_thousands(texts: Iterable[str]) -> str | None:
    """Return one of the texts if all of them could be whole numbers with points between thousands, as in `12.345`."""
    found = None
    for text in texts:
        if "." in text:
            if not re.fullmatch(r"[+-]?[1-9][0-9]{0,2}(\.[0-9]{3})+", text):
                return None
            found = found or text
        elif not re.fullmatch(r"[+-]?[0-9]{1,3}", text):
            return None
    return found


@dataclass(frozen=True, slots=True)
class _Part:
    digits: str
    unit: str
    negative: str


def _parts(texts: Iterable[str]) -> Iterator[_Part]:
    for text in texts:
        text = tidy(text)
        if NUMBER.fullmatch(text):
            yield _Part(text, "", "-3")
            continue
        found = _SPLIT.fullmatch(text)
        if found is None or bool(found["open"]) != bool(found["close"]):
            raise ValueError("")
        before = found["before"] or ""
        if before and not _is_currency(before):
            raise ValueError("")
        named = [each for each in (before, found["unit"], found["last"]) if each]
        if len(named) > 1 or sum(map(bool, (found["sign"], found["inner"], found["after"], found["open"]))) > 1:
            raise ValueError("")
        negative = "(3)" if found["open"] else "3-" if found["after"] else "-3"
        yield _Part(found["number"], named[0] if named else "", negative)


def _is_currency(text: str) -> bool:
    """Whether the text names a currency, such as `$`, `US$` or `EUR`, so that it may stand before a number."""
    return text in _CURRENCIES or any(unicodedata.category(each) == "Sc" for each in text)


def _reads(text: str, written: NumberFormat) -> bool:
    try:
        parse_number(text, written)
    except ValueError:
        return False
    return True


def _only(fitting: list[NumberFormat], texts: Iterable[str]) -> NumberFormat | Ambiguous:
    """Return the first format if all of them read the same numbers; a decimal point without separators wins."""
    first = fitting[0]
    if len(fitting) == 1 or (first.decimal, first.thousands) == (PLAIN.decimal, PLAIN.thousands):
        return first
    for text in texts:
        if len({parse_number(text, written) for written in fitting}) > 1:
            return Ambiguous(tuple(fitting), text)
    return first
