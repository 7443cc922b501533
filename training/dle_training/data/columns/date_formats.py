"""The strptime format of a column of dates, found from all of its values.

A value ends in an optional time of day, fraction of a second, AM or PM, and zone; these are read off the values. The
rest is compared with the usual ways to write a day. All values decide whether the day or the month comes first.
"""

import re
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from dle_bundle.values.dates import epoch_seconds, in_english, is_month

_DAYS = (
    "%Y-%m-%d", "%Y/%m/%d", "%Y.%m.%d", "%Y %m %d", "%Y%m%d",
    "%m/%d/%Y", "%d/%m/%Y", "%m-%d-%Y", "%d-%m-%Y", "%d.%m.%Y", "%m.%d.%Y", "%d %m %Y", "%m %d %Y",
    "%m/%d/%y", "%d/%m/%y", "%y/%m/%d", "%m-%d-%y", "%d-%m-%y", "%y-%m-%d", "%d.%m.%y", "%m.%d.%y", "%y.%m.%d",
    "%d %B %Y", "%d-%B-%Y", "%d. %B %Y", "%d de %B de %Y", "%d of %B %Y", "%B %d, %Y", "%B %d %Y", "%Y %B %d",
    "%d %b %Y", "%d-%b-%Y", "%d/%b/%Y", "%d.%b.%Y", "%d. %b %Y", "%d. %b. %Y", "%d %b. %Y", "%b %d, %Y", "%b %d %Y",
    "%b. %d, %Y", "%Y-%b-%d",
    "%d %b %y", "%d-%b-%y", "%d/%b/%y", "%d. %B %y", "%d. %b %y", "%b %d, %y", "%d%b%Y", "%d%b%y", "%Y:%m:%d",
    "%Y-%m", "%Y/%m", "%m/%Y", "%m-%Y", "%m.%Y", "%B %Y", "%b %Y", "%b-%Y", "%b. %Y",
    "%b-%y", "%b '%y", "%b/%y", "%B, %Y", "%b/%Y", "%b, %Y", "%Y %b",
    "%Y年%m月%d日", "%Y. %m. %d.", "%Y.%m.%d.",
)  # fmt: skip
OF_DIGITS = ("%Y%m%d", "%Y%m%d%H%M%S", "%Y%m%d%H%M", "%d%m%Y", "%m%d%Y", "%Y%m", "%m.%Y")
"""Formats that a number could have too, with the digits of each part."""
DIGITS = (6, 7, 8, 12, 14)
"""The lengths of such texts."""
_WIDTHS = {"%Y": "(?:19|20)[0-9]{2}"}
_WITHOUT_YEAR = ("%B", "%b", "%B %d", "%b %d", "%d-%b", "%d %B", "%d %b", "%d. %B", "%d. %b", "%I %p", "%I%p")
_WEEKDAYS = ("", "%a, ", "%a ", "%A, ", "%A ")
_TAIL = re.compile(
    r"(?P<day>.*?)(?:(?P<gap>(?:,? |T|, at | at |:)|^)"
    r"(?P<clock>[0-9]{1,2}(?P<mark>:|(?<= [0-9])\.|(?<= [0-9][0-9])\.)[0-9]{2}"
    r"(?P<second>(?P=mark)[0-9]{2}(?P<fraction>[.,][0-9]{1,6})?)?)"
    r"(?P<half> ?[AaPp][Mm])?(?P<zone> ?(?:UTC|GMT|Uhr|Z|[+-][0-9]{2}:?[0-9]{2}))?(?P<year> [0-9]{4})?)?"
)
_TRIED = 50
_DOTTED = re.compile(r"[0-9]{2}\.[0-9]{2}\.[0-9]{2}")
_MONTH_OF_YEAR = re.compile("(0?[1-9]|1[0-2])/([0-9]{2})")
_LAST_MONTH = 12
_INCHES = (16, 32, 64)
_YEAR_BEHIND = re.compile("/(?:[0-9]{2}|(?:19|20)[0-9]{2})")


@dataclass(frozen=True, slots=True)
class DateFormat:
    """A strptime format, or None for ISO 8601; `share` of the values fit; `other` fits as many, as other days."""

    written: str | None
    share: float
    other: str | None = None


