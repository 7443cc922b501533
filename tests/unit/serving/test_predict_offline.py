import csv
import gzip
import io
import shlex
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import openpyxl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from tests import bundles
from tests.inprocess import InProcess

from dle_bundle.errors import InputError, RowFaults
from dle_bundle.schema import TextFormat
from dle_bundle.tables import table_files
from dle_bundle.values.numbers import NumberFormat
from dle_serving.offline import loaded
from dle_serving.offline.predict import predict

HEADER = ["label", "probability", "probability_<=50K", "probability_>50K"]


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    return bundles.write(tmp_path / "bundle")


def source(path: Path, rows: list[dict[str, Any]]) -> Path:
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    return path


def some_rows(count: int) -> list[dict[str, Any]]:
    generator = np.random.default_rng(3)
    return [
        {
            "id": f"row {index}",
            "age": round(float(generator.uniform(17, 90)), 3),
            "workclass": generator.choice(["Private", "State-gov", "Unheard", ""]),
            "hours-per-week": generator.choice(["", "40", "12.5"]),
            "married": bool(generator.random() < 0.5),
            "since": f"20{index % 20:02d}-05-01T00:00:00Z",
            "zone": int(generator.integers(1, 4)),
        }
        for index in range(count)
    ]


def read(path: Path) -> tuple[list[str], list[list[str]]]:
    content = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    lines = content.decode().splitlines()
    header, *rows = csv.reader(lines, delimiter="\t" if path.suffix == ".tsv" else ",")
    return header, rows


@pytest.mark.parametrize("suffix", [".csv", ".csv.gz", ".tsv", ".parquet"])
def test_rows_keep_their_order_and_what_was_asked_for(tmp_path: Path, bundle: Path, suffix: str) -> None:
    out = tmp_path / f"out{suffix}"
    rows = some_rows(300)
    summary = predict(bundle, source(tmp_path / "in.csv", rows), out, keep=["id"])
    assert (summary.rows, summary.predicted, summary.faulty, summary.ignored) == (300, 300, 0, ())
    assert summary.provider == "cpu"
    if suffix == ".parquet":
        table = pq.read_table(out)
        header, found = table.column_names, [list(row.values()) for row in table.to_pylist()]
        assert table.schema.field("probability").type == pa.float32()
    else:
        header, found = read(out)
    assert header == ["id", *HEADER]
    assert [row[0] for row in found] == [row["id"] for row in rows]
    assert {row[1] for row in found} <= {"<=50K", ">50K"}
    for row in found:
        assert float(row[2]) == max(float(row[3]), float(row[4]))


def test_the_numbers_are_those_of_the_service(tmp_path: Path, bundle: Path, service: InProcess) -> None:
    rows = some_rows(200)
    predict(bundle, source(tmp_path / "in.csv", rows), tmp_path / "out.csv")
    _, found = read(tmp_path / "out.csv")
    asked = [
        {
            **{name: value for name, value in row.items() if name != "id"},
            "hours-per-week": float(row["hours-per-week"]) if row["hours-per-week"] else None,
            "workclass": str(row["workclass"]),
        }
        for row in rows
    ]
    answers = [
        answer
        for start in range(0, 200, 100)
        for answer in service.post("/predict", json={"rows": asked[start : start + 100]}).json()["predictions"]
    ]
    for row, answer in zip(found, answers, strict=True):
        assert row[0] == answer["label"]
        assert float(row[1]) == pytest.approx(answer["probability"], abs=1e-6)


def test_a_regression_gives_values_and_names_what_it_ignored(tmp_path: Path) -> None:
    folder = bundles.write(tmp_path / "bundle", bundles.PRICE, name="price")
    rows = [{"rooms": index, "town": "A", "colour": "red", "age": 3} for index in range(5)]
    summary = predict(folder, source(tmp_path / "in.csv", rows), tmp_path / "out.csv")
    assert summary.ignored == ("colour", "age")
    assert not summary.replaced
    assert predict(folder, tmp_path / "in.csv", tmp_path / "out.csv").replaced == (tmp_path / "out.csv",)
    header, found = read(tmp_path / "out.csv")
    assert header == ["value"]
    assert len({float(row[0]) for row in found}) == 5


def test_absent_columns_are_named_and_a_table_without_any_is_refused(tmp_path: Path) -> None:
    inputs = tuple(msgspec.structs.replace(field, required=False) for field in bundles.PRICE.inputs)
    schema = msgspec.structs.replace(bundles.PRICE, inputs=inputs)
    folder = bundles.write(tmp_path / "bundle", schema, name="price")
    summary = predict(folder, source(tmp_path / "in.csv", [{"rooms": 1}, {"rooms": 2}]), tmp_path / "out.csv")
    assert summary.absent == ("town",)
    with pytest.raises(RowFaults) as caught:
        predict(folder, source(tmp_path / "in.csv", [{"room": 1, "city": "A"}]), tmp_path / "out.csv")
    assert [(fault.field, fault.code) for fault in caught.value.faults] == [("rooms", "missing"), ("town", "missing")]


