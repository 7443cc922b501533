"""Infer the inputs: the kind of each column, and which columns a model cannot use, with the reason.

Every dropped column is reported, and settings override each choice: `data.kinds` keeps a column that looks like an
identifier, and `data.drop` drops a column. Sentences are read as text; short names are read as text only if there is no
other input. `statistics.complete` later adds ranges, categories and examples from the training part alone.
"""

import re
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from dle_bundle.errors import InputError, combined, nearest
from dle_bundle.schema import Field
from dle_bundle.tables import columns
from dle_bundle.tables.columns import Column
from dle_bundle.values.numbers import differ
from dle_training.config.run_config import DataConfig
from dle_training.data.columns import column_settings, kinds, look_alikes, missing_words
from dle_training.data.columns.kinds import Reading

_KEY_WORDS = frozenset({"id", "ids", "idx", "index", "key", "uuid", "guid", "rowid", "rownames", "rownum"})
_LAST_WORDS = frozenset({"no", "nr", "num", "number", "nummer"})
_COMPOUNDS = ("nr", "nummer")
"""Ends of German words such as Belegnr and Kundennummer."""
_ENOUGH_ROWS = 20
_NEARLY_ALL = 0.9
_SELDOM_SHARED = 0.5
_LISTED = 20
_SAMPLED = 100
_SENTENCE = 3
"""The average number of words in a value from which a column counts as sentences."""
_MOSTLY_WORDS = 0.5
_SHORT = "short texts, nearly all distinct, read as text because there is no other input"
_UNSPACED = re.compile(r"[\u0e00-\u0eff\u3040-\u30ff\u3400-\u9fff]")
_WORD = re.compile(rf"(?<!\S)[^\W\d_][^\s\d_@/.:-]+[.:]?(?!\S)|{_UNSPACED.pattern}")
"""A word between spaces, without the characters of keys, UUIDs and addresses: digits, hyphens, dots, slashes."""


@dataclass(frozen=True, slots=True)
class InferredInputs:
    """Fields in column order (without statistics), the reason for each dropped column, and notes for the user.

    `readings`, by field, hold the values that inference read, so that no column is read twice.
    """

    fields: tuple[Field, ...]
    readings: dict[str, Reading]
    dropped: dict[str, str]
    notes: tuple[str, ...]


def check_names(config: DataConfig, names: list[str], target: str) -> None:
    """Raise InputError with every configured column that is absent from the table or is the target."""
    faults = []
    spelled = set(config.na_values) - {column_settings.EVERY_COLUMN} if isinstance(config.na_values, dict) else ()
    faults += [f"data.na_values: no column {name!r}{nearest(name, names)}" for name in spelled if name not in names]
    mentioned = {"drop": config.drop, "kinds": config.kinds, "date_formats": config.date_formats}
    for key, mention in mentioned.items():
        faults += [f"data.{key}: no column {name!r}{nearest(name, names)}" for name in mention if name not in names]
        faults += [f"data.{key}: {name!r} is the target" for name in mention if name == target]
    for name in config.date_formats:
        if config.kinds.get(name, "datetime") != "datetime":
            faults.append(f"data.date_formats: {name!r} is {config.kinds[name]} by data.kinds")
    if faults:
        raise combined("The configuration does not fit the columns", faults)


def infer(
    table: pa.Table,
    config: DataConfig,
    rows: npt.NDArray[np.int64],
    apart: dict[str, str],
) -> InferredInputs:
    """Infer the inputs among the columns of `table`; `rows` (N,) are the places of its rows in the source.

    `apart` names the columns that are not features, each with the reason ("" for the target).
    Raises InputError with the faults of all columns.
    """
    readings: dict[str, Reading] = {}
    rejected: dict[str, Reading] = {}
    dropped: dict[str, str] = {}
    faults: list[str] = []
    for name in table.column_names:
        if name in apart or name in config.drop:
            if reason := apart.get(name, "left out by data.drop"):
                dropped[name] = reason
            continue
        column = table.column(name)
        asked = column_settings.of(name, config)
        if not _has_values(column, asked.na_values):
            dropped[name] = missing_words.no_value(name, column, asked)
            continue
        given = config.kinds.get(name)
        try:
            reading = kinds.read(name, column, asked, rows)
        except InputError as error:
            faults.append(error.message)
            continue
        if given is None and _is_prose(reading):
            reading = replace(reading, kind="text", whole=False, note=_as_text(reading.note))
        useless = _useless(reading) or (None if given else _meaningless(name, column, reading, rows))
        if useless is None:
            readings[name] = reading
        else:
            dropped[name], rejected[name] = _with_samples(useless, column), reading
            if reading.kind == "categorical" and (note := _as_text(reading.note or kinds.figures(column, reading))):
                dropped[name] += f"; {note}"
    if faults:
        raise combined("Columns that cannot be used as they are", faults)
    if not readings:
        for name in [name for name, reading in rejected.items() if _is_short_text(name, reading, config)]:
            readings[name] = replace(rejected[name], kind="text", whole=False, note=_SHORT)
            del dropped[name]
    if not readings:
        raise no_inputs(dropped)
    fields = tuple(_described(name, reading, config) for name, reading in readings.items())
    notes = [f"{name}: {reading.note}" for name, reading in readings.items() if reading.note]
    taken: dict[str, dict[str, int]] = {}
    for name, reading in readings.items():
        column, wanted = table.column(name), column_settings.of(name, config)
        taken[name], kept = missing_words.find(name, column, reading.kind, wanted)
        similar = look_alikes.note(name, reading.known) if reading.kind == "categorical" else None
        notes += filter(None, (kept, similar, kinds.other_meaning(name, column, wanted, reading)))
    notes += missing_words.note(taken)
    return InferredInputs(fields, readings, dropped, tuple(notes))


