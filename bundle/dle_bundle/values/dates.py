"""Parses the dates and times of CSV files, other tables and requests, by one rule, into UTC epoch seconds."""

from datetime import UTC, datetime

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def epoch_seconds(text: str, date_format: str | None = None) -> int:
    """Parse ISO 8601 text, or text in the strptime format `date_format`, into UTC epoch seconds.

    Text without a time zone is in UTC. Fractions of a second are rounded down. Raises ValueError for any other text.
    """
    try:
        moment = datetime.strptime(text, date_format) if date_format else datetime.fromisoformat(text)
    except ValueError:
        if date_format:  # ISO 8601 is always accepted
            return epoch_seconds(text)
        raise ValueError(f"expected an ISO 8601 date or date-time, got {text!r}") from None
    since = (moment if moment.tzinfo else moment.replace(tzinfo=UTC)) - _EPOCH
    return since.days * 86_400 + since.seconds
