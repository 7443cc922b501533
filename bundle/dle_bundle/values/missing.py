"""Which spellings mean that a value is missing."""

from functools import lru_cache

from dle_bundle.values.numbers import NUMBER

NA_VALUES = (
    "", "#N/A", "#NA", "<NA>", "N/A", "NA", "NULL", "NaN", "None", "n/a", "nan", "null", "?",
)  # fmt: skip
"""Spellings of a missing value in text, after trimming white space."""


@lru_cache
def missing_numbers(na_values: tuple[str, ...]) -> tuple[float, ...]:
    """The spellings that are numbers, such as -999: they mean missing in columns of numbers, however written."""
    return tuple(float(text) for text in na_values if NUMBER.fullmatch(text))
