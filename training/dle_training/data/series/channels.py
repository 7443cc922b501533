"""Which columns of a long table are channels of its series, how they are read, and what is reported of their values."""

from collections.abc import Iterable
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from dle_bundle.errors import InputError, combined
from dle_bundle.schema import CategoryChannels, Kind
from dle_bundle.tables import columns
from dle_bundle.tables.columns import Column
from dle_bundle.values.numbers import NumberFormat
from dle_training.config.run_config import DataConfig
from dle_training.data.columns import column_formats, column_settings, kinds, missing_words, placeholders
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


Choices = dict[str, ColumnFormat | None]
"""How each column is written: numbers, or dates, which are no channels; None for anything else."""


def choose(table: pa.Table, names: Iterable[str], data: DataConfig, target: str) -> Choices:
    """Return how the columns `names` are written. In a forecast, texts can be categories.

    Raises InputError with the faults of all columns: values that two formats read as different numbers, and a few
    values among numbers that are none.
    """
    found: Choices = {}
    faults = list[str | InputError]()
    own = data.na_values if isinstance(data.na_values, dict) else {}
    for name in names:
        column, wanted = table.column(name), column_settings.of(name, data)
        if data.window is not None and wanted.kind == "categorical" and name != target:
            found[name] = None
            continue
        try:
            choice = column_formats.channel(name, column, wanted)
        except InputError as error:
            faults.append(error)
            continue
        if choice is not None and choice.kind == "numeric":
            numbers = choice.numbers or columns.numbers(column, wanted.na_values, choice.number_format)
            choice, unreadable = replace(choice, numbers=numbers), numbers[1]
            if unreadable.any() and name not in own:  # `column_roles` refuses spellings of its own
                rows = np.arange(len(column))
                faults.append(
                    kinds.misfits(name, column, wanted, choice, unreadable, rows, _otherwise(name, data, target))
                )
        found[name] = choice
    if faults:
        raise combined("Columns that cannot be used as they are", faults)
    return found


def _otherwise(name: str, data: DataConfig, target: str) -> str | None:
    """What to do with a column that is no channel of numbers."""
    if name == target:
        return None
    if data.window is None:
        return f"to leave the column out, set {_drop(name, data)}"
    return f"if the column holds categories, set {setting('data.kinds', 'categorical', name)}"


def _drop(name: str, data: DataConfig) -> str:
    return setting("data.drop", [*data.drop, name])


def read(
    table: pa.Table, choices: Choices, data: DataConfig, target: str, training: npt.NDArray[np.int64] | None
) -> Channels:
    """Return how columns are read as channels.

    `training` are the rows from which a forecast takes the categories of texts; None if only numbers are channels.
    """
    kept, dropped, notes = list[str](), dict[str, str](), list[str]()
    formats, categories = dict[str, NumberFormat](), dict[str, CategoryChannels]()
    taken: dict[str, dict[str, int]] = {}
    for name, choice in choices.items():
        column, wanted = table.column(name), column_settings.of(name, data)
        if choice is not None and choice.kind == "datetime":
            how = f": {choice.note}" if choice.note else ""
            dropped[name] = f"dates are no channels{how}; {_drop(name, data)} leaves the column out without a note"
            continue
        if choice is not None:
            if choice.number_format is not None:
                formats[name] = choice.number_format
            said = _of_numbers(name, column, choice, data, target)
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


def _of_numbers(name: str, column: Column, choice: ColumnFormat, data: DataConfig, target: str) -> list[str]:
    """What is reported of the numbers of a channel."""
    assert choice.numbers is not None
    wanted, rounded = column_settings.of(name, data), None
    if (long := columns.rounded(column, wanted.na_values, choice.number_format)) is not None:
        rounded = f"numbers beyond ±2⁵³, such as {long}, are rounded to 16 digits"
        rounded += f"; if they are codes, set {_drop(name, data)}" if name != target else ""
    said = (choice.note, rounded, placeholders.note(name, choice.numbers[0], wanted))
    return [note for note in said if note]
