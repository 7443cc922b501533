"""Files as tables, and a clear word with the line for each way in which a file can be wrong."""

import gzip
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet
import pytest

from dle_bundle.errors import InputError
from dle_bundle.schema import TextFormat
from dle_bundle.tables import table_files


def written(folder: Path, name: str, content: bytes) -> Path:
    path = folder / name
    path.write_bytes(content)
    return path


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("t.csv", b"a, b\n1,x\n2,y\n"),
        ("t.csv", b"\xef\xbb\xbfa,b\r\n1,x\r\n\r\n2,y\r\n"),
        ("t.csv", b'"a","b"\n"1","x"\n"2",y'),
        ("t.CSV.GZ", gzip.compress(b"a,b\n1,x\n2,y\n", mtime=0)),
        ("t.tsv", b"a\tb\n1\tx\n2\ty\n"),
        ("t.csv", b"\n\r\n  \na,b\n1,x\n2,y\n"),
        ("t.txt", b"\n\na;b\n1;x\n2;y\n"),
        ("t.txt", b"a;b\n1;x\n2;y\n"),
        ("t.txt", b"a|b\n1|x\n2|y\n"),
    ],
)
def test_delimited_text_stays_text(tmp_path: Path, name: str, content: bytes) -> None:
    table = table_files.read(written(tmp_path, name, content))
    assert table.to_pydict() == {"a": ["1", "2"], "b": ["x", "y"]}


def test_a_delimiter_can_be_given(tmp_path: Path) -> None:
    assert table_files.read(written(tmp_path, "t.csv", b"a#b\n1#2\n"), TextFormat(delimiter="#")).column_names == [
        "a",
        "b",
    ]


def test_an_unnamed_column_gets_a_name(tmp_path: Path) -> None:
    assert table_files.read(written(tmp_path, "t.csv", b",a\n0,5\n")).column_names == ["unnamed_1", "a"]


def test_quoted_values_may_hold_delimiters_and_lines(tmp_path: Path) -> None:
    table = table_files.read(written(tmp_path, "t.csv", b'a,b\n"x,\ny",4\n'))
    assert table.to_pydict() == {"a": ["x,\ny"], "b": ["4"]}


def test_parquet_keeps_types_and_is_read_in_parts(tmp_path: Path) -> None:
    path = tmp_path / "t.parquet"
    pyarrow.parquet.write_table(pa.table({"a": range(10)}), path)
    assert [len(part) for part in table_files.stream(path, rows=4)] == [4, 4, 2]
    assert table_files.read(path).schema.field("a").type == pa.int64()


def test_arrays_become_columns(tmp_path: Path) -> None:
    np.save(tmp_path / "t.npy", np.array([[1.0, 2.0], [3.0, 4.0]]))
    assert table_files.read(tmp_path / "t.npy").to_pydict() == {"x0": [1.0, 3.0], "x1": [2.0, 4.0]}
    np.savez(tmp_path / "t.npz", X=np.eye(2), y=np.array(["a", "b"]))
    assert table_files.read(tmp_path / "t.npz").to_pydict() == {"x0": [1.0, 0.0], "x1": [0.0, 1.0], "y": ["a", "b"]}


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("t.xls", b"", "expected a file ending in"),
        ("t.csv", b"", "empty file"),
        ("t.csv", b"a,b\n", "no rows"),
        ("t.csv", b"a,a\n1,2\n", "'a' occurs 2 times"),
        (
            "t.csv",
            "é,b\n1,2\n".encode("cp1252"),
            "line 1: expected UTF-8 text, found byte 0xe9; set data.encoding=cp1252",
        ),
        ("t.csv", b"Sales 2024\n\na,b,y\n1,2,p\n3,4,q\n", "set data.skip_rows=2"),
        ("t.csv", b"0.1,1.5,p\n0.2,2.5,q\n", "set data.header=none, or data.header=first"),
        ("t.csv", b"a,b\n1,2\n3\n", "not readable as .csv: line 3: expected 2 columns, found 1"),
        ("t.csv", b"a,b\n1,\xe9\n", "line 2: expected UTF-8 text, found byte 0xe9"),
        ("t.csv", b"\xe9\n1\n", "set data.encoding=cp1252"),
        ("t.csv", b"\n\na,b\n1,2\n3\n", "line 5: expected 2 columns, found 1"),
        ("t.csv", b'"a,b\n' + b"1,2\n" * 50_000, "field larger than field limit"),
        ("t.csv", b"a,b\n1,\x00\n", "line 2: binary data"),
        ("t.csv.gz", b"plain", "not readable as .csv.gz"),
        ("t.parquet", b"plain", "not readable as .parquet"),
        ("t.npy", b"plain", "not readable as .npy: not a NumPy array file"),
        ("t.npz", b"plain", "not readable as .npz: not a NumPy array file"),
    ],
)
def test_unreadable_files(tmp_path: Path, name: str, content: bytes, message: str) -> None:
    with pytest.raises(InputError) as raised:
        table_files.read(written(tmp_path, name, content))
    assert message in str(raised.value)
    assert raised.value.exit_code == 2


def test_truncated_gzip(tmp_path: Path) -> None:
    path = written(
        tmp_path, "t.csv.gz", gzip.compress(b"a,b\n" + np.random.default_rng(0).bytes(4000).hex().encode())[:-900]
    )
    with pytest.raises(InputError, match=r"not readable as \.csv\.gz"):
        table_files.read(path)


