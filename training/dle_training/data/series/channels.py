"""Which columns of a long table are channels of its series, how they are read, and what is reported of their values."""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from dle_bundle.schema import CategoryChannels, Kind
from dle_bundle.tables import columns
from dle_bundle.tables.columns import Column
from dle_bundle.values.numbers import NumberFormat
from dle_training.config.run_config import DataConfig
from dle_training.data.columns import column_formats, column_settings, missing_words, placeholders
from dle_training.data.columns.column_formats import ColumnFormat
from dle_training.data.series import covariates
from dle_training.settings.proposals import setting


@dataclass(frozen=True, slots=True)
class Channels:
    """The columns that are channels, with the formats of numbers and the categories that are not the plain ones.

    `dropped` gives the reason for each column that is no channel.
    """

    names: tuple[str, ...]
    number_formats: dict[str, NumberFormat]
    categories: dict[str, CategoryChannels]
    dropped: dict[str, str]
    notes: tuple[str, ...]


def read(
    table: pa.Table, names: Iterable[str], data: DataConfig, target: str, training: npt.NDArray[np.int64] | None
) -> Channels:
    """Return how the columns `names` are read as channels.

    `training` are the rows from which a forecast takes the categories of texts; None if only numbers are channels.
    Raises InputError if two formats read the values of a column as different numbers.
    """
    kept, dropped, notes = list[str](), dict[str, str](), list[str]()
    formats, categories = dict[str, NumberFormat](), dict[str, CategoryChannels]()
    taken: dict[str, dict[str, int]] = {}
    for name in names:
        column, wanted = table.column(name), column_settings.of(name, data)
        as_texts = training is not None and wanted.kind == "categorical"
        choice = None if as_texts else column_formats.channel(name, column, wanted)
        if choice is not None:
            if choice.number_format is not None:
                formats[name] = choice.number_format
            drop = setting("data.drop", [*data.drop, name]) if name != target else None
            said = _of_numbers(name, column, choice, data, drop)
            notes += [f"{name}: {note}" for note in said]
        elif training is None:
            dropped[name] = "varies within a series and is no number"
            continue
        else:
            found, note = covariates.of_texts(name, column, data, training)
            if found is None:
                dropped[name] = note or ""
                continue
            categories[name] = found
            notes += [f"{name}: {note}"] if note else []
        kept.append(name)
        kind: Kind = "categorical" if choice is None else "numeric"
        taken[name], kept_words = missing_words.find(name, column, kind, wanted)
        notes += [kept_words] if kept_words else []
    notes += missing_words.note(taken, missing_words.OF_CHANNELS)
    return Channels(tuple(kept), formats, categories, dropped, tuple(notes))


def _of_numbers(name: str, column: Column, choice: ColumnFormat, data: DataConfig, drop: str | None) -> list[str]:
    """What is reported of the numbers of a channel; `drop` is the setting that leaves it out, if one does."""
    wanted = column_settings.of(name, data)
    numbers, _ = choice.numbers or columns.numbers(column, wanted.na_values, choice.number_format)
    rounded = None
    if (long := columns.rounded(column, wanted.na_values, choice.number_format)) is not None:
        rounded = f"numbers beyond ±2⁵³, such as {long}, are rounded to 16 digits"
        rounded += f"; if they are codes, set {drop}" if drop else ""
    return [note for note in (choice.note, rounded, placeholders.note(name, numbers, wanted)) if note]