def test_numbers_without_the_unit_of_training_are_counted(tmp_path: Path) -> None:
    rooms = msgspec.structs.replace(bundles.PRICE.inputs[0], unit="%", number_format=NumberFormat(unit="%"))
    schema = msgspec.structs.replace(bundles.PRICE, inputs=(rooms, bundles.PRICE.inputs[1]))
    folder = bundles.write(tmp_path / "bundle", schema, name="price")
    pq.write_table(pa.table({"rooms": [0.05, 0.5], "town": ["A", "B"]}), tmp_path / "in.parquet")
    (note,) = predict(folder, tmp_path / "in.parquet", tmp_path / "out.csv").notes
    assert note == "rooms: 2 of 2 numbers have no unit; the unit of training is taken, so 0.05 is 0.05 %"
    rows = source(tmp_path / "in.csv", [{"rooms": "5%", "town": "A"}])
    assert predict(folder, rows, tmp_path / "out.csv").notes == ()


def test_values_out_of_range_are_counted(tmp_path: Path, bundle: Path) -> None:
    rows = some_rows(30)
    rows[4]["age"], rows[7]["age"], rows[8]["since"], rows[9]["age"] = 16.5, 500, "1960-05-01", ""
    summary = predict(bundle, source(tmp_path / "in.csv", rows), tmp_path / "out.csv", errors=tmp_path / "errors.csv")
    since, age = summary.out_of_range
    assert (age.column, age.rows, age.of, age.examples, age.seen) == ("age", 2, 29, (500.0, 16.5), (17.0, 90.0))
    assert (age.warning or "").startswith("age: 2 of 29 values are outside of what training saw, 17 to 90 years, such")
    assert (since.column, since.rows, since.of, since.examples[0]) == ("since", 3, 29, "1960-05-01T00:00:00Z")
    assert (since.warning or "").endswith("check how dates are written")
    inside = source(tmp_path / "in.csv", [{**row, "age": 20, "since": ""} for row in rows])
    assert predict(bundle, inside, tmp_path / "out.csv").out_of_range == ()


def test_fractions_of_a_workbook_in_a_column_of_percent(tmp_path: Path) -> None:
    rooms = msgspec.structs.replace(
        bundles.PRICE.inputs[0], unit="%", number_format=NumberFormat(unit="%"), observed_range=(0.0, 80.0)
    )
    schema = msgspec.structs.replace(bundles.PRICE, inputs=(rooms, bundles.PRICE.inputs[1]))
    folder = bundles.write(tmp_path / "bundle", schema, name="price")
    book = openpyxl.Workbook()
    for row in [["rooms", "town"], [0.05, "A"], [0.5, "B"]]:
        book["Sheet"].append(row)
    book["Sheet"]["A2"].number_format = book["Sheet"]["A3"].number_format = "0%"
    book.save(tmp_path / "in.xlsx")
    (found,) = predict(folder, tmp_path / "in.xlsx", tmp_path / "out.csv").out_of_range
    assert found.warning == (
        "rooms: all values are from 0.05 to 0.5, and training saw 0 to 80 %; if they are fractions, such as 0.05 for 5 "
        "%, multiply them by 100"
    )
    rows = source(tmp_path / "in.csv", [{"rooms": "0.5%", "town": "A"}])
    assert predict(folder, rows, tmp_path / "out.csv").out_of_range == ()


def test_a_sheet_of_a_workbook(tmp_path: Path) -> None:
    folder = bundles.write(tmp_path / "bundle", bundles.PRICE, name="price")
    book = openpyxl.Workbook()
    for name, rooms in {"Sheet": 1, "June 2024": 2}.items():
        sheet = book[name] if name in book.sheetnames else book.create_sheet(name)
        sheet.append(["rooms", "town"])
        sheet.append([rooms, "A"])
    book.save(tmp_path / "in.xlsx")
    rows = source(tmp_path / "in.csv", [{"rooms": 1, "town": "A"}, {"rooms": 2, "town": "A"}])
    predict(folder, rows, tmp_path / "both.csv")
    first, second = read(tmp_path / "both.csv")[1]
    (note,) = predict(folder, tmp_path / "in.xlsx", tmp_path / "out.csv").notes
    assert note == "the sheet 'Sheet' is read, not 'June 2024'; to read another sheet, add --sheet 'June 2024'"
    assert read(tmp_path / "out.csv")[1] == [first]
    option, name = shlex.split(note.partition("another sheet, add ")[2])
    assert option == "--sheet"
    assert predict(folder, tmp_path / "in.xlsx", tmp_path / "out.csv", sheet=name).notes == ()
    assert read(tmp_path / "out.csv")[1] == [second]
    with pytest.raises(InputError, match=r"no sheet is called 'July'.*; choose one of them with --sheet"):
        predict(folder, tmp_path / "in.xlsx", tmp_path / "out.csv", sheet="July")
    cover = book.create_sheet("Cover", 0)
    for line in (["by", "on"], ["Zoe", 1], ["Max", 2]):
        cover.append(line)
    book.save(tmp_path / "in.xlsx")
    with pytest.raises(RowFaults) as caught:
        predict(folder, tmp_path / "in.xlsx", tmp_path / "out.csv")
    no_rooms, no_town, note = caught.value.details
    assert no_rooms.startswith("'rooms': a required column is missing")
    assert no_town.startswith("'town': missing")
    assert note.startswith(
        "the sheet 'Cover' is read, not 'Sheet', 'June 2024'; to read another sheet, add --sheet Sheet"
    )
    with pytest.raises(InputError, match=r"--sheet June: the source has no workbook"):
        predict(folder, rows, tmp_path / "out.csv", sheet="June")