def no_inputs(dropped: dict[str, str]) -> InputError:
    """Return the error for a table without inputs, with the reason for each dropped column."""
    reasons = [f"{name}: {reason}" for name, reason in dropped.items()] or ["the table has no column but the target"]
    if len(reasons) > _LISTED:
        reasons[_LISTED:] = [f"and {len(reasons) - _LISTED:,} more"]
    return InputError("No column is left to predict from (data.kinds keeps what looks like an identifier)", reasons)


def _described(name: str, reading: Reading, config: DataConfig) -> Field:
    return Field(
        name=name,
        kind=reading.kind,
        required=not reading.missing.any(),
        json_type="integer" if reading.kind in ("categorical", "datetime") and reading.whole else "string",
        date_format=reading.date_format,
        number_format=reading.number_format,
        unit=reading.number_format.unit or None if reading.number_format else None,
        na_values=config.na_values.get(name) if isinstance(config.na_values, dict) else None,
    )


def _is_short_text(name: str, reading: Reading, config: DataConfig) -> bool:
    """Whether a column that was left out as an identifier is text: at least half of its values hold a word."""
    if name in config.kinds or _named_like_a_key(name) or reading.kind != "categorical" or _useless(reading):
        return False
    return sum(1 for text in reading.known if _WORD.search(text)) >= _MOSTLY_WORDS * len(reading.known)


def _has_values(column: Column, na_values: tuple[str, ...]) -> bool:
    known = columns.trimmed(column, na_values) if columns.is_text(column) else column
    if not columns.is_text(column) and not columns.is_number(column):
        return bool(len(known) > known.null_count)
    return bool(len(known) > known.null_count and not pc.all(pc.is_null(known, nan_is_null=True)).as_py())


def _with_samples(reason: str, column: Column) -> str:
    """Return the reason for a dropped column with its first two values, if they differ."""
    if "constant" in reason:  # which says the values itself
        return reason
    known = column.filter(pc.is_valid(column))[:_SAMPLED]
    samples = list(dict.fromkeys(repr(value.as_py())[:40] for value in known))[:2]
    return f"{reason}, such as {' and '.join(samples)}" if len(samples) == 2 else reason


def _as_text(note: str | None) -> str | None:
    """Return what a note on categories says of texts."""
    return note and note.replace("as categories", "as text")


def _useless(reading: Reading) -> str | None:
    """Return why no model can use the column; a constant column with missing values is still informative."""
    known = reading.known
    if not len(known):
        return "no value in any row"
    if reading.missing.any() or reading.kind in ("image", "sequence"):
        return None
    if reading.kind in ("categorical", "text"):
        return f"constant: {known[0]!r:.40} in every row" if (known == known[0]).all() else None
    low, high = known.min(), known.max()
    if low == high:
        if reading.kind == "datetime":
            return (
                f"constant: the same {f'second; {kinds.FRACTIONS}' if reading.fractions else 'date-time in every row'}"
            )
        return f"constant: {low:g} in every row"
    if reading.kind == "numeric" and not differ(low, high):
        return f"nearly constant: {low:.17g} to {high:.17g}, one number but for rounding; shift it if that matters"
    return None


def _is_prose(reading: Reading) -> bool:
    """Whether the texts are sentences, which few rows share, rather than names."""
    if reading.kind != "categorical" or len(reading.values) < _ENOUGH_ROWS:
        return False
    known = reading.known
    if len(set(known)) <= _SELDOM_SHARED * len(known):
        return False
    return bool(sum(map(_words, known)) >= _SENTENCE * len(known))


def _words(text: str) -> float:
    """Count words between spaces; in scripts without spaces, two characters count as one word."""
    return len(text.split()) + len(_UNSPACED.findall(text)) / 2


def _meaningless(name: str, column: Column, reading: Reading, rows: npt.NDArray[np.int64]) -> str | None:
    """Return why the column is an identifier rather than a feature, or None."""
    if reading.kind == "numeric" and reading.whole and not reading.missing.any():
        return _identifier(name, reading.values, rows)
    if reading.kind != "categorical" or len(reading.values) < _ENOUGH_ROWS:
        return None
    known = reading.known
    if len(set(known)) > _NEARLY_ALL * len(known):
        what = "whole numbers" if reading.whole else "texts"
        return f"identifier: {len(set(known)):,} distinct {what} in {len(known):,} rows"
    return None


def _identifier(name: str, values: npt.NDArray[np.float64], rows: npt.NDArray[np.int64]) -> str | None:
    offsets = values - rows
    if len(values) > 2 and offsets[0] in (0, 1) and (offsets == offsets[0]).all():
        return "row number"
    if _named_like_a_key(name) and len(np.unique(values)) == len(values):
        return "identifier: a different whole number in every row"
    return None


def _named_like_a_key(name: str) -> bool:
    words = re.findall(r"[a-z]+|[0-9]+", re.sub(r"(?<=[a-z0-9])(?=[A-Z])", " ", name).lower())
    last = words[-1] if words else ""
    return not _KEY_WORDS.isdisjoint(words) or last in _LAST_WORDS or last.endswith(_COMPOUNDS) or "unnamed" in words
