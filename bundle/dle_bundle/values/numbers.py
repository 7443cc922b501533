"""Parses numbers and booleans written as text, and finds numbers that a type cannot tell apart."""

import re
import unicodedata
from functools import lru_cache
from typing import Literal

import msgspec
import numpy as np
import numpy.typing as npt

TRUE = frozenset({"true", "t", "yes", "y", "1"})
FALSE = frozenset({"false", "f", "no", "n", "0"})

NUMBER = re.compile(r"[+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]+)?|[+-]?(?:inf(?:inity)?)", re.IGNORECASE)
EXACT = 2**53
"""float64 holds every whole number up to this one."""
_WHOLE = re.compile(r"([+-]?[0-9]{1,4000})(?:\.0*)?")
_FLOAT32_MAX = float(np.finfo(np.float32).max)
_ROUNDING = 8
"""Rounding errors of a short calculation, in machine epsilons: together a millionth of a float32."""

SPACES = str.maketrans(dict.fromkeys("\u00a0\u202f\u2009\u2007", " "))
"""Hard and narrow spaces."""
ALIKE = SPACES | str.maketrans(
    dict.fromkeys("\u2212\u2013\ufe63\uff0d", "-")
    | {"\u2019": "'", "\uff0e": ".", "\uff0c": ",", "\uff05": "%", "\uff0b": "+"}
    | {mark: str(unicodedata.decimal(mark)) for mark in map(chr, range(128, 0x10000)) if mark.isdecimal()}
)
"""Characters that print like a space, a sign, an apostrophe or a mark, and the digits of other scripts."""
_NO_CENTS = re.compile(r"(?<=[0-9][.,])(?:--?|—)(?![0-9])")
SCALES = {
    "k": 3, "K": 3, "thousand": 3, "M": 6, "mn": 6, "Mio": 6, "Mio.": 6, "million": 6,
    "B": 9, "bn": 9, "Mrd": 9, "Mrd.": 9, "billion": 9,
}  # fmt: skip
"""Powers of ten by the letter or word behind a number, as in `1.2M`."""
_SIGNS_BEFORE = ("$", "£", "¥", "₹")
"""Signs of currencies that stand before an amount."""
_DASH = re.compile(r"(?P<before>[^\d\s-]+) *--?|--? *(?P<behind>[^\d\s-]+)")
_BRACKETS = re.compile(r"([^\d()]*)\( ?([^()]*\d[^()]*?) ?\)([^\d()]*)")

Floats = npt.NDArray[np.float32] | npt.NDArray[np.float64] | np.float32 | np.float64