@pytest.mark.parametrize(("schema", "kind"), [(bundles.DIGIT, pa.int64()), (bundles.SPAM, pa.bool_())])
def test_labels_have_the_type_of_the_target(tmp_path: Path, schema: Any, kind: Any) -> None:
    folder = bundles.write(tmp_path / "bundle", schema)
    rows = [{field.name: index for field in schema.inputs} for index in range(3)]
    predict(folder, source(tmp_path / "in.csv", rows), tmp_path / "out.parquet")
    assert pq.read_table(tmp_path / "out.parquet").schema.field("label").type == kind


def test_bad_rows_are_all_told_and_nothing_is_written(tmp_path: Path, bundle: Path) -> None:
    rows = some_rows(5)
    rows[1]["age"], rows[4]["married"], rows[4]["since"] = "old", "", "yesterday"
    out = tmp_path / "out.csv"
    out.write_text("what was there before")
    with pytest.raises(RowFaults) as caught:
        predict(bundle, source(tmp_path / "in.csv", rows), out)
    assert [(fault.row, fault.field, fault.code) for fault in caught.value.faults] == [
        (2, "age", "type"),
        (5, "married", "missing"),
        (5, "since", "type"),
    ]
    assert caught.value.exit_code == 2
    assert out.read_text() == "what was there before"
    assert {path.name for path in tmp_path.iterdir()} == {"bundle", "in.csv", "out.csv"}


def test_a_file_of_errors_takes_the_bad_rows(tmp_path: Path, bundle: Path) -> None:
    rows = some_rows(5)
    rows[1]["age"], rows[4]["married"] = "old", ""
    summary = predict(
        bundle, source(tmp_path / "in.csv", rows), tmp_path / "out.csv", keep=["id"], errors=tmp_path / "errors.csv"
    )
    assert (summary.rows, summary.predicted, summary.faulty, summary.faults) == (5, 3, 2, 2)
    header, found = read(tmp_path / "out.csv")
    assert header == ["row", "id", *HEADER]
    assert [row[:2] for row in found] == [["1", "row 0"], ["3", "row 2"], ["4", "row 3"]]
    header, faults = read(tmp_path / "errors.csv")
    assert header == ["row", "field", "code", "message"]
    assert [fault[:3] for fault in faults] == [["2", "age", "type"], ["5", "married", "missing"]]


def test_errors_that_take_all_rows_leave_the_output_alone(tmp_path: Path, bundle: Path) -> None:
    rows = [{**row, "age": "old"} for row in some_rows(3)]
    out, errors = tmp_path / "out.csv", tmp_path / "errors.csv"
    out.write_text("what was there before")
    with pytest.raises(InputError, match=r"all 3 rows have faults, which are in .*errors\.csv") as caught:
        predict(bundle, source(tmp_path / "in.csv", rows), out, errors=errors)
    assert caught.value.exit_code == 2
    assert out.read_text() == "what was there before"
    assert [fault[:3] for fault in read(errors)[1]] == [[str(row), "age", "type"] for row in (1, 2, 3)]


