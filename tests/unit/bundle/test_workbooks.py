"""Workbooks: which sheet, its header, the types of its columns, and what is said of cells without a value."""

import sys
import zipfile
from collections.abc import Iterable
from datetime import date, datetime, time, timedelta
from pathlib import Path
from typing import Any

import openpyxl
import pyarrow as pa
import pytest

from dle_bundle.errors import InputError
from dle_bundle.schema import TextFormat
from dle_bundle.tables import table_files

HEADER: list[Any] = ["n", "kind", "day"]
BODY: list[list[Any]] = [[row, "ab"[row % 2], date(2024, 1, 1) + timedelta(days=row)] for row in range(20)]
Rows = Iterable[Any]


def write(path: Path, rows: Rows, merged: Iterable[str] = (), others: dict[str, Rows] | None = None) -> Path:
    """A workbook with `rows` in its first sheet, which is called Sheet, and others."""
    book = openpyxl.Workbook()
    for name, content in {"Sheet": rows, **(others or {})}.items():
        sheet = book[name] if name in book.sheetnames else book.create_sheet(name)
        for row in content:
            sheet.append(list(row))
    for cells in merged:
        book["Sheet"].merge_cells(cells)
    book.save(path)
    return path


def read(path: Path, **written: Any) -> pa.Table:
    return table_files.read(path, TextFormat(**written))


def notes(path: Path, **written: Any) -> tuple[str, ...]:
    return table_files.detect(path, TextFormat(**written)).notes


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "book.xlsx"


@pytest.mark.parametrize(
    ("cells", "kind", "values"),
    [
        ([1, 0.1, None, 1e22], pa.float64(), [1.0, 0.1, None, 1e22]),
        ([True, None, False], pa.bool_(), [True, None, False]),
        (
            [date(2024, 1, 31), datetime(2024, 1, 31, 18, 5, 9), None],
            pa.timestamp("us"),
            [datetime(2024, 1, 31), datetime(2024, 1, 31, 18, 5, 9), None],
        ),
        ([timedelta(hours=26), timedelta(minutes=1)], pa.float64(), [93600.0, 60.0]),
        ([time(13, 45), time(0, 5, 9)], pa.large_string(), ["13:45:00", "00:05:09"]),
        ([3, 0.25, "NA", "03", " "], pa.large_string(), ["3", "0.25", "NA", "03", None]),
        ([True, 3, "x"], pa.large_string(), ["true", "3", "x"]),
        ([date(2024, 1, 31), "later"], pa.large_string(), ["2024-01-31", "later"]),
        (["two\nlines", " x "], pa.large_string(), ["two\nlines", " x "]),
        ([None, None], pa.large_string(), [None, None]),
    ],
)
def test_types_of_columns(path: Path, cells: list[Any], kind: pa.DataType, values: list[Any]) -> None:
    table = read(write(path, [["row", "c"], *([f"r{row}", cell] for row, cell in enumerate(cells))]))
    assert table.schema.field("c").type == kind
    assert table.column("c").to_pylist() == values


def test_a_table_may_begin_anywhere(path: Path) -> None:
    rows: list[list[Any]] = [
        [],
        [],
        *([None, *row[:1], None, *row[1:], None] for row in [HEADER, *BODY]),
        [],
        [None, None],
    ]
    rows.insert(8, [])
    for rows_before in (0, 1500):
        table = read(write(path, [[]] * rows_before + rows))
        assert table.column_names == HEADER
    assert table.column("n").to_pylist() == list(range(20))
    assert not notes(path)


def test_names_of_columns(path: Path) -> None:
    table = read(write(path, [["Price\n(EUR)", 2019, None, True], [0.5, 1, 2, "x"], [1.5, 3, 4, "y"]]))
    assert table.column_names == ["Price (EUR)", "2019", "unnamed_3", "true"]
    with pytest.raises(InputError, match="different names"):
        read(write(path, [["a", "a"], [1, 2]]))


def test_sheets(path: Path) -> None:
    other = [["x"], [1.5]]
    write(path, [HEADER, *BODY], others={"June 2024": other, "2023": other})
    assert read(path).column_names == HEADER
    settings = "'data.sheet=June 2024' or 'data.sheet=\"2023\"'"
    assert notes(path) == (
        f"the sheet 'Sheet' is read, not 'June 2024', '2023'; to read another sheet, set {settings}",
    )
    assert read(path, sheet="June 2024").column_names == ["x"]
    assert not notes(path, sheet="2023")
    with pytest.raises(
        InputError, match=r"no sheet is called 'Jun 2024' \(did you mean 'June 2024'\?\); there are 'Sheet'"
    ):
        read(path, sheet="Jun 2024")
    book = openpyxl.load_workbook(path)
    book["Sheet"].sheet_state = "hidden"
    book.create_chartsheet("Chart", 0)
    book.save(path)
    assert read(path).column_names == ["x"]
    assert "the sheet 'June 2024' is read, not 'Sheet', '2023'" in notes(path)[0]