class NumberFormat(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """How a column writes its numbers: `1.234,50 €` has decimal `,`, thousands `.` and unit `€`.

    `thousands`: the separator of groups of digits, or `""`. `unit`: text before or after each number.
    `other_units`: other spellings of the unit, such as `day` beside `days`. `scaled`: numbers may have a scale behind
    them, as in `1.2M` and `300k`. `negative`: negative numbers beside `-3.50` are `(3.50)` or `3.50-`. `dash`: a dash
    with the unit, as in `$ -`, is zero, as accountants and Excel write it.
    """

    decimal: Literal[".", ","] = "."
    thousands: Literal["", ".", ",", " ", "'", "_"] = ""
    unit: str = ""
    other_units: tuple[str, ...] = ()
    scaled: bool = False
    negative: Literal["-3", "(3)", "3-"] = "-3"
    dash: bool = False

    @property
    def example(self) -> str:
        """The number -1234.5 in this format."""
        amount = f"1{self.thousands}234{self.decimal}5"
        if self.unit:
            amount = f"{self.unit}{amount}" if self.unit.endswith(_SIGNS_BEFORE) else f"{amount} {self.unit}"
        return self.negative.replace("3", amount)


PLAIN = NumberFormat()
"""`-1234.5`: digits with a decimal point, as programs write numbers."""


def tidy(text: str) -> str:
    """Return the text with plain spaces, signs and apostrophes, and prices such as `12.-` without the dash."""
    text = text if text.isascii() else text.translate(ALIKE)
    return _NO_CENTS.sub("", text) if text.find("-", 1) > 0 or "—" in text else text


def parse_number(text: str, written: NumberFormat = PLAIN) -> float:
    """Parse a decimal number, possibly infinite, in the format `written`, or in `PLAIN` if that has no other meaning.

    A format without a separator of thousands, because no number was large enough, reads one that has no other meaning:
    `1.143,6` with the decimal mark `,`.
    Raises ValueError for anything else, such as `1_000`, or `1,000` in `PLAIN`.
    """
    text = tidy(text)
    if NUMBER.fullmatch(text) and (written.decimal == "." or "." not in text) and written.thousands != ".":
        return float(text)
    bracketed = without_brackets(text) if written.negative == "(3)" else None
    if written != PLAIN and (found := _pattern(written).fullmatch(bracketed or text)):
        digits = found["digits"]
        if mark := written.thousands or found["mark"]:
            digits = digits.replace(mark, "")
        if written.decimal == ",":
            digits = digits.replace(",", ".")
        value = float(f"{digits}e{SCALES[found['scale']]}" if found["scale"] else digits)
        signs = [mark for mark in (found["sign"], found["inner"], found["after"], found["last"]) if mark]
        signs += ["-"] if bracketed else []
        if len(signs) < 2:
            return -value if "-" in signs else value
    if written.dash and is_dash(text) in (written.unit, *written.other_units):
        return 0.0
    hint = f" like {written.example}" if written != PLAIN else ""
    raise ValueError(f"expected a number{hint}, got {text!r}")


def has_other_thousands(text: str, written: NumberFormat) -> bool:
    """Whether the number has thousands with a separator, where the format names none."""
    found = None if written == PLAIN else _pattern(written).fullmatch(without_brackets(tidy(text)) or tidy(text))
    return found is not None and bool(found["mark"])


def is_dash(text: str) -> str | None:
    """Return the unit beside a dash that stands for zero, as in `$ -`; None for anything else."""
    found = _DASH.fullmatch(text)
    return None if found is None else found["before"] or found["behind"]


def without_brackets(text: str) -> str | None:
    """Return the text without brackets around its number, with or without the unit; None if it has none."""
    found = _BRACKETS.fullmatch(text)
    return None if found is None else "".join(found.groups())


@lru_cache(maxsize=1024)
def _pattern(written: NumberFormat) -> re.Pattern[str]:
    mark, point = re.escape(written.thousands), re.escape(written.decimal)
    unit = "|".join(re.escape(each) for each in (written.unit, *written.other_units) if each)
    groups = f"[1-9][0-9]{{0,2}}(?:{mark}[0-9]{{3}})+(?P<mark>(?!))?"
    if not written.thousands:
        other = "." if written.decimal == "," else ","
        groups = f"[1-9][0-9]{{0,2}}(?P<mark>['_ ]|[{other}](?=[0-9.,]*{point}))[0-9]{{3}}(?:(?P=mark)[0-9]{{3}})*"
    if written.thousands == ",":  # lakh and crore: 12,34,567
        groups += "|[1-9][0-9]?(?:,[0-9]{2})+,[0-9]{3}"
    digits = f"(?P<digits>(?:(?:{groups}|[0-9]+)(?:{point}[0-9]*)?|{point}[0-9]+)(?:[eE][+-]?[0-9]+)?)"
    scale = f"(?: ?(?P<scale>{'|'.join(map(re.escape, SCALES))}))?" if written.scaled else "(?P<scale>(?!))?"
    before, behind = (f"(?:(?:{unit}) ?)?", f"(?: ?(?:{unit}))?") if unit else ("", "")
    minus = "-" if written.negative == "3-" else "(?!)"
    ends = f"(?P<after>(?<=[0-9]){minus})?{behind}(?P<last>{minus})?"
    return re.compile(f"(?P<sign>[+-])? ?{before}(?P<inner>[+-])?{digits}{scale}{ends}")


def parse_boolean(text: str) -> float:
    """Parse the usual spellings of a boolean into 1.0 or 0.0; raises ValueError for anything else."""
    folded = text.casefold()
    if folded in TRUE:
        return 1.0
    if folded in FALSE:
        return 0.0
    raise ValueError(f"expected true or false, got {text!r}")


def float32(values: npt.NDArray[np.float64]) -> npt.NDArray[np.float32]:
    """Round to float32; finite values beyond its range become its largest, so they stay finite."""
    return limited(values).astype(np.float32)


def limited(values: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Cut numbers at the range of float32, so that no square of them, nor a sum of such squares, is infinite."""
    cut: npt.NDArray[np.float64] = np.minimum(np.maximum(values, -_FLOAT32_MAX), _FLOAT32_MAX)
    return cut


def whole_number(text: str, written: NumberFormat = PLAIN) -> int | None:
    """Return the whole number that is written in this format, exactly; None if the text is anything else."""
    digits = text
    if written != PLAIN:
        text = tidy(text)
        found = _pattern(written).fullmatch(without_brackets(text) or text)
        if found is None or found["scale"]:
            return 0 if written.dash and is_dash(text) else None
        digits = found["digits"].replace(written.thousands or found["mark"] or "", "").replace(written.decimal, ".")
    whole = _WHOLE.fullmatch(digits)
    return int(whole[1]) if whole else None


def differ(low: Floats, high: Floats, largest: float | Floats = 0.0) -> npt.NDArray[np.bool_]:
    """Whether the numbers from `low` to `high`, elementwise, are more than one number with rounding errors.

    The bound has no unit, so a column means the same in metres and in nanometres: 8 machine epsilons of the type of
    `low` and `high` (float32 or float64), times the larger magnitude of the two. `largest` is the largest magnitude of
    the whole column, or of each column, where `low` and `high` are a part of it: differences of such numbers leave
    rounding errors of float64 around zero. A range of less than 8 times the smallest normal number has no inverse that
    is sure to be finite, and counts as one number.
    """
    ends, info = np.maximum(np.abs(low), np.abs(high)).astype(np.float64), np.finfo(low.dtype)
    least = np.maximum(float(info.tiny), np.finfo(np.float64).eps * largest)
    step = np.maximum(float(info.eps) * ends, least)
    wide: npt.NDArray[np.bool_] = high.astype(np.float64) - low > _ROUNDING * step
    return wide