def test_several_files(tmp_path: Path, bundle: Path) -> None:
    rows = some_rows(9)
    rows[1]["age"], rows[7]["age"], rows[8]["married"] = "old", "older", ""
    files = [
        source(tmp_path / "1.csv", rows[:5]),
        source(tmp_path / "2.csv", [dict(reversed(row.items())) for row in rows[5:]]),
    ]
    out, errors = tmp_path / "out.csv", tmp_path / "errors.csv"
    with pytest.raises(RowFaults, match=rf"{files[1]}, row 3, 'age': expected a number"):
        predict(bundle, files, out)
    summary = predict(bundle, str(tmp_path / "[12].csv"), out, keep=["id"], errors=errors)
    assert (summary.rows, summary.predicted, summary.faulty) == (9, 6, 3)
    header, found = read(out)
    assert header == ["file", "row", "id", *HEADER]
    assert [row[:3] for row in found] == [
        [str(files[index // 5]), str(index % 5 + 1), f"row {index}"] for index in (0, 2, 3, 4, 5, 6)
    ]
    header, faults = read(errors)
    assert header == ["file", "row", "field", "code", "message"]
    assert [fault[:3] for fault in faults] == [
        [str(files[0]), "2", "age"],
        [str(files[1]), "3", "age"],
        [str(files[1]), "4", "married"],
    ]


def test_standard_input(tmp_path: Path, bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = source(tmp_path / "in.csv", some_rows(20))
    predict(bundle, path, tmp_path / "out.csv")
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(path.read_bytes().replace(b",", b";"))))
    summary = predict(bundle, "-", tmp_path / "sent.csv")
    assert (tmp_path / "sent.csv").read_text() == (tmp_path / "out.csv").read_text()
    assert summary.notes == ("the columns are separated by ';'",)


def test_rows_are_numbered_through_all_parts_of_a_file(
    tmp_path: Path, bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    streamed = table_files.stream
    monkeypatch.setattr(
        table_files, "stream", lambda path, written, **options: streamed(path, written, **options | {"rows": 10})
    )
    monkeypatch.setattr(loaded, "_RUN_ROWS", 3)
    rows = some_rows(35)
    rows[23]["age"] = "old"
    path = source(tmp_path / "in.csv", rows)
    summary = predict(bundle, path, tmp_path / "out.parquet", keep=["id"], errors=tmp_path / "errors.csv")
    assert (summary.rows, summary.predicted) == (35, 34)
    assert read(tmp_path / "errors.csv")[1][0][0] == "24"
    kept = pq.read_table(tmp_path / "out.parquet").column("id").to_pylist()
    assert kept == [row["id"] for row in rows if row["age"] != "old"]


def test_the_separator_of_training_is_used(tmp_path: Path) -> None:
    schema = msgspec.structs.replace(bundles.INCOME, text_format=TextFormat(delimiter=";"))
    folder = bundles.write(tmp_path / "bundle", schema)
    path = source(tmp_path / "in.csv", some_rows(3))
    path.write_text(path.read_text().replace(",", ";"))
    assert predict(folder, path, tmp_path / "out.csv").predicted == 3


def test_a_file_without_a_required_column_is_refused_even_with_a_file_of_errors(tmp_path: Path, bundle: Path) -> None:
    path = source(tmp_path / "in.csv", [{"age": 1, "zone": 2}])
    with pytest.raises(RowFaults, match="married") as caught:
        predict(bundle, path, tmp_path / "out.csv", errors=tmp_path / "errors.csv")
    assert [fault.row for fault in caught.value.faults] == [None]
    assert caught.value.message == "'married': a required column is missing"
    assert not (tmp_path / "out.csv").exists()
    assert not (tmp_path / "errors.csv").exists()


def test_what_cannot_be_done_is_refused(tmp_path: Path, bundle: Path) -> None:
    path = source(tmp_path / "in.csv", some_rows(2))
    out = tmp_path / "out.csv"
    with pytest.raises(InputError, match=r"expected a file ending in .csv"):
        predict(bundle, path, tmp_path / "out.xlsx")
    with pytest.raises(InputError, match="different files"):
        predict(bundle, path, path)
    with pytest.raises(InputError, match="different files"):
        predict(bundle, path, out, errors=out)
    with pytest.raises(InputError, match="did you mean 'workclass'"):
        predict(bundle, path, out, keep=["workclas"])
    with pytest.raises(InputError, match="two columns with the same name"):
        predict(bundle, path, out, keep=["label"])
    path.write_text(path.read_text().replace("id,", "row,", 1))
    predict(bundle, path, out, keep=["row"])
    with pytest.raises(InputError, match=r"--keep row: the output would have two columns.*; its own are row, label"):
        predict(bundle, path, out, keep=["row"], errors=tmp_path / "errors.csv")
    out.unlink()
    with pytest.raises(InputError, match="no such file"):
        predict(bundle, tmp_path / "absent.csv", out)
    with pytest.raises(InputError, match="no such bundle"):
        predict(tmp_path / "absent", path, out)
    assert not out.exists()


def test_an_output_that_exists_is_replaced(tmp_path: Path, bundle: Path) -> None:
    out = tmp_path / "out.csv.gz"
    out.write_text("what was there before")
    path = source(tmp_path / "in.csv", some_rows(2))
    predict(bundle, path, out)
    first = out.read_bytes()
    assert len(read(out)[1]) == 2
    predict(bundle, path, out)
    assert out.read_bytes() == first
