"""The text by which a category is known, whatever type it was written in."""


def category(value: str | int | float | bool) -> str:
    """The text by which a category is known: trimmed text, `true`/`false`, whole numbers without a point."""
    if isinstance(value, str):
        return value.strip()
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float) and value.is_integer() and abs(value) < 2**53:
        return str(int(value))
    return str(value)
