"""Words such as NA and None: which of them were taken as missing, and which were kept as values."""

from collections import Counter
from collections.abc import Iterable

import pyarrow as pa
import pyarrow.compute as pc

from dle_bundle.errors import counted
from dle_bundle.schema import Kind
from dle_bundle.tables import columns
from dle_bundle.tables.columns import Column
from dle_bundle.values.missing import NA_VALUES
from dle_training.data.columns.column_settings import ColumnSettings
from dle_training.settings.proposals import setting

_NAMED = 3
OF_COLUMNS = "to keep such a word as a value, list the other spellings of its column in data.na_values.COLUMN"
OF_CHANNELS = "data.na_values=[…] adds spellings for all channels"


def find(name: str, column: Column, kind: Kind, wanted: ColumnSettings) -> tuple[dict[str, int], str | None]:
    """Return the words that were taken as missing, with the rows of each, and a note on such words that were kept."""
    if not columns.is_text(column) or kind in ("image", "sequence"):
        return {}, None
    spellings = wanted.na_texts if kind in ("categorical", "text") else wanted.na_values
    counts = _words(column, (*NA_VALUES, *spellings))
    kept = {word: count for word, count in counts.items() if word not in spellings}
    taken = {word: count for word, count in counts.items() if word in spellings}
    if not kept or kind == "text":
        return taken, None
    listed = ", ".join(f"{word!r} in {counted(count, 'row')}" for word, count in kept.items())
    cure = setting("data.na_values", [*spellings, *kept], name)
    return taken, f"{name}: {listed} kept as a value; if it means missing, set {cure}"


def no_value(name: str, column: Column, wanted: ColumnSettings) -> str:
    """Return why a column without values has none, with the words that were taken as missing."""
    if not columns.is_text(column):
        return "no value in any row"
    counts = _words(column, wanted.na_values)
    if not counts:
        return "no value in any row"
    listed = ", ".join(f"{word!r} in {counted(count, 'row')}" for word, count in counts.items())
    cure = setting("data.na_values", list(wanted.na_texts), name)
    return f"no value but words that mean missing: {listed}; if they are values, set {cure}"


def note(taken: dict[str, dict[str, int]], cure: str = OF_COLUMNS) -> list[str]:
    """Return at most one note, on the words that were `taken` as missing: by column, the rows of each word.

    `cure` is the part of the note that names the setting.
    """
    columns_of: dict[str, list[str]] = {}
    counts: Counter[str] = Counter()
    for name, words in taken.items():
        counts.update(words)
        for word in words:
            columns_of.setdefault(word, []).append(name)
    if not counts:
        return []
    lines = []
    for word, names in columns_of.items():
        shown = ", ".join(names[:_NAMED]) + (f" and {len(names) - _NAMED:,} more" if len(names) > _NAMED else "")
        lines.append(f"{word!r} in {counted(counts[word], 'row')} of {shown}")
    return [f"taken as missing: {'; '.join(lines)}; {cure}"]


def _words(column: Column, spellings: Iterable[str]) -> dict[str, int]:
    """The words among the spellings, without the empty one, and the rows of each; frequent ones first."""
    texts = pc.utf8_trim_whitespace(column.cast(pa.large_string()))
    known = pa.array({*spellings} - {""}, pa.large_string())
    found = pc.value_counts(texts.filter(pc.is_in(texts, known))).to_pylist()
    return {each["values"]: each["counts"] for each in sorted(found, key=lambda each: -each["counts"])}
