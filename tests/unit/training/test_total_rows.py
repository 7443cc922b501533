"""A note on a last row that sums up the others."""

import pyarrow as pa
import pytest

from dle_training.data.rows import total_rows

SHOPS = ["a", "b", "a"]


@pytest.mark.parametrize("word", ["Total", "TOTAL:", " Gesamtergebnis", "合計"])
def test_a_total(word: str) -> None:
    note = total_rows.note(pa.table({"empty": ["", "", "", ""], "shop": [*SHOPS, word], "n": ["1", "2", "3", "6"]}))
    assert note is not None
    assert f"{word.strip()!r} in shop" in note


@pytest.mark.parametrize(
    "shops", [["Total", "b", "Total"], ["Total", "b", "c"], ["a", "b", "Totalled"], ["a", "b", ""], ["a", "b", None]]
)
def test_no_total(shops: list[str | None]) -> None:
    assert total_rows.note(pa.table({"shop": shops, "n": ["1", "2", "3"]})) is None
    assert total_rows.note(pa.table({"n": [1, 2]})) is None
