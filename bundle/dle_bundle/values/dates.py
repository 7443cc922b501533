"""Parses the dates and times of CSV files, other tables and requests, by one rule, into UTC epoch time."""

from datetime import UTC, datetime

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_EXAMPLE = datetime(2024, 1, 31, 18, 5, tzinfo=UTC)


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


def expected(date_format: str | None) -> str:
    """What a date-time must look like, in words, with an example in the format."""
    if date_format is None:
        return "an ISO 8601 date or date-time"
    return f"a date-time like {_EXAMPLE.strftime(date_format)} ({date_format}) or in ISO 8601"


def has_year(date_format: str | None) -> bool:
    """Whether a format has years; without them, it is one of times of the day or of months."""
    return date_format is None or any(mark in date_format for mark in ("%Y", "%y", "%c", "%x", "%G"))


def _parsed(text: str, date_format: str | None) -> datetime:
    if date_format is not None:
        try:
            return datetime.strptime(text, date_format)
        except ValueError:
            pass  # ISO 8601 is always accepted
    try:
        return datetime.fromisoformat(text)
    except ValueError:
        raise ValueError(f"expected {expected(date_format)}, got {text!r}") from None
