"""Several files, patterns, .zip files and standard input are one table, and errors name the file."""

import gzip
import io
import sys
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from dle_bundle.errors import Fault, InputError, RowFaults, row_name
from dle_bundle.schema import TextFormat
from dle_bundle.tables import source_files
from dle_bundle.tables.source_files import FileRows, Part, Place

PLAIN = TextFormat()


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def write(name: str, text: str) -> str:
    Path(name).parent.mkdir(parents=True, exist_ok=True)
    Path(name).write_text(text)
    return name


def zipped(name: str, members: dict[str, str]) -> str:
    with zipfile.ZipFile(name, "w") as archive:
        for member, content in members.items():
            archive.writestr(member, content)
    return name


def parts(source: Place, written: TextFormat = PLAIN, rows: int = 65_536) -> list[Part]:
    with source_files.opened(source) as files:
        return list(files.stream(written, rows=rows))


def rows(source: Place, written: TextFormat = PLAIN) -> list[dict[str, Any]]:
    return list(pa.concat_tables([part.table for part in parts(source, written)]).to_pylist())


def notes(source: Place) -> tuple[str, ...]:
    with source_files.opened(source) as files:
        return files.detect(PLAIN).notes


def digest(source: Place) -> str:
    with source_files.opened(source) as files:
        return files.digest()


def sent(monkeypatch: pytest.MonkeyPatch, content: bytes) -> str:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(content)))
    return source_files.STDIN


class TestSeveralFiles:
    def test_rows_follow_each_other_and_columns_may_have_another_order(self) -> None:
        files = [write("b.csv", "x,y\n1,2\n3,4\n"), write("a.csv", "y,x\n6,5\n")]
        assert rows(files) == [{"x": "1", "y": "2"}, {"x": "3", "y": "4"}, {"x": "5", "y": "6"}]
        found = parts(files, rows=1)
        assert [(part.file, part.first_row) for part in found] == [("b.csv", 1), ("b.csv", 2), ("a.csv", 1)]

    def test_rows_of_a_single_file_need_no_name(self) -> None:
        assert [part.file for part in parts(write("a.csv", "x\n1\n"))] == [None]

    def test_a_pattern(self) -> None:
        for name, value in {"data/2.csv": 2, "data/1.csv": 1, "data/.3.csv": 3, "data/deep/4.csv": 4}.items():
            write(name, f"x\n{value}\n")
        assert rows("data/*.csv") == [{"x": "1"}, {"x": "2"}]
        assert rows("data/**/*.csv") == [{"x": "1"}, {"x": "2"}, {"x": "4"}]
        assert rows(write("data/[1].csv", "x\n5\n")) == [{"x": "5"}]

    def test_faults_are_reported_together(self) -> None:
        Path("folder").mkdir()
        write("a.csv", "x\n1\n")
        write("absent.csv", "x\n1\n")
        with pytest.raises(InputError) as caught:
            rows(["a.csv", "folder", "-", "absnt.csv", "none*.csv", "folder/../a.csv"])
        assert caught.value.details == (
            "absnt.csv: no such file or folder (did you mean 'absent.csv'?)",
            "none*.csv: no file has such a name",
            "folder: a folder, which can only be read alone",
            "-: standard input, which can only be read alone",
            "a.csv: named twice, so its rows would count twice",
            "folder/../a.csv: named twice, so its rows would count twice",
        )

    def test_different_columns(self) -> None:
        files = [
            write("a.csv", "age,town,y\n1,b,2\n"),
            write("b.csv", "Age,y\n1,2\n"),
            write("c.csv", "y,town,age\n1,b,2\n"),
        ]
        files.append(write("d.csv", "age,town,y,z\n1,b,2,3\n"))
        with pytest.raises(InputError, match=r"differ in their columns\. a\.csv has 'age', 'town', 'y'") as caught:
            rows(files)
        assert caught.value.details == (
            "b.csv: lacks 'age' (did you mean 'Age'?), 'town', has also 'Age'",
            "d.csv: has also 'z'",
        )

    def test_each_file_has_its_own_separator_and_encoding(self) -> None:
        files = [write("a.csv", "x,y\n1,2\n"), write("b.csv", "x;y\n3;4\n"), write("c.tsv", "x\ty\n5\t6\n")]
        Path("d.csv").write_bytes("x,y\n7,8\n".encode("utf-16"))
        with source_files.opened([*files, "d.csv"]) as opened:
            detected = opened.detect(PLAIN)
        assert detected.format == PLAIN
        assert detected.notes == ("b.csv: the columns are separated by ';'", "d.csv: the text is UTF-16")
        assert [row["y"] for row in rows([*files, "d.csv"], detected.format)] == ["2", "4", "6", "8"]

    def test_what_holds_for_all_files_is_said_once(self) -> None:
        files = [write("a.csv", "x;y\n1;2\n"), write("b.csv", "x;y\n3;4\n")]
        with source_files.opened(files) as opened:
            detected = opened.detect(PLAIN)
        assert detected.format.delimiter == ";"
        assert detected.notes == ("the columns are separated by ';'",)

    def test_errors_name_the_file_and_the_line(self) -> None:
        files = [write("a.csv", "x,y\n1,2\n"), write("b.csv", "x,y\n1,2\n3\n"), write("c.csv", "")]
        with pytest.raises(InputError) as caught:
            rows(files)
        first, second = caught.value.details
        assert caught.value.message == "2 of 3 files cannot be read"
        assert first.startswith("b.csv: not readable as .csv: line 3:")
        assert second == "c.csv: empty file"
        with pytest.raises(InputError, match=r"e\.csv: no rows"):
            rows(["a.csv", write("e.csv", "x,y\n")])

    @pytest.mark.parametrize(
        ("first", "second", "expected"),
        [
            ([1, 2], ["a", "b"], ["1", "2", "a", "b"]),
            ([1.0, np.nan], ["a", "b"], ["1", None, "a", "b"]),
            ([True, False], ["a", "b"], ["true", "false", "a", "b"]),
            ([1, 2], [0.5, 3.0], [1.0, 2.0, 0.5, 3.0]),
            ([1, 2], [None, None], [1, 2, None, None]),
        ],
    )
    def test_types_that_differ(self, first: list[Any], second: list[Any], expected: list[Any]) -> None:
        for name, values in {"a": first, "b": second}.items():
            pq.write_table(pa.table({"x": values}), f"{name}.parquet")
        assert [row["x"] for row in rows(["a.parquet", "b.parquet"])] == expected

    def test_types_that_cannot_be_brought_together(self) -> None:
        pq.write_table(pa.table({"x": [[1.0, 2.0]], "y": [1]}), "a.parquet")
        pq.write_table(pa.table({"x": [1.0], "y": [1]}), "b.parquet")
        with pytest.raises(InputError, match="differ in the types") as caught:
            rows(["a.parquet", "b.parquet"])
        assert caught.value.details == ("'x': a.parquet list<element: double>, b.parquet double",)
        pq.write_table(pa.table({"x": [2**62 + 1]}), "c.parquet")
        pq.write_table(pa.table({"x": [0.5]}), "d.parquet")
        with pytest.raises(InputError, match=r"c\.parquet: 'x' holds int64, which does not fit double"):
            rows(["c.parquet", "d.parquet"])

    def test_the_digest_is_that_of_all_contents_in_their_order(self) -> None:
        files = [write("a.csv", "x\n1\n"), write("b.csv", "x\n2\n")]
        assert len({digest(files), digest(files[::-1]), digest("a.csv"), digest("b.csv")}) == 4
        write("b.csv", "x\n3\n")
        before = digest(files)
        assert digest([write("other/a.csv", "x\n1\n"), "b.csv"]) == before


