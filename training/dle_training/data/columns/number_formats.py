"""How a column writes its numbers: decimal mark, separator of thousands, unit, and brackets for negative numbers.

All values of a column share one format. If two formats fit and read the values differently (`1,234`), the user decides.
"""

import re
import unicodedata
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Literal

from msgspec.structs import replace

from dle_bundle.errors import counted
from dle_bundle.values.numbers import (
    NUMBER,
    PLAIN,
    SCALES,
    NumberFormat,
    has_other_thousands,
    is_dash,
    parse_number,
    tidy,
    without_brackets,
)

_CURRENCIES = frozenset({
    "AUD", "BRL", "CAD", "CHF", "CNY", "CZK", "DKK", "EUR", "GBP", "HKD", "HUF", "ILS", "INR", "JPY", "KRW", "MXN",
    "NOK", "NZD", "PLN", "RUB", "SEK", "SGD", "THB", "TRY", "USD", "ZAR", "Fr", "Fr.", "kr", "kr.", "Rs", "Rs.",
})  # fmt: skip
_NUMBER = r"(?:[0-9](?:[0-9.,'_ ]*[0-9])?[.,]?|[.,][0-9]+)(?:[eE][+-]?[0-9]+)?"
_SIGN = r"[+-]?"
_SPLIT = re.compile(
    rf"(?P<sign>{_SIGN}) ?"
    rf"(?P<before>[^\d\s.,()+'_-]{{1,4}}\.?(?= ?[+-]?[.\d]))? ?(?P<inner>{_SIGN})"
    rf"(?P<number>{_NUMBER})(?P<after>(?<=[0-9])-(?=\D*$))? ?"
    r"(?P<unit>[^\d\s.,()+'_-](?:[^\d()]{0,14}[^\s\d()-])?(?:(?<=[^\W\d_])[23])?|\+|/ ?[0-9]+)?(?P<last>-)?"
)
_SCALED = re.compile(rf"(?P<scale>{'|'.join(map(re.escape, SCALES))})(?: ?(?P<unit>[^\w\s]+|[A-Z]{{3}}))?")
_DIGITS = re.compile("[0-9]+")
_GROUPED, _UNGROUPED = re.compile(r"[+-]?[1-9][0-9]{0,2}(_[0-9]{3})+"), re.compile("[+-]?[0-9]{1,3}")
_ENOUGH_GROUPED = 5
"""Of so many different numbers with decimals, some would have one or two."""
_SAMPLES = 3
_FIRST = 1000
"""Values that show whether a column holds numbers at all."""
_FEW = 5
"""Most different units that a message names."""
_Negative = Literal["-3", "(3)", "3-"]
_FORMATS: tuple[tuple[str, str], ...] = (
    (".", ""), (",", ""), (".", ","), (",", "."), (".", " "), (",", " "), (".", "'"), (",", "'"), (".", "_"),
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Ambiguous:
    """Formats that all fit the values but read some of them as different numbers, and one such value."""

    formats: tuple[NumberFormat, ...]
    example: str


@dataclass(frozen=True, slots=True)
class Most:
    """The format of most values: how many `distinct` ones fit, in which `share` of the rows, and the `others`."""

    format: NumberFormat | Ambiguous
    distinct: int
    share: float
    others: tuple[str, ...]


def infer(texts: Collection[str], decimal: str | None = None, thousands: str | None = None) -> NumberFormat | Ambiguous:
    """Return the format that fits every text; `decimal` and `thousands` are given if the user sets them.

    Raises ValueError, with the reason if there is one, when no format fits all texts.
    """
    parts = [_part(text) for text in texts]
    scaled = _are_scaled(parts)
    named = (part.scaled_unit if scaled else part.unit for part in parts)
    units = _spellings(Counter(filter(None, named)))
    if len(units) > 1:
        listed = ", ".join(repr(each[0]) for each in units)
        raise ValueError(f"numbers with different units ({listed})" if len(units) <= _FEW else "")
    negatives: set[_Negative] = {part.negative for part in parts if part.negative != "-3"}
    if len(negatives) > 1:
        raise ValueError("negative numbers written in two ways, (3) and 3-,")
    negative: _Negative = negatives.pop() if negatives else "-3"
    unit = units[0] if units else ("",)
    if not units and negative == "-3" and not any(mark in part.digits for part in parts for mark in ".,"):
        decimal = None  # no value has a decimal mark
    fitting, tried = [], []
    for point, mark in _FORMATS:
        if (decimal or point) != point or point == thousands or (thousands is not None and mark not in ("", thousands)):
            continue
        if mark and not any(mark in part.digits for part in parts):
            continue
        written = NumberFormat(
            decimal=point,  # type: ignore[arg-type]
            thousands=mark,  # type: ignore[arg-type]
            unit=unit[0],
            other_units=unit[1:],
            scaled=scaled,
            negative=negative,
            dash=any(part.dash for part in parts),
        )
        tried.append(written)
        if all(_reads(text, written) for text in texts):
            fitting.append(written)
    if not fitting:
        several = all(any(_reads(text, written) for written in tried) for text in texts)
        raise ValueError(_unlike(texts, tried) if several else "")
    return _only(fitting, texts, [part.digits for part in parts])


def _unlike(texts: Collection[str], formats: Sequence[NumberFormat]) -> str:
    """Name two of the texts, each of which has a format, that are read by different ones."""
    second = next(text for text in texts if not _reads(text, formats[0]))
    written = next(each for each in formats if _reads(second, each))
    first = next(text for text in texts if not _reads(text, written))
    return f"numbers that no one format fits, such as {first!r:.40} and {second!r:.40},"


def of_most(counts: Mapping[str, int], decimal: str | None = None, thousands: str | None = None) -> Most | None:
    """Return the format that fits most texts; None if it fits less than half of the rows.

    `counts` has the rows of each text. `decimal` and `thousands` are as in `infer`, which needs a fit of all texts.
    """
    rows = sum(counts.values())
    if 4 * sum(map(_is_number, islice(counts, _FIRST))) < min(_FIRST, len(counts)):
        return None
    parts = {text: _part(text) for text in counts if _is_number(text)}
    scaled = _are_scaled(parts.values())
    units = {text: _same(part.scaled_unit if scaled else part.unit) for text, part in parts.items()}
    weights: Counter[str] = Counter()
    for text, unit in units.items():
        weights[unit] += counts[text]
    usual = max(filter(None, weights), key=weights.__getitem__, default="")
    alike = [text for text, unit in units.items() if unit in ("", usual)]
    fitting = set(alike)
    others = tuple(text for text in counts if text not in fitting)
    if not alike or 2 * sum(counts[text] for text in alike) < rows:
        return None
    try:
        found = infer(alike, decimal, thousands)
    except ValueError:
        return None
    return Most(found, len(alike), sum(counts[text] for text in alike) / rows, others)


def shown(counts: Mapping[str, int], written: NumberFormat) -> str:
    """Say how texts are read, by three that differ most from plain numbers. `counts` has the rows of each text.

    If plain numbers are at least half of the rows, the text also counts the other rows.
    """
    shapes: dict[str, str] = {}
    for text in counts:
        shapes.setdefault(_DIGITS.sub("0", text), text)
    marked = [text for text in counts if not _is_plain(text, written)]
    samples = sorted(shapes.values(), key=lambda text: (not is_dash(text), _is_plain(text, written)))[:_SAMPLES]
    if len(samples) == 1:
        samples = list(islice(counts, 2))
    unit = written.unit and f" {written.unit}"
    listed = ", ".join(f"{text!r} as {parse_number(text, written):.15g}{unit}" for text in samples)
    rows, others = sum(counts.values()), sum(counts[text] for text in marked)
    few = f"; only {others:,} of {counted(rows, 'row')} {'differs' if others == 1 else 'differ'} from plain numbers"
    return f"numbers are read: {listed}{few if 0 < 2 * others < rows else ''}"


def without_unit(counts: Mapping[str, int], written: NumberFormat) -> tuple[NumberFormat, dict[str, int]]:
    """Return the format without its unit and scales, and the texts that need them, with their rows."""
    bare = replace(written, unit="", other_units=(), scaled=False)
    return bare, {text: rows for text, rows in counts.items() if not _reads(text, bare)}


def may_be_thousands(digits: Iterable[str], mark: str = ".") -> tuple[str, bool] | None:
    """Return one of the numbers if all of them could be whole, with the mark between thousands, as in `12.345`.

    `digits` are numbers without units. The truth value says whether they hardly can be anything else: there are whole
    numbers below 1,000, and the others have three decimals each, which numbers of a program do not.
    """
    grouped, whole = dict[str, None](), False
    for text in digits:
        if mark in text:
            if not _GROUPED.fullmatch(text.replace(mark, "_")):
                return None
            grouped[text] = None
        elif not _UNGROUPED.fullmatch(text):
            return None
        else:
            whole = whole or text.strip("+-0") != ""
    return (next(iter(grouped)), whole and len(grouped) >= _ENOUGH_GROUPED) if grouped else None


def digits(text: str) -> str:
    """The text of a number without sign, unit and scale; raises ValueError for anything else."""
    return _part(text).digits


@dataclass(frozen=True, slots=True)
class _Part:
    """A number in parts; `scale` and `scaled_unit` are how to read `unit` if numbers have scales.

    `dash`: a dash stands for zero.
    """

    digits: str
    unit: str = ""
    negative: _Negative = "-3"
    scale: str = ""
    scaled_unit: str = ""
    dash: bool = False


def _part(text: str) -> _Part:
    """The parts of a number; raises ValueError for anything else."""
    text = tidy(text)
    if NUMBER.fullmatch(text):
        return _Part(text)
    if (currency := is_dash(text)) and _is_currency(currency):
        return _Part("0", currency, scaled_unit=currency, dash=True)
    inner = without_brackets(text)
    found = _SPLIT.fullmatch(inner or text)
    if found is None or sum(map(bool, (found["sign"], found["inner"], found["after"], found["last"], inner))) > 1:
        raise ValueError("")
    before, behind = found["before"] or "", found["unit"] or ""
    if (before and not _is_currency(before)) or (before and behind and behind not in SCALES):
        raise ValueError("")
    negative: _Negative = "(3)" if inner else "3-" if found["after"] or found["last"] else "-3"
    scaled = _SCALED.fullmatch(behind)
    if scaled is None:
        return _Part(found["number"], before or behind, negative, "", before or behind)
    return _Part(found["number"], before or behind, negative, scaled["scale"], before or scaled["unit"] or "")


def _is_number(text: str) -> bool:
    try:
        _part(text)
    except ValueError:
        return False
    return True


def _are_scaled(parts: Collection[_Part]) -> bool:
    """Whether letters such as k and M are scales: there are several, or currencies or plain numbers beside them."""
    scales = {part.scale for part in parts}
    units = {part.scaled_unit for part in parts} - {""}
    return scales != {""} and all(map(_is_currency, units)) and (len(scales) > 1 or bool(units))


def _spellings(units: Counter[str]) -> list[tuple[str, ...]]:
    """The spellings of each unit, most frequent first: `days` and `day` are one unit, as are `kg` and `KG`."""
    found: dict[str, list[str]] = {}
    for unit, _ in units.most_common():
        found.setdefault(_same(unit), []).append(unit)
    return [tuple(each) for each in found.values()]


def _same(unit: str) -> str:
    """What the spellings of a unit have in common; mPa and MPa, m and M are different units."""
    if len(unit) < 2:
        return unit
    prefix = unit[0] if unit[0] in "mM" and any(map(str.isupper, unit[1:])) else unit[0].casefold()
    rest = unit[1:].casefold()
    return prefix + (rest[:-1] if len(rest) > 1 and rest.endswith("s") and rest[-2].isalpha() else rest)


def _is_currency(text: str) -> bool:
    """Whether the text names a currency, such as `$`, `US$` or `EUR`, so that it may stand before a number."""
    return not _CURRENCIES.isdisjoint((text, text.upper())) or any(map(_is_sign_of_currency, text))


def _is_sign_of_currency(character: str) -> bool:
    return unicodedata.category(character) == "Sc"


def _is_plain(text: str, written: NumberFormat) -> bool:
    """Whether the text is a plain number, which means the same in this format."""
    return NUMBER.fullmatch(text) is not None and float(text) == parse_number(text, written)


def _reads(text: str, written: NumberFormat) -> bool:
    """Whether the format reads the text, and names the separator of its thousands if it has one."""
    try:
        parse_number(text, written)
    except ValueError:
        return False
    return bool(written.thousands) or not has_other_thousands(text, written)


def _only(fitting: list[NumberFormat], texts: Iterable[str], digits: Collection[str]) -> NumberFormat | Ambiguous:
    """Return the first format if all of them read the same numbers, or the one that the `digits` hardly contradict.

    A decimal point without separators wins, except in amounts of a currency, which rarely have three decimals.
    """
    first = fitting[0]
    for written in fitting:
        mark = written.thousands
        if mark == "," or (mark == "." and _is_currency(written.unit)):
            found = may_be_thousands(digits, mark)
            if found is not None and found[1]:
                return written
    if len(fitting) == 1 or (first.decimal, first.thousands) == (PLAIN.decimal, PLAIN.thousands):
        return first
    for text in texts:
        if len({parse_number(text, written) for written in fitting}) > 1:
            return Ambiguous(tuple(fitting), text)
    return first
