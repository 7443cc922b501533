"""Converts the values of categories to text, so that a category is the same in every file format and in JSON."""


def category(value: str | int | float | bool) -> str:
    """The text of a category: trimmed text, `true` or `false`, whole numbers without a decimal point."""
    if isinstance(value, str):
        return value.strip()
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float) and value.is_integer() and abs(value) < 2**53:
        return str(int(value))
    return str(value)