class TestZip:
    def test_one_file(self) -> None:
        name = zipped(
            "t.zip", {"inner/rows.csv": "x,y\n1,2\n", "__MACOSX/inner/._rows.csv": "junk", ".DS_Store": "junk"}
        )
        assert rows(name) == [{"x": "1", "y": "2"}]
        assert digest(name) == digest(write("rows.csv", "x,y\n1,2\n"))

    def test_errors_name_the_file_in_it(self) -> None:
        with pytest.raises(InputError, match=r"^inner/rows\.csv in t\.zip: not readable as \.csv: line 3"):
            rows(zipped("t.zip", {"inner/rows.csv": "x,y\n1,2\n3\n"}))
        with pytest.raises(InputError, match=r"^rows\.doc in t\.zip: expected a file ending in"):
            rows(zipped("t.zip", {"rows.doc": "x"}))

    def test_several_files_are_listed(self) -> None:
        with pytest.raises(InputError, match=r"t\.zip: expected one file in it, found 2; unpack it") as caught:
            rows(zipped("t.zip", {"a.csv": "x\n1\n", "b.csv": "x\n2\n"}))
        assert caught.value.details == ("a.csv", "b.csv")
        with pytest.raises(InputError, match=r"t\.zip: expected one file in it, found 0$"):
            rows(zipped("t.zip", {}))

    def test_not_readable(self) -> None:
        with pytest.raises(InputError, match=r"t\.zip: not readable as \.zip"):
            rows(write("t.zip", "x,y\n1,2\n"))
        content = bytearray(Path(zipped("t.zip", {"a.csv": "x\n1\n"})).read_bytes())
        for mark, place in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):  # as if it had a password
            content[content.index(mark) + place] |= 1
        Path("t.zip").write_bytes(content)
        with pytest.raises(InputError, match=r"t\.zip: encrypted; unpack it"):
            rows("t.zip")


