"""The spellings of a missing value."""

from functools import lru_cache

from dle_bundle.values.numbers import NUMBER

NA_VALUES = (
    "", "#N/A", "#NA", "<NA>", "N/A", "NA", "NULL", "NaN", "None", "n/a", "nan", "null", "?",
)  # fmt: skip
"""The default spellings of a missing value in text, after white space is trimmed."""


@lru_cache
def missing_numbers(na_values: tuple[str, ...]) -> tuple[float, ...]:
    """The spellings that are numbers, such as -999; in numeric columns these numbers mean missing in any notation."""
    return tuple(float(text) for text in na_values if NUMBER.fullmatch(text))
