"""Delimited text of any values is read back as it was written, or it is refused or noted."""

import csv
import tempfile
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

from dle_bundle.errors import InputError
from dle_bundle.tables import table_files

NAMES = st.lists(
    st.text("abcxyz_ éß", min_size=1, max_size=6).map(str.strip).filter(len), min_size=1, max_size=4, unique=True
)
CELLS = st.one_of(
    st.text("ab1 ,;|\t\"'#:-.\n", max_size=6),
    st.integers(-99, 99).map(str),
    st.floats(0, 99, width=16).map(lambda number: f"{number:.2f}".replace(".", ",")),
    st.sampled_from(["", "NA", "2024-01-31", "12:30", "1.234,50 €", "Total", "---"]),
)


@st.composite
def tables(draw: st.DrawFn) -> list[list[str]]:
    names = draw(NAMES)
    row = st.lists(CELLS, min_size=len(names), max_size=len(names))
    return [names, *draw(st.lists(row, min_size=1, max_size=8))]


@given(tables(), st.sampled_from(",;\t|"), st.sampled_from([".csv", ".tsv", ".txt"]), st.sampled_from(["\n", "\r\n"]))
@settings(max_examples=300)
def test_read_as_written_refused_or_noted(table: list[list[str]], mark: str, suffix: str, end: str) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"rows{suffix}"
        with path.open("w", newline="", encoding="utf-8") as file:
            csv.writer(file, delimiter=mark, lineterminator=end).writerows(table)
        try:
            notes = table_files.detect(path).notes
            found = table_files.read(path)
        except InputError:
            return
    if any("the columns are separated by" in note and repr(mark) not in note.split(";")[0] for note in notes):
        return
    read = [found.column_names, *map(list, zip(*found.to_pydict().values(), strict=True))]
    assert read == table