class TestStandardInput:
    @pytest.fixture(autouse=True)
    def temporary(self, here: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
        folder = here / "temporary"
        folder.mkdir()
        monkeypatch.setattr("tempfile.tempdir", str(folder))
        return folder

    @pytest.mark.parametrize("kind", ["csv", "semicolon", "gzip", "json lines", "json", "parquet", "npy", "npz", "zip"])
    def test_the_content_tells_its_format(self, kind: str, temporary: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        table, buffer = {"x0": [1.0, 3.0], "x1": [2.0, 4.0]}, io.BytesIO()
        text = b"x0,x1\n1,2\n3,4\n"
        if kind == "parquet":
            pq.write_table(pa.table(table), buffer)
        elif kind == "npy":
            np.save(buffer, np.array([[1.0, 2.0], [3.0, 4.0]]))
        elif kind == "npz":
            np.savez(buffer, X=np.array([[1.0, 2.0], [3.0, 4.0]]))
        elif kind == "zip":
            with zipfile.ZipFile(buffer, "w") as archive:
                archive.writestr("rows.csv", text)
        else:
            lines = b'{"x0": 1.0, "x1": 2.0}\n{"x0": 3.0, "x1": 4.0}\n'
            semicolon = text.replace(b",", b";")
            array = b"[" + lines.replace(b"}\n{", b"},\n {") + b"]"
            packed = gzip.compress(text)
            contents = {"csv": text, "semicolon": semicolon, "gzip": packed, "json lines": lines, "json": array}
            buffer.write(contents[kind])
        found = rows(sent(monkeypatch, buffer.getvalue()))
        assert {name: [float(row[name]) for row in found] for name in found[0]} == table
        assert not list(temporary.iterdir())

    @pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-16-le", "utf-16-be"])
    @pytest.mark.parametrize("text", ['[{"x": 1}, {"x": 2}]', '{"x": 1}\n{"x": 2}', "x\n1\n2\n"])
    def test_text_of_any_encoding(self, text: str, encoding: str, monkeypatch: pytest.MonkeyPatch) -> None:
        found = rows(sent(monkeypatch, text.encode(encoding)))
        assert [int(row["x"]) for row in found] == [1, 2]

    def test_errors(self, monkeypatch: pytest.MonkeyPatch) -> None:
        with pytest.raises(InputError, match=r"^standard input: empty file$"):
            rows(sent(monkeypatch, b""))
        with pytest.raises(InputError, match=r"^standard input: not readable as \.csv: line 3"):
            rows(sent(monkeypatch, b"x,y\n1,2\n3\n"))
        with pytest.raises(InputError, match=r"^standard input: expected one file in it, found 2"):
            rows(sent(monkeypatch, Path(zipped("t.zip", {"a.csv": "", "b.csv": ""})).read_bytes()))

    def test_a_terminal_is_not_waited_for(self, monkeypatch: pytest.MonkeyPatch) -> None:
        stream = io.TextIOWrapper(io.BytesIO(b"x\n1\n"))
        monkeypatch.setattr(stream, "isatty", lambda: True, raising=False)
        monkeypatch.setattr(sys, "stdin", stream)
        with pytest.raises(InputError, match="standard input: no data; send a table"):
            rows("-")


def test_rows_are_named_by_their_files() -> None:
    counted = FileRows.of(
        [Part(pa.table({"x": [1] * count}), 1, name) for name, count in (("a.csv", 1000), ("a.csv", 200), ("b.csv", 3))]
    )
    with pytest.raises(InputError) as caught, counted.naming():
        raise InputError(f"2 of 1,203 rows: {row_name(1200)} 'row 7', {row_name(1201)} 'y'; set x=[row 7]")
    assert caught.value.message == "2 of 1,203 rows: row 1,200 of a.csv 'row 7', row 1 of b.csv 'y'; set x=[row 7]"
    assert row_name(1201) == "row 1,201"
    with pytest.raises(RowFaults) as faulty, counted.naming():
        raise RowFaults([Fault(1202, "x", "type", "expected a number"), Fault(None, "y", "missing", "is missing")])
    assert [(fault.file, fault.row) for fault in faulty.value.faults] == [("b.csv", 2), (None, None)]
    assert "b.csv, row 2, 'x': expected a number" in str(faulty.value)


def test_faults_of_whole_columns_are_those_of_all_files() -> None:
    files = FileRows.of([Part(pa.table({"x": [1]}), 1, name) for name in ("a.csv", "b.csv")])
    with pytest.raises(RowFaults, match=r"^'x': a required column is missing$"), files.naming():
        raise RowFaults([Fault(None, "x", "missing", "a required column is missing")], columns=True)


def test_rows_of_one_file_keep_their_numbers() -> None:
    with pytest.raises(InputError, match=r"^row 5 is wrong$"), FileRows.of([Part(pa.table({"x": [1]}), 1)]).naming():
        raise InputError(f"{row_name(5)} is wrong")
