"""Parses the dates and times of CSV files, other tables and requests, by one rule, into UTC epoch time."""

import re
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from functools import lru_cache

FIRST_TIME, LAST_TIME = -62_135_596_800, 253_402_300_799
"""Epoch seconds of the years 1 to 9999, the range of Python's dates; int64 and float64 hold them exactly."""
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_EXAMPLE = datetime(2024, 1, 31, 18, 5, tzinfo=UTC)
_MONTHS = {
    "January": "januar jänner janvier enero gennaio janeiro januari",
    "Jan": "jän janv ene gen",
    "February": "februar feber février febrero febbraio fevereiro februari",
    "Feb": "févr fév fev",
    "March": "märz mars marzo março maart marts",
    "Mar": "mär mrz mrt",
    "April": "avril abril aprile",
    "Apr": "avr abr",
    "May": "mai mayo maggio maio mei maj mag",
    "June": "juni juin junio giugno junho",
    "Jun": "giu",
    "July": "juli juillet julio luglio julho",
    "Jul": "juil lug",
    "August": "août agosto augustus augusti",
    "Aug": "ago",
    "September": "septembre septiembre setiembre settembre setembro",
    "Sep": "sept set",
    "October": "oktober octobre octubre ottobre outubro",
    "Oct": "okt ott out",
    "November": "novembre noviembre novembro",
    "December": "dezember décembre diciembre dicembre dezembro",
    "Dec": "dez déc dic",
}
_DAYS = {
    "Monday": "montag lundi lunes lunedì maandag",
    "Tuesday": "dienstag mardi martes martedì dinsdag",
    "Wednesday": "mittwoch mercredi miércoles mercoledì woensdag",
    "Thursday": "donnerstag jeudi jueves giovedì donderdag",
    "Friday": "freitag vendredi viernes venerdì vrijdag",
    "Saturday": "samstag sonnabend samedi sábado sabato zaterdag",
    "Sunday": "sonntag dimanche domingo domenica zondag",
}
_ENGLISH = {other: name for name, others in (_MONTHS | _DAYS).items() for other in (name.lower(), *others.split())} | {
    "nov": "Nov"
}
"""Names of months and weekdays in English, German, French, Spanish, Italian, Portuguese, Dutch and Swedish."""
_OTHER_WORDS = frozenset({"ago", "out", "set"})
"""Short names of months that are English words."""
_OFFSETS = {
    "WEST": "+0100", "BST": "+0100", "CET": "+0100", "CEST": "+0200", "EET": "+0200", "EEST": "+0300", "MSK": "+0300",
    "SGT": "+0800", "HKT": "+0800", "JST": "+0900", "KST": "+0900", "AEST": "+1000", "AEDT": "+1100",
    "EST": "-0500", "EDT": "-0400", "CST": "-0600", "CDT": "-0500", "MST": "-0700", "MDT": "-0600", "PST": "-0800",
    "PDT": "-0700",
}  # fmt: skip
"""Names of time zones; those of America are from RFC 2822."""
_LONGEST = 80
"""Longer texts are no dates."""
_NUMBER_AFTER_DATE = re.compile("[0-9]{9}|[0-9]{4}-[0-9]{2}-[0-9]{3}")
"""Epoch milliseconds: Python takes any character as the separator of ISO 8601, so 1673110800000 is in the year 1673."""
_LETTER = re.compile(r"[^\W\d_]")
_ASIDE = re.compile(r" ?(?:\([A-Za-z ]+\)|\[[A-Za-z_/]+\])$")
_ORDINAL = re.compile(r"\b([0-9]{1,2})(?:st|nd|rd|th)\b")
_NAME = re.compile(r"([^\W\d_]{3,})(\.?)")
_ZONE = re.compile(rf"(?<=[0-9Mm]) ?({'|'.join(_OFFSETS)})\b")
_JOINED = re.compile(r"(?<=[0-9] )(?:GMT|UTC)(?=[+-][0-9])|(?<=[+-][0-9]{4}) UTC$")
_FULL = re.compile("|".join(name for name in _MONTHS if len(name) > 3))


