"""Delimited text as people have it: encodings, delimiters, lines before the header, comments, no header."""

from pathlib import Path

import pytest

from dle_bundle.errors import InputError
from dle_bundle.schema import TextFormat
from dle_bundle.tables import table_files

WORDS = {"name": ["Zoë", "Łukasz"], "n": ["1", "2"]}
TEXT = "name,n\nZoë,1\nŁukasz,2\n"


def write(folder: Path, content: bytes, name: str = "t.csv") -> Path:
    (folder / name).write_bytes(content)
    return folder / name


@pytest.mark.parametrize(
    ("content", "encoding"),
    [
        (TEXT.encode(), None),
        (TEXT.encode("utf-8-sig"), None),
        (TEXT.encode("utf-16"), None),
        (b"\xfe\xff" + TEXT.encode("utf-16-be"), None),
        (TEXT.encode("cp1250"), "cp1250"),
    ],
    ids=["utf-8", "with a byte-order mark", "utf-16", "big-endian", "given"],
)
def test_encodings(tmp_path: Path, content: bytes, encoding: str | None) -> None:
    path = write(tmp_path, content)
    assert table_files.read(path, TextFormat(encoding=encoding)).to_pydict() == WORDS


def test_plain_words_of_utf_16_without_a_mark(tmp_path: Path) -> None:
    path = write(tmp_path, "a,b\n1,2\n".encode("utf-16-le"))
    assert table_files.read(path).to_pydict() == {"a": ["1"], "b": ["2"]}


def test_a_byte_of_another_encoding_after_the_first_mebibyte(tmp_path: Path) -> None:
    path = write(tmp_path, b"a,b\n" + b"1,2\n" * 400_000 + "é,2\n".encode("cp1252"))
    with pytest.raises(InputError, match=r"expected UTF-8 text; set data\.encoding=cp1252"):
        table_files.read(path)
    assert table_files.read(path, TextFormat(encoding="cp1252")).column("a")[-1].as_py() == "é"
    with pytest.raises(InputError, match="expected UTF-8 text; save it as UTF-8"):
        list(table_files.stream(path, proposing=False))


def test_a_byte_order_mark_wins_over_a_setting(tmp_path: Path) -> None:
    for name in ("utf-8-sig", "utf-16"):
        assert table_files.read(write(tmp_path, TEXT.encode(name)), TextFormat(encoding="cp1252")).to_pydict() == WORDS
    detected = table_files.detect(write(tmp_path, TEXT.encode("utf-16")))
    assert detected.notes == ("the text is UTF-16",)
    assert table_files.read(write(tmp_path, TEXT.encode()), detected.format).to_pydict() == WORDS


def test_unknown_and_wrong_encodings(tmp_path: Path) -> None:
    path = write(tmp_path, TEXT.encode())
    with pytest.raises(InputError, match="no encoding is called 'utf8x'"):
        table_files.read(path, TextFormat(encoding="utf8x"))
    with pytest.raises(InputError, match="line 2 is not in ascii"):
        table_files.read(path, TextFormat(encoding="ascii"))


@pytest.mark.parametrize("mark", [";", "\t", "|"])
def test_a_csv_with_another_separator_is_read_and_noted(tmp_path: Path, mark: str) -> None:
    path = write(tmp_path, f"a{mark}b\n1,5{mark}x\n2,5{mark}y\n".encode())
    detected = table_files.detect(path)
    assert detected.format.delimiter == mark
    assert detected.notes == (f"the columns are separated by {mark!r}",)
    assert table_files.read(path).to_pydict() == {"a": ["1,5", "2,5"], "b": ["x", "y"]}


@pytest.mark.parametrize("line", ["sep=;", '"sep=;"', "SEP=;"])
def test_the_line_that_names_the_separator(tmp_path: Path, line: str) -> None:
    path = write(tmp_path, f"{line}\r\na;b\r\n1;2\r\n".encode())
    detected = table_files.detect(path)
    assert (detected.format.delimiter, detected.format.skip_rows) == (";", 0)
    assert table_files.read(write(tmp_path, b"a;b\n1;2\n", "plain.csv"), detected.format).column_names == ["a", "b"]
    assert table_files.read(path, detected.format).to_pydict() == {"a": ["1"], "b": ["2"]}


def test_lines_before_the_header(tmp_path: Path) -> None:
    path = write(tmp_path, b"Sales\nof, 2024\n\na,b,y\n1,2,p\n3,4,q\n")
    with pytest.raises(InputError, match=r"set data\.skip_rows=3$"):
        table_files.read(path)
    assert table_files.read(path, TextFormat(skip_rows=3)).column_names == ["a", "b", "y"]


def test_comments(tmp_path: Path) -> None:
    path = write(tmp_path, b"# made by a machine\na,b\n1,2\n# pause\n3,4 # not a comment\n")
    assert table_files.read(path, TextFormat(comment="#")).to_pydict() == {
        "a": ["1", "3"],
        "b": ["2", "4 # not a comment"],
    }


def test_files_without_a_header(tmp_path: Path) -> None:
    path = write(tmp_path, b"0.5,1,p\n1.5,2,q\n")
    with pytest.raises(InputError, match=r"looks like data, not like names \(0.5, 1, p\); set data.header=none"):
        table_files.read(path)
    assert table_files.read(path, TextFormat(header="none")).to_pydict() == {
        "c1": ["0.5", "1.5"], "c2": ["1", "2"], "c3": ["p", "q"],
    }  # fmt: skip
    assert table_files.read(path, TextFormat(header="first")).column_names == ["0.5", "1", "p"]


def test_years_may_be_names(tmp_path: Path) -> None:
    assert table_files.read(write(tmp_path, b"city,2023,2024\nx,1,2\n")).column_names == ["city", "2023", "2024"]
    assert table_files.read(write(tmp_path, b"2023,2024\n1,2\n")).column_names == ["2023", "2024"]


def test_all_options_at_once_in_parts(tmp_path: Path) -> None:
    rows = [f"{row}|é" for row in range(1000)]
    content = "\r\n".join(["title", "% comment", "a|b", *rows[:500], "% comment", *rows[500:]])
    path = write(tmp_path, content.encode("cp1252"), "t.txt")
    written = TextFormat(delimiter="|", encoding="cp1252", skip_rows=1, comment="%")
    parts = list(table_files.stream(path, written, rows=300))
    assert [len(part) for part in parts] == [300, 300, 300, 100]
    assert parts[-1].to_pydict()["a"][-1] == "999"
    assert set(parts[0].to_pydict()["b"]) == {"é"}


def test_json_lines_keep_their_types(tmp_path: Path) -> None:
    path = write(tmp_path, b'{"a": 1, "b": "x"}\n{"a": 2.5, "b": null}\n', "t.jsonl")
    assert table_files.read(path).to_pydict() == {"a": [1.0, 2.5], "b": ["x", None]}
    with pytest.raises(InputError, match=r"not readable as \.jsonl"):
        table_files.read(write(tmp_path, b'{"a": 1}\n[2]\n', "broken.jsonl"))


def test_a_comment_mark_in_quotes_is_a_value(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    path.write_text('a,b\n"x\n# y",1\n# z\n"# w",2\n')
    assert table_files.read(path, TextFormat(comment="#")).to_pydict() == {"a": ["x\n# y", "# w"], "b": ["1", "2"]}