def test_another_sheet_for_a_trained_model_is_an_option(path: Path) -> None:
    write(path, [HEADER, *BODY], others={"June 2024": [["x"], [1.5]], "it's": [["x"], [1.5]]})
    (note,) = table_files.detect(path, TextFormat(), proposing=False).notes
    assert note == (
        "the sheet 'Sheet' is read, not 'June 2024', \"it's\"; to read another sheet, add --sheet 'June 2024' or "
        "--sheet 'it'\"'\"'s'"
    )
    with pytest.raises(InputError, match=r"there are 'Sheet', 'June 2024', \"it's\"; choose one of them with --sheet$"):
        list(table_files.stream(path, TextFormat(sheet="July"), proposing=False))


def test_a_cell_of_percent_holds_a_fraction(path: Path) -> None:
    book = openpyxl.Workbook()
    for place, cell in enumerate(["rate", 0.05, 0.5, 1], start=1):
        book["Sheet"].cell(place, 1, cell).number_format = "0%"
    book.save(path)
    assert read(path).column("rate").to_pylist() == [0.05, 0.5, 1.0]


@pytest.mark.parametrize(("first", "what"), [([], "the sheet 'Sheet' is empty"), ([["Cover"]], "no rows in the sheet")])
def test_a_first_sheet_without_rows(path: Path, first: Rows, what: str) -> None:
    with pytest.raises(InputError, match=f"{what}.*; to read another sheet, set data.sheet=Data"):
        read(write(path, first, others={"Data": [HEADER, *BODY]}))
    with pytest.raises(InputError, match=f"{what}[^;]*$"):
        read(write(path, first))


def test_a_first_sheet_without_a_header_names_the_others(path: Path) -> None:
    cover = [["Made by", "", ""], [], *BODY]
    with pytest.raises(InputError, match=r"skip_rows=2.*; to read another sheet, set data\.sheet=Data"):
        read(write(path, cover, others={"Data": [HEADER, *BODY]}))


def test_titles(path: Path) -> None:
    write(path, [["Report\nof May"], [], HEADER, *BODY], ["A1:C1"])
    with pytest.raises(InputError, match=r"the first row names 1 of 3 columns.* set data\.skip_rows=2"):
        read(path)
    assert read(path, skip_rows=2).column_names == HEADER
    assert not notes(path, skip_rows=2)
    write(path, [["People", None, None, None], [*HEADER, "x"], *([*row, 1.5] for row in BODY)], ["A1:D1"])
    with pytest.raises(InputError, match=r"set data\.skip_rows=1"):
        read(path)
    assert read(path, skip_rows=1).column_names == [*HEADER, "x"]


def test_no_header(path: Path) -> None:
    write(path, BODY)
    with pytest.raises(InputError, match=r"looks like data.*set data\.header=none"):
        read(path)
    table = read(path, header="none")
    assert (table.column_names, len(table)) == (["c1", "c2", "c3"], 20)


def test_comments(path: Path) -> None:
    rows = [["# made in May"], HEADER, *BODY, ["# the end"]]
    assert read(write(path, rows), comment="#").column("n").to_pylist() == list(range(20))


def test_a_line_below_the_header(path: Path) -> None:
    write(path, [HEADER, ["----", "----", "----"], *BODY])
    with pytest.raises(InputError, match=r"line 2 divides the header from the rows; set 'data\.comment=\"----\"' to"):
        read(path)
    assert read(path, comment="----").column("n").to_pylist() == list(range(20))


def test_cells_without_a_value_are_counted(path: Path) -> None:
    rows: list[list[Any]] = [["a", "b", "c", "d"], *([row, "x", 0.5, 1] for row in range(6))]
    rows[2][1], rows[3][1], rows[4][0], rows[5][2] = "#N/A", "#DIV/0!", "#REF!", "=A2*2"
    write(path, rows, ["D3:D4"])
    merged, errors, formulas = notes(path)
    assert merged == "sheet 'Sheet': only the first of merged cells has their value, the others are missing: D3:D4"
    assert errors.endswith("#DIV/0! are taken as missing: 2 cells of column B, 1 cell of column A")
    assert formulas.endswith("open the file in Excel and save it: 1 cell of column C")
    table = read(path)
    assert [table.column(name).null_count for name in "abcd"] == [1, 2, 1, 1]


def test_not_readable(path: Path) -> None:
    path.write_text("a,b\n1,2\n")
    with pytest.raises(InputError, match=r"book\.xlsx: not readable as \.xlsx: it is no workbook"):
        read(path)
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("rows.csv", "a,b\n1,2\n")
    with pytest.raises(InputError, match=r"book\.xlsx: not readable as \.xlsx: File not found"):
        read(path)
    path.write_bytes(bytes.fromhex("d0cf11e0a1b11ae1") + bytes(600))
    with pytest.raises(InputError, match=r"book\.xlsx: protected by a password, or an \.xls file"):
        read(path)
    with pytest.raises(InputError, match=r"book\.xlsx: not readable as \.xlsx"):
        path.write_bytes(write(path, [HEADER, *BODY]).read_bytes()[:3000])
        read(path)


def test_without_the_extra(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(path, [HEADER, *BODY])
    monkeypatch.setitem(sys.modules, "python_calamine", None)
    with pytest.raises(InputError, match=r"is not installed: pip install 'deep-learning-essentials\[excel\]'$"):
        read(path)
