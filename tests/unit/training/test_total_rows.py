"""A note on a last row that sums up the others."""

from pathlib import Path

import pyarrow as pa
import pytest

from dle_bundle.errors import InputError
from dle_bundle.schema import TextFormat
from dle_training.config import run_config
from dle_training.data import sources
from dle_training.data.rows import total_rows

SHOPS = ["a", "b", "a"]


@pytest.mark.parametrize("word", ["Total", "TOTAL:", " Gesamtergebnis", "合計"])
def test_a_total(word: str) -> None:
    table = pa.table({"empty": ["", "", "", ""], "shop": [*SHOPS, word], "n": ["1", "2", "3", "7"]})
    note = total_rows.note(table, TextFormat(), proposing=True)
    assert note is not None
    assert f"{word.strip()!r} in shop" in note


@pytest.mark.parametrize(
    "shops", [["Total", "b", "Total"], ["Total", "b", "c"], ["a", "b", "Totalled"], ["a", "b", ""], ["a", "b", None]]
)
def test_no_total(shops: list[str | None]) -> None:
    assert total_rows.note(pa.table({"shop": shops, "n": ["1", "2", "3"]}), TextFormat(), proposing=True) is None
    assert total_rows.note(pa.table({"n": [1, 2]}), TextFormat(), proposing=True) is None


@pytest.mark.parametrize(
    "values", [["1", "2", "3", "6"], ["1", "2", "3", "2"], [1.5, 2.5, None, 3.0, 7.0], ["$1.50", "$2", "$3", "$6.50"]]
)
def test_a_total_that_numbers_confirm_is_refused(values: list[object]) -> None:
    shops = [f"shop {index}" for index in range(len(values) - 1)]
    table = pa.table({"shop": [*shops, "Total"], "n": pa.array(values)})
    with pytest.raises(InputError, match=r"'Total' in shop and sums up n, .* with data\.comment=Total"):
        total_rows.note(table, TextFormat(), proposing=True)
    with pytest.raises(InputError, match="remove it from the file"):
        total_rows.note(table, TextFormat(), proposing=False)


def test_the_setting_that_a_total_proposes_leaves_it_out(tmp_path: Path) -> None:
    path = tmp_path / "shops.csv"
    path.write_text("shop,n\na,1\nb,2\nc,3\nTotal,6\n")
    with pytest.raises(InputError, match=r"data\.comment=Total"):
        sources.read(str(path))
    assert len(sources.read(str(path), run_config.load(None, ["data.comment=Total"], {}).data.text_format).table) == 3