def test_the_line_of_a_late_fault(tmp_path: Path) -> None:
    path = written(tmp_path, "t.csv", b"a,b\n" + b"1,2\n" * 100_000 + b"1,2,3\n")
    with pytest.raises(InputError, match="line 100002"):
        table_files.read(path)


def test_no_such_file_and_folders(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such file"):
        table_files.read(tmp_path / "none.csv")
    (tmp_path / "folder.csv").mkdir()
    with pytest.raises(InputError, match=r"folder\.csv: expected image files \(\.png"):
        table_files.read(tmp_path / "folder.csv")


def test_a_path_that_is_not_there_is_told_with_its_nearest(tmp_path: Path) -> None:
    (tmp_path / "photos").mkdir()
    with pytest.raises(InputError, match=r"phtos: no such file or folder \(did you mean 'photos'\?\)"):
        table_files.read(tmp_path / "phtos")
    (tmp_path / "people.csv.gz").touch()
    with pytest.raises(InputError, match=r"peple\.tsv: no such file or folder \(did you mean 'people\.csv\.gz'\?\)"):
        table_files.read(tmp_path / "peple.tsv")
    for unlike in ("dates.csv", "rates.csv", "metadata.csv", "log.csv"):
        (tmp_path / unlike).touch()
    with pytest.raises(InputError, match=r"data\.csv: no such file or folder$"):
        table_files.read(tmp_path / "data.csv")
    (tmp_path / "a.png").write_bytes(b"x")
    with pytest.raises(InputError, match="an image, not a table; name images without other files"):
        table_files.read(tmp_path / "a.png")


def test_arrays_in_parts_are_one_table(tmp_path: Path) -> None:
    np.savez(
        tmp_path / "t.npz",
        X_train=np.eye(2),
        y_train=np.array([1, 0]),
        X_test=np.ones((1, 2)),
        y_test=np.array([0]),
        classes=np.array(["no", "yes"]),
    )
    found = table_files.read(tmp_path / "t.npz").to_pydict()
    assert found == {
        "x0": [1.0, 0.0, 1.0],
        "x1": [0.0, 1.0, 1.0],
        "y": ["yes", "no", "no"],
        "split": ["train", "train", "test"],
    }


def test_images_as_floats_are_refused_with_the_cure(tmp_path: Path) -> None:
    np.savez(tmp_path / "t.npz", X=np.zeros((2, 4, 4, 3), dtype=np.float32))
    with pytest.raises(InputError, match="write images as uint8 from 0 to 255"):
        table_files.read(tmp_path / "t.npz")


def test_arrays_of_different_lengths(tmp_path: Path) -> None:
    np.savez(tmp_path / "t.npz", X=np.eye(2), y=np.arange(3))
    with pytest.raises(InputError, match="expected arrays of equal length, found X: 2, y: 3"):
        table_files.read(tmp_path / "t.npz")


def test_a_header_name_may_hold_a_line_break(tmp_path: Path) -> None:
    path = written(tmp_path, "t.csv", b'"a\nb","c ""d"""\n1,2\n')
    assert table_files.read(path).to_pydict() == {"a\nb": ["1"], 'c "d"': ["2"]}
    with pytest.raises(InputError, match="line 4: expected 2"):
        table_files.read(written(tmp_path, "t.csv", b'"a\nb",c\n1,2\n3\n'))


def test_one_column_may_hold_a_separator_when_one_is_given(tmp_path: Path) -> None:
    assert table_files.read(written(tmp_path, "t.csv", b"a;b\n1\n"), TextFormat(delimiter=",")).column_names == ["a;b"]


def test_damaged_compression(tmp_path: Path) -> None:
    """Each byte in turn: refused, or read, and never anything else."""
    whole = gzip.compress(b"a,b\n" + b"".join(b"%d,%d\n" % (i, i * i) for i in range(50)), mtime=0)
    np.savez_compressed(tmp_path / "whole.npz", X=np.arange(20.0).reshape(10, 2))
    refused = 0
    for name, content in (("t.csv.gz", whole), ("t.npz", (tmp_path / "whole.npz").read_bytes())):
        for place in range(len(content)):
            damaged = bytearray(content)
            damaged[place] ^= 0xFF
            try:
                table_files.read(written(tmp_path, name, bytes(damaged)))
            except InputError:
                refused += 1
    assert refused > 100


def test_arrays_of_the_other_byte_order(tmp_path: Path) -> None:
    np.savez(tmp_path / "t.npz", X=np.array([[1.5, 2.0]], ">f8"), n=np.array([3], ">i4"), s=np.array(["a"], ">U1"))
    assert table_files.read(tmp_path / "t.npz").to_pydict() == {"x0": [1.5], "x1": [2.0], "n": [3], "s": ["a"]}


@pytest.mark.parametrize("values", [np.array([1j]), np.array([[1j]]), np.array([b"\xff"]), np.ones(1, np.longdouble)])
def test_arrays_that_no_column_holds(tmp_path: Path, values: np.ndarray) -> None:
    np.savez(tmp_path / "t.npz", wave=values)
    with pytest.raises(InputError, match=r"t\.npz: wave: expected numbers.*found (complex|\|S1|float128|longdouble)"):
        table_files.read(tmp_path / "t.npz")
