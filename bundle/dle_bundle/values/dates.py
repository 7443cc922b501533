"""Dates and times as text become UTC epoch seconds, by one rule for files and requests."""

from datetime import UTC, datetime

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def epoch_seconds(text: str, date_format: str | None = None) -> int:
    """UTC epoch seconds of ISO 8601 text, or of text in `date_format`; no zone means UTC.

    Fractions of a second are cut off towards the past. ValueError for anything else.
    """
    try:
        moment = datetime.strptime(text, date_format) if date_format else datetime.fromisoformat(text)
    except ValueError:
        if date_format:  # ISO 8601 is always understood
            return epoch_seconds(text)
        raise ValueError(f"expected an ISO 8601 date or date-time, got {text!r}") from None
    since = (moment if moment.tzinfo else moment.replace(tzinfo=UTC)) - _EPOCH
    return since.days * 86_400 + since.seconds
