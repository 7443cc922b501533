"""What the settings say about the reading of one column."""

from collections.abc import Iterable
from dataclasses import dataclass

from dle_bundle.schema import Kind
from dle_bundle.values.missing import NA_TEXTS, NA_VALUES
from dle_training.config.run_config import DataConfig
from dle_training.settings.proposals import setting

EVERY_COLUMN = "*"
"""The name in `data.na_values` that stands for all columns without spellings of their own."""


@dataclass(frozen=True, slots=True)
class ColumnSettings:
    """What the settings say about the reading of one column; None leaves the choice to its values.

    `na_values` are the spellings of a missing number, truth value or date, `na_texts` those of a missing text.
    `decimal` and `thousands` are the marks of numbers written as text. `dropped` are the columns of `data.drop`.
    """

    na_values: tuple[str, ...]
    na_texts: tuple[str, ...]
    kind: Kind | None = None
    date_format: str | None = None
    decimal: str | None = None
    thousands: str | None = None
    dropped: tuple[str, ...] = ()


def of(name: str, data: DataConfig) -> ColumnSettings:
    """What the settings say about the reading of the column `name`."""
    own = data.na_values.get(name) if isinstance(data.na_values, dict) else None
    further = data.na_values.get(EVERY_COLUMN, ()) if isinstance(data.na_values, dict) else data.na_values
    return ColumnSettings(
        na_values=tuple(dict.fromkeys((*NA_VALUES, *further))) if own is None else own,
        na_texts=tuple(dict.fromkeys((*NA_TEXTS, *further))) if own is None else own,
        kind=data.kinds.get(name),
        date_format=data.date_formats.get(name),
        decimal=data.decimal,
        thousands=data.thousands,
        dropped=data.drop,
    )


def with_missing(name: str, wanted: ColumnSettings, spellings: Iterable[str]) -> str:
    """Return the setting by which these spellings mean missing too."""
    if not set(NA_VALUES) <= set(wanted.na_values):  # the column has a list of its own
        return setting("data.na_values", [*wanted.na_values, *spellings], name)
    return setting("data.na_values", [*(each for each in wanted.na_values if each not in NA_VALUES), *spellings])


def without(name: str, wanted: ColumnSettings) -> str:
    """Return the setting that leaves out this column too."""
    return setting("data.drop", [*wanted.dropped, name])
