"""The spellings of a missing value.

Words such as NA and None mean missing among numbers, truth values and dates. In a column of texts they may be classes
or categories like any other, so only an empty cell is missing there.
"""

from functools import lru_cache

from dle_bundle.values.numbers import NUMBER

NA_VALUES = (
    "", "#N/A", "#NA", "<NA>", "N/A", "NA", "NULL", "NaN", "None", "n/a", "nan", "null", "?",
)  # fmt: skip
"""The default spellings of a missing value among numbers, truth values and dates, after white space is trimmed."""

NA_TEXTS = ("",)
"""The default spellings of a missing category, label, text or path."""


@lru_cache
def missing_numbers(na_values: tuple[str, ...]) -> tuple[float, ...]:
    """The spellings that are numbers, such as -999; in numeric columns these numbers mean missing in any notation."""
    return tuple(float(text) for text in na_values if NUMBER.fullmatch(text))