def infer(values: Sequence[str]) -> DateFormat:
    """Return the format that fits most of the distinct `values`; ISO 8601 wins where it fits as many."""
    sample = [in_english(value) for value in values[:_TRIED]]
    tails = {tail for value in sample[:5] if (tail := _tail(value)) is not None}
    candidates: list[str | None] = [None]
    for weekday in _WEEKDAYS if sample and sample[0][:1].isalpha() else ("",):
        candidates += [weekday + day + tail for day in _DAYS for tail in tails if "%Y" not in tail]
        candidates += [f"{weekday}{day}{tail}" for day in ("%b %d", "%B %d") for tail in tails if tail]
    candidates += [tail for tail in tails if tail.startswith(("%H", "%I"))]
    candidates += _WITHOUT_YEAR
    if sample and _DOTTED.fullmatch(sample[0]):  # after the days, which may look so too
        candidates.append("%H.%M.%S")
    if _are_months(sample):
        candidates.append("%m/%y")
    tried = {written: _fit(sample, written) for written in candidates}
    highest = max(tried.values())
    # every format reads ISO 8601 too, so ISO 8601 is chosen if no format reads more values
    likely = [None] if tried[None] == highest else [name for name, fit in tried.items() if fit > highest - 0.1]
    shares = {written: _fit(values, written) for written in likely if highest}
    if not shares:
        return DateFormat(None, 0.0)
    best = max(shares, key=lambda written: (shares[written], -len(_years(sample, written))))
    if best is None:
        return DateFormat(None, shares[best])
    others = (each for each in shares if each and each != best and shares[each] == shares[best])
    return DateFormat(best, shares[best], next((each for each in others if _swapped(best, each)), None))


def in_digits(values: Sequence[str]) -> str | None:
    """Return the format of dates if all `values` are digits that fit it, as 20240131 does."""
    if not values:
        return None
    for written in OF_DIGITS:
        digits = re.compile(re.sub("%.", lambda part: _WIDTHS.get(part[0], "[0-9]{2}"), written.replace(".", r"\.")))
        if digits.fullmatch(values[0]) and all(map(digits.fullmatch, values)) and _fit(values, written) == 1:
            return written
    return None


def ends_in(unit: str) -> bool:
    """Whether dates may end in what looks like a unit: `May` in `5 May`, `PM` in `2 PM`, `/2023` in `01/2023`."""
    return is_month(unit) or unit.casefold() in ("am", "pm") or _YEAR_BEHIND.fullmatch(unit) is not None


def years(values: Sequence[str], written: str) -> tuple[int, int]:
    """The first and the last year of the values that the format reads."""
    found = _years(values, written)
    return int(found[0]), int(found[-1])


def day_or_month(written: str) -> str:
    """Say in brackets whether the format reads the day or the month first, where both are numbers."""
    if "%d" not in written or "%m" not in written or written.lower().startswith("%y"):
        return ""
    return " (day first)" if written.index("%d") < written.index("%m") else " (month first)"


def _are_months(values: Sequence[str]) -> bool:
    """Whether texts such as `01/23` or `1/23` are months, rather than scores such as `7/10` or parts of an inch.

    Months have a leading zero, or they have one year that is no usual highest score.
    """
    found = [_MONTH_OF_YEAR.fullmatch(value) for value in values]
    if any(value.startswith("0") for value in values):
        return None not in found
    ends = {int(each[2]) if each else 0 for each in found}
    year = ends.pop() if len(ends) == 1 else 0
    return year > _LAST_MONTH and year % 5 != 0 and year not in _INCHES


def _swapped(first: str, second: str) -> bool:
    """Whether the formats differ only in the order of day, month and year."""
    return sorted(re.findall("%[A-Za-z]", first)) == sorted(re.findall("%[A-Za-z]", second))


def _tail(value: str) -> str | None:
    """The format of the time and the zone at the end of a value, `""` without either; None without digits."""
    found = _TAIL.fullmatch(value)
    if found is None or not re.search("[0-9]", value):
        return None
    tail = ""
    if found["clock"]:
        hour = "%I" if found["half"] else "%H"
        fraction = found["fraction"]
        mark = found["mark"]
        seconds = f"{mark}%S{fraction[0]}%f" if fraction else f"{mark}%S" if found["second"] else ""
        gap = " %p" if (found["half"] or "").startswith(" ") else "%p" if found["half"] else ""
        tail = f"{found['gap']}{hour}{mark}%M{seconds}{gap}"
    zone = found["zone"] or ""
    if re.search("[+-][0-9]", zone):
        zone = re.sub(r"[+-][0-9].*", "%z", zone)
    elif zone.endswith("Z"):
        zone = zone.replace("Z", "%z")
    return tail + zone + (" %Y" if found["year"] and found["clock"] else "")


def _years(values: Sequence[str], written: str | None) -> npt.NDArray[np.int64]:
    """The distinct years of the values that the format reads, in order; mistaken days make for many."""
    seconds = []
    for value in values:
        with suppress(ValueError, OverflowError):
            seconds.append(epoch_seconds(value, written))
    return 1970 + np.unique(np.array(seconds, "datetime64[s]").astype("datetime64[Y]").astype(np.int64))


def _fit(values: Sequence[str], written: str | None) -> float:
    """The share of `values` that the format reads."""
    fitting = 0
    for value in values:
        try:
            epoch_seconds(value, written)
        except (ValueError, OverflowError):
            continue
        fitting += 1
    return fitting / max(len(values), 1)
