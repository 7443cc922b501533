"""A last row that sums up the others, as spreadsheets and reports end: `Total,,123`.

Such a row is no example. Its text looks like a category and its sums like values, so nothing else would report it.
"""

import math
from collections.abc import Sequence

import pyarrow as pa
import pyarrow.compute as pc

from dle_bundle.errors import InputError
from dle_bundle.schema import TextFormat
from dle_bundle.tables import columns
from dle_bundle.values.missing import NA_VALUES
from dle_training.config.run_config import DataConfig
from dle_training.data.columns import column_formats, column_settings
from dle_training.settings.proposals import setting

_WORDS = frozenset({
    "total", "totals", "grand total", "subtotal", "overall", "sum", "mean", "average", "count",
    "gesamt", "gesamtsumme", "gesamtergebnis", "summe", "insgesamt", "mittelwert", "durchschnitt",
    "total général", "somme", "moyenne", "suma", "totale", "totaal", "итого", "合计", "合計",
})  # fmt: skip
_ENOUGH = 3
"""Fewer values may have their last one as their sum by chance."""


def note(table: pa.Table, written: TextFormat, *, proposing: bool) -> str | None:
    """Return a note if the first text of the last row, and of no other row in its column, names a total.

    Raises InputError if a column of numbers confirms it. `proposing`: name the setting that leaves the row out,
    of a file that is `written` so.
    """
    for name in table.column_names:
        column = table.column(name)
        if not columns.is_text(column) or not (word := (column[-1].as_py() or "").strip()):
            continue
        if word.rstrip(":").casefold() not in _WORDS or pc.sum(pc.equal(column, column[-1])).as_py() > 1:
            return None
        found, cure = f"the last row has {word!r} in {name}", "remove it from the file"
        if proposing and name == table.column_names[0]:
            cure = f"leave it out with {setting('data.comment', written.leaving_out(word))}"
        others = (each for each in table.column_names if each != name)
        if summed := next((each for each in others if _sums_up(each, table.column(each))), None):
            raise InputError(f"{found} and sums up {summed}, so it is no example; {cure}")
        return f"{found}: if it sums up the other rows, {cure}"
    return None


def _sums_up(name: str, column: columns.Column) -> bool:
    """Whether the last value is the sum or the mean of the others."""
    try:
        choice = column_formats.choose(name, column, column_settings.of(name, DataConfig()))
    except InputError:  # its numbers are ambiguous, or it has a type of no kind
        return False
    if choice.kind != "numeric":
        return False
    values, _ = choice.numbers or columns.numbers(column, NA_VALUES, choice.number_format)
    known: Sequence[float] = [value for value in values[:-1].tolist() if not math.isnan(value)]
    last = float(values[-1])
    if len(known) < _ENOUGH or last == 0 or not math.isfinite(last):
        return False
    return any(math.isclose(last, each, rel_tol=1e-6) for each in (math.fsum(known), math.fsum(known) / len(known)))
