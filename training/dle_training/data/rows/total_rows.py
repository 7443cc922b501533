"""A last row that sums up the others, as spreadsheets and reports end: `Total,,123`.

Such a row is no example. Its text looks like a category and its sums like values, so nothing else would report it.
"""

import pyarrow as pa
import pyarrow.compute as pc

from dle_bundle.tables import columns

_WORDS = frozenset({
    "total", "totals", "grand total", "subtotal", "overall", "sum", "mean", "average", "count",
    "gesamt", "gesamtsumme", "gesamtergebnis", "summe", "insgesamt", "mittelwert", "durchschnitt",
    "total général", "somme", "moyenne", "suma", "totale", "totaal", "итого", "合计", "合計",
})  # fmt: skip


def note(table: pa.Table) -> str | None:
    """Return a note if the first text of the last row, and of no other row in its column, names a total."""
    for name in table.column_names:
        column = table.column(name)
        if not columns.is_text(column) or not (word := (column[-1].as_py() or "").strip()):
            continue
        if word.rstrip(":").casefold() not in _WORDS or pc.sum(pc.equal(column, column[-1])).as_py() > 1:
            return None
        return f"the last row has {word!r} in {name}: if it sums up the other rows, remove it from the file"
    return None