def epoch_seconds(text: str, date_format: str | None = None) -> int:
    """Parse ISO 8601 text, or text in the strptime format `date_format`, into UTC epoch seconds.

    Text without a time zone is in UTC. Fractions of a second are rounded down. Raises ValueError for any other text.
    """
    return epoch_microseconds(text, date_format) // 1_000_000


def epoch_microseconds(text: str, date_format: str | None = None) -> int:
    """As `epoch_seconds`, in microseconds, so that several measurements in a second keep their order."""
    moment = _parsed(text, date_format)
    since = (moment if moment.tzinfo else moment.replace(tzinfo=UTC)) - _EPOCH
    return (since.days * 86_400 + since.seconds) * 1_000_000 + since.microseconds


def iso(seconds: float) -> str:
    """Return epoch seconds as ISO 8601 text in UTC, such as `2024-01-31T18:05:00Z`; other years become 1 or 9999."""
    moment = _EPOCH + timedelta(seconds=int(min(max(seconds, FIRST_TIME), LAST_TIME)))
    return moment.isoformat().replace("+00:00", "Z")


@lru_cache(maxsize=1024)
def expected(date_format: str | None) -> str:
    """What a date-time must look like, in words, with an example in the format."""
    if date_format is None:
        return "an ISO 8601 date or date-time"
    return f"a date-time like {_EXAMPLE.strftime(date_format)} ({date_format}) or in ISO 8601"


def in_english(text: str) -> str:
    """The text of a date with English names, offsets for the names of time zones, and without asides.

    `15. März 2024`, `January 5th, 2024`, `10:00 EST` and `GMT+0100 (CET)` become `15. March 2024`, `January 5, 2024`,
    `10:00 -0500` and `+0100`.
    """
    return _in_english(text) if len(text) <= _LONGEST and _LETTER.search(text) else text


@lru_cache(maxsize=65_536)
def _in_english(text: str) -> str:
    text = _JOINED.sub("", _ORDINAL.sub(r"\1", _ASIDE.sub("", text)))
    text = _NAME.sub(lambda found: _ENGLISH.get(found[1].lower(), found[0]), text)
    return _ZONE.sub(lambda found: f" {_OFFSETS[found[1]]}", text)


def is_month(word: str) -> bool:
    """Whether a word is the name of a month, and no English word such as `set`."""
    return word.lower() not in _OTHER_WORDS and in_english(word) in (*_MONTHS, "Nov")


@lru_cache(maxsize=1024)
def has_year(date_format: str | None) -> bool:
    """Whether a format has years; without them, it is one of times of the day or of months."""
    return date_format is None or any(mark in date_format for mark in ("%Y", "%y", "%c", "%x", "%G"))


def _spellings(text: str) -> Iterator[str]:
    """The text as it is, and only if that does not fit, with English names, in full and short."""
    yield text
    if (english := in_english(text)) != text:
        yield english
    if (short := _FULL.sub(lambda found: found[0][:3], english)) != english:  # a column may have `March` beside `Sep`
        yield short


def _parsed(text: str, date_format: str | None) -> datetime:
    # February 29 exists in a leap year only
    year = " 1904" if date_format is not None and "%d" in date_format and not has_year(date_format) else ""
    for spelling in _spellings(text):
        if date_format is not None:
            try:
                return datetime.strptime(spelling + year, f"{date_format} %Y" if year else date_format)
            except ValueError:
                pass  # ISO 8601 is always accepted
        try:
            if not _NUMBER_AFTER_DATE.match(spelling):
                return datetime.fromisoformat(spelling)
        except ValueError:
            pass
    raise ValueError(f"expected {expected(date_format)}, got {text!r}")
