"""Delimited text as people have it: encodings, delimiters, lines before the header, comments, no header."""

import re
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
    with pytest.raises(
        InputError, match=r"line 400002: expected UTF-8 text, found byte 0xe9; set data\.encoding=cp1252 to read 'é'"
    ):
        table_files.read(path)
    assert table_files.read(path, TextFormat(encoding="cp1252")).column("a")[-1].as_py() == "é"
    with pytest.raises(InputError, match="found byte 0xe9; save it as UTF-8"):
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
    with pytest.raises(InputError, match=r"line 2: expected text in ascii, found byte 0xeb"):
        table_files.read(write(tmp_path, TEXT.encode("cp1250")), TextFormat(encoding="ascii"))


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


ROWS = "".join(f"{row},{row * 7 % 5},{'pq'[row % 2]}\n" for row in range(5, 25))
TABLE = "a,b,y\n" + ROWS


@pytest.mark.parametrize("encoding", ["utf-16-le", "utf-16-be", "utf-32", "utf-32-le", "utf-32-be"])
@pytest.mark.parametrize("text", ["a,b\r\n1,2\r\n", "имя;б\nАнна;1\nБорис;2\n", "名前\t都市\n田中\t東京\n"])
def test_wide_encodings_without_a_mark(tmp_path: Path, encoding: str, text: str) -> None:
    path = write(tmp_path, text.encode(encoding))
    assert (
        table_files.read(path).to_pydict() == table_files.read(write(tmp_path, text.encode(), "plain.csv")).to_pydict()
    )
    assert f"the text is {encoding[:6].upper()}" in table_files.detect(path).notes


def test_utf_8_is_read_as_such_whatever_a_setting_says(tmp_path: Path) -> None:
    path = write(tmp_path, b"name,n\n" + b"x,0\n" * 400_000 + TEXT.encode()[7:])
    detected = table_files.detect(path, TextFormat(encoding="cp1252"))
    assert detected.notes == ("the text is UTF-8, and is read so instead of as cp1252",)
    assert table_files.read(path, detected.format).column("name")[-2].as_py() == "Zoë"


@pytest.mark.parametrize(
    ("words", "encoding"),
    [
        ("Größe,Zoë,5 €", "cp1252"),
        ("Łódź,Škoda,Žižkov", "cp1250"),
        ("Müller,Jürgen,Bär", "cp850"),  # has bytes that cp1252 lacks
        ("Москва,Анна,Борис", "cp1251"),
        ("东京,北京,上海", "gb18030"),
        ("テスト,東京,大阪", "cp932"),
    ],
)
def test_an_unknown_encoding_is_shown_in_those_that_read_it(tmp_path: Path, words: str, encoding: str) -> None:
    lines = ["w,n", *(f"{word},1" for word in words.split(","))]
    path = write(tmp_path, "\n".join(lines).encode(encoding))
    with pytest.raises(InputError) as raised:
        table_files.read(path)
    shown = ", ".join(repr(word) for word in words.split(","))
    expected = shown if encoding != "cp1252" else "'Größe', 'Zoë', '€'"
    assert f"data.encoding={encoding} to read {expected}" in raised.value.message
    for proposed in re.findall(r"data\.encoding=(\S+)", raised.value.message):
        assert len(table_files.read(path, TextFormat(encoding=proposed))) == 3


def test_a_late_byte_that_an_encoding_lacks(tmp_path: Path) -> None:
    path = write(tmp_path, b"a,b\n" + b"1,2\n" * 400_000 + b"M\x81ller,2\n")
    with pytest.raises(
        InputError, match=r"line 400002: expected text in cp1252, found byte 0x81; set data\.encoding=cp850"
    ):
        table_files.read(path, TextFormat(encoding="cp1252"))
    assert table_files.read(path, TextFormat(encoding="cp850")).column("a")[-1].as_py() == "Müller"


@pytest.mark.parametrize(
    "title", ["Report 2023,,\n", ",,\nReport 2023,,\n,,\n", "Report 2023\n", "Report\n\nof 2023\n", ",,Report\n"]
)
@pytest.mark.parametrize("separator", [",", ";"])
def test_titles_above_the_header(tmp_path: Path, title: str, separator: str) -> None:
    path = write(tmp_path, (title + TABLE).replace(",", separator).encode())
    lines = title.count("\n")
    with pytest.raises(InputError, match=rf"set data\.skip_rows={lines}\b"):
        table_files.detect(path)
    found = table_files.read(path, TextFormat(skip_rows=lines))
    assert found.to_pydict() == table_files.read(write(tmp_path, TABLE.encode(), "plain.csv")).to_pydict()


def test_a_title_below_a_comment_and_with_a_form_feed(tmp_path: Path) -> None:
    path = write(tmp_path, f"# x\nRe\fport\u2028of\n# y\n{TABLE}".encode())
    with pytest.raises(InputError, match=r"set data\.skip_rows=3$"):
        table_files.detect(path, TextFormat(comment="#"))
    assert table_files.read(path, TextFormat(comment="#", skip_rows=3)).column_names == ["a", "b", "y"]


@pytest.mark.parametrize(
    "content",
    [
        ROWS,
        "".join(f"2024-01-{day:02},{day},x{day}\n" for day in range(1, 20)),
        "".join(f"{'ab'[row % 2]},{'xyz'[row % 3]}\n" for row in range(12)),
        "3,3\n1,2\n2,1\n",
        "7 %,a\n8 %,b\n9 %,a\n",
        "?,5\n1,6\n",
    ],
    ids=["whole numbers", "dates", "words that occur again", "the same twice", "amounts", "a missing value"],
)
def test_a_first_row_of_data(tmp_path: Path, content: str) -> None:
    path = write(tmp_path, content.encode())
    with pytest.raises(
        InputError, match=r"looks like data, not like names .*; set data.header=none, or data.header=first"
    ):
        table_files.detect(path)
    assert len(table_files.read(path, TextFormat(header="none"))) == content.count("\n")


@pytest.mark.parametrize("names", ["0,1,2", "1,2,3", "2022,2023,2024"])
def test_figures_that_may_be_names_are_noted(tmp_path: Path, names: str) -> None:
    path = write(tmp_path, f"{names}\n5,6,7\n8,9,7\n".encode())
    (note,) = table_files.detect(path).notes
    assert "is read as names; if it is data, set data.header=none" in note
    assert table_files.read(path).column_names == names.split(",")


@pytest.mark.parametrize("names", ["city,2023,2024", "x,2024-01-01,2024-01-02", "a,b,a1"])
def test_words_above_numbers_are_names(tmp_path: Path, names: str) -> None:
    path = write(tmp_path, f"{names}\n5,6,7\n8,9,7\n".encode())
    assert table_files.detect(path).notes == ()


def test_a_file_without_a_header_has_as_many_columns_as_in_training(tmp_path: Path) -> None:
    known = table_files.detect(write(tmp_path, b"p,1,2\nq,3,4\n"), TextFormat(header="none")).format
    assert known.columns == (3,)
    with pytest.raises(InputError, match="expected 3 columns, as in training, found 2"):
        list(table_files.stream(write(tmp_path, b"1,2\n3,4\n"), known, proposing=False))


@pytest.mark.parametrize("skip_rows", [0, 1])
def test_files_for_prediction_need_a_header_too(tmp_path: Path, skip_rows: int) -> None:
    path = write(tmp_path, (TABLE if skip_rows else ROWS).encode())
    skipped = " after 1 skipped line" if skip_rows else ""
    with pytest.raises(InputError, match=rf"the first row{skipped} looks like data, .*; expected a header$"):
        list(table_files.stream(path, TextFormat(skip_rows=skip_rows), proposing=False))
    with pytest.raises(InputError, match=r"names 1 of 3 columns; if lines stand before the header, remove them$"):
        list(table_files.stream(write(tmp_path, f"Report,,\n{TABLE}".encode()), proposing=False))


@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_an_empty_line_is_an_empty_value_of_a_single_column(tmp_path: Path, end: str) -> None:
    path = write(tmp_path, end.join(["", "a", "1", "", "3", ""]).encode())
    assert table_files.read(path).to_pydict() == {"a": ["1", "", "3"]}


def test_names_that_occur_twice(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"names; rename them, or, if the first row is data, set data\.header=none"):
        table_files.read(write(tmp_path, b"a,a\n1,2\n"))


@pytest.mark.parametrize("corner", ["", ","], ids=["columns", "with an index"])
def test_names_in_two_rows(tmp_path: Path, corner: str) -> None:
    index = "".join(map(str, corner and [0])) + corner
    content = f"{corner}temp,temp,y\n{corner}mean,std,\n{index}0.5,0.1,3\n{index}0.6,0.2,4\n"
    with pytest.raises(InputError, match=r"two rows seem to share the names .*, such as temp_mean$"):
        table_files.read(write(tmp_path, content.encode()))


@pytest.mark.parametrize(
    "second", ["1,kg,p", "NA,kg,p", "-,-,p", ",,p", "x,,p"], ids=["number", "missing", "dashes", "empty", "one word"]
)
def test_a_second_row_without_units(tmp_path: Path, second: str) -> None:
    content = TABLE.replace("\n", f"\n{second}\n", 1)
    assert table_files.read(write(tmp_path, content.encode())).num_rows == 21


def test_units_below_the_header(tmp_path: Path) -> None:
    path = write(tmp_path, TABLE.replace("\n", "\nm,kg,\n", 1).encode())
    with pytest.raises(InputError, match=r"line 2 has words above numbers \(m, kg\); if these are units"):
        table_files.read(path)
    with pytest.raises(InputError, match=r"remove it$"):
        list(table_files.stream(path, proposing=False))
    assert table_files.read(path, TextFormat(header="first")).num_rows == 21
    assert table_files.read(path, TextFormat(comment="m,kg,")).num_rows == 20


def test_columns_of_fixed_width(tmp_path: Path) -> None:
    lines = ["id   name     n", "1    Ann      2", "2    Bob Lee  3", "3    Cy       4"]
    path = write(tmp_path, "\n".join(lines).encode(), "rows.txt")
    with pytest.raises(InputError, match=r"no delimiter found; set data\.delimiter, or, if columns have"):
        table_files.read(path)


def test_a_first_row_of_names_that_is_too_wide(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="2 rows differ from the header"):
        table_files.read(write(tmp_path, b"a,b,y\n1,2\n3,4\n"))


def test_a_header_that_occurs_again(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="the names of the columns occur again: row 21; remove"):
        table_files.read(write(tmp_path, (TABLE * 2).encode()))


def test_rows_with_names_and_rows_that_end_in_a_separator(tmp_path: Path) -> None:
    named = write(tmp_path, b'"a","b"\n"1",5,6\n"2",7,8\n')
    assert table_files.read(named).to_pydict() == {"unnamed_1": ["1", "2"], "a": ["5", "7"], "b": ["6", "8"]}
    assert "the first column holds the names of rows" in table_files.detect(named).notes[0]
    ended = write(tmp_path, b"a,b\n5,6,\n7,8,\n")
    assert table_files.read(ended).to_pydict() == {"a": ["5", "7"], "b": ["6", "8"], "unnamed_3": ["", ""]}


@pytest.mark.parametrize(
    ("content", "mark", "other"),
    [
        ("a, x;b\n1,5;2\n2,5;3\n", ";", ","),
        ("a,t;u,b\n1,x;y,2\n2,z;w,3\n", ",", ";"),
    ],
    ids=["decimal commas", "lists of two"],
)
def test_two_separators_that_fit(tmp_path: Path, content: str, mark: str, other: str) -> None:
    path = write(tmp_path, content.encode())
    (note,) = table_files.detect(path).notes
    assert note.startswith(f"the columns are separated by {mark!r}; other marks fit too")
    assert f"data.delimiter={other}" in note
    assert table_files.read(path).column_names == content.splitlines()[0].split(mark)


def test_a_given_separator_that_gives_one_column(tmp_path: Path) -> None:
    path = write(tmp_path, TABLE.encode())
    with pytest.raises(
        InputError, match=r"divided by ';' there is 1 column, by ',' there are 3; set 'data\.delimiter=,'$"
    ):
        table_files.read(path, TextFormat(delimiter=";"))
    with pytest.raises(InputError, match="save it with ';'"):
        list(table_files.stream(path, TextFormat(delimiter=";"), proposing=False))
    assert table_files.read(write(tmp_path, b"text\nwell, yes\nno\n"), TextFormat(delimiter=";")).num_columns == 1


def test_lines_of_faults(tmp_path: Path) -> None:
    content = 't\n\n# c\na,b,y\n1,"x\nz",p\n\n# c\n2,w,q\n3,q\n"4\n",5,q\n4,5,q,8\n'
    with pytest.raises(InputError) as raised:
        table_files.read(write(tmp_path, content.encode()), TextFormat(skip_rows=2, comment="#"))
    assert raised.value.details == (
        "line 10: expected 3 columns, found 2: '3,q'",
        "line 13: expected 3 columns, found 4: '4,5,q,8'",
    )


@pytest.mark.parametrize(
    ("content", "line"),
    [(TABLE + "(20 rows)\n", "(20 rows)"), ("a|b|y\n---+---+---\n1|2|p\n3|4|q\n", "---+---+---")],
    ids=["count of rows", "line below the header"],
)
def test_lines_that_are_no_rows(tmp_path: Path, content: str, line: str) -> None:
    path = write(tmp_path, content.encode())
    with pytest.raises(InputError) as raised:
        table_files.read(path)
    assert f"set 'data.comment=\"{line}\"' to leave it out" in raised.value.message
    read = table_files.read(path, TextFormat(comment=line))
    assert len(read) == content.count("\n") - 2


def test_a_late_zero_byte(tmp_path: Path) -> None:
    path = write(tmp_path, b"a,b\n" + b"1,x\n" * 400_000 + b"1,x\0\n")
    with pytest.raises(InputError, match=r"row 400001: binary data"):
        table_files.read(path)


def test_a_title_may_hold_the_separator_and_rows_may_end_in_carriage_returns(tmp_path: Path) -> None:
    path = write(tmp_path, b"made by, x\r\ra,b,y\r1,2,p\r3,4,q\r")
    with pytest.raises(InputError, match=r"set data\.skip_rows=2$"):
        table_files.detect(path)
    assert table_files.read(path, TextFormat(skip_rows=2)).to_pydict() == {
        "a": ["1", "3"],
        "b": ["2", "4"],
        "y": ["p", "q"],
    }


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ('a,b\n"say \\"hi, you\\"",1\n"x",2\n', "line 2: text follows a closing quote"),
        ('a, b\n1, "x, y"\n2, z\n', "line 2: a quote after a space"),
    ],
)
def test_quotes_that_are_no_quotes(tmp_path: Path, content: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        table_files.detect(write(tmp_path, content.encode()))
    path = write(tmp_path, content.replace(", you", "").replace(", y", "").encode())
    assert [note.partition(";")[0].startswith(message) for note in table_files.detect(path).notes] == [True]


@pytest.mark.parametrize("content", ['a,b\n"say ""hi, you""",1\n', 'a,b\n"C:\\",1\n', 'a,b\n5" pipe,1\n'])
def test_quotes_inside_of_values(tmp_path: Path, content: str) -> None:
    assert table_files.detect(write(tmp_path, content.encode())).notes == ()


@pytest.mark.parametrize("mark", ["^", "~", ":", "\x01"])
@pytest.mark.parametrize("name", ["t.csv", "t.txt"])
def test_separators_that_are_seldom_used_are_named(tmp_path: Path, mark: str, name: str) -> None:
    path = write(tmp_path, TABLE.replace(",", mark).encode(), name)
    with pytest.raises(InputError, match=r"no usual separator divides the rows, but .* does; set 'data\.delimiter="):
        table_files.detect(path)
    assert table_files.read(path, TextFormat(delimiter=mark)).column_names == ["a", "b", "y"]


@pytest.mark.parametrize("content", [b"PK\x03\x04x", b"\x1f\x8bx", b"PAR1x", b"\xd0\xcf\x11\xe0", b"%PDF-1.7"])
def test_other_files_with_a_name_of_text(tmp_path: Path, content: bytes) -> None:
    with pytest.raises(InputError, match=r"not readable as \.csv: it is .*; correct its name"):
        table_files.detect(write(tmp_path, content))


def test_joined_files_with_byte_order_marks(tmp_path: Path) -> None:
    assert table_files.read(write(tmp_path, ("\ufeff\ufeff" + TABLE).encode())).column_names == ["a", "b", "y"]


NUMBERED = "".join(f"{row},{row % 4},{row % 3 * 25},x\n" for row in range(1, 9))


@pytest.mark.parametrize(
    "content",
    [
        '"a","b"\n"p",5,6\n"q",7,8\n',
        "a,b,y\n" + NUMBERED,
        "a,b\nMazda,5.1,x\nFiat,7.2,z\n",
        "a\tb\n11\t5\t6\n12\t7\t8\n",
    ],
    ids=["quoted", "counted", "no whole numbers side by side", "tabs"],
)
def test_names_of_rows(tmp_path: Path, content: str) -> None:
    path = write(tmp_path, content.encode())
    assert "the first column holds the names of rows" in table_files.detect(path).notes[-1]
    assert table_files.read(path).column_names[0] == "unnamed_1"


@pytest.mark.parametrize(
    ("content", "values", "names"),
    [
        ("rooms,age,price\n1,0,64,1\n2,1,50,0\n2,7,25,1\n", 4, 3),
        ("x,y\n1,5,a\n2,5,b\n3,5,a\n", 3, 2),
        ("name,price\nAnna,0,64\nBert,1,50\n", 3, 2),
        ('"name","price"\n"Anna",0,64\n"Bert",1,05\n', 3, 2),
        ("a,b,y\n1,5,2,5,7\n2,5,3,5,8\n", 5, 3),
    ],
    ids=["in the middle", "first", "beside words", "with a zero", "two columns"],
)
def test_decimal_commas_between_commas_are_refused(tmp_path: Path, content: str, values: int, names: int) -> None:
    path = write(tmp_path, content.encode())
    said = f"rows have {values} values for {names} names; if a decimal comma divides a number, quote such numbers, or"
    with pytest.raises(InputError, match=said):
        table_files.detect(path)


def test_one_value_more_than_names_without_decimal_commas(tmp_path: Path) -> None:
    path = write(tmp_path, b"a,b\np,5.1,x\np,7.2,z\n")
    with pytest.raises(InputError, match="3 values for 2 names; if the first column holds the names of rows, give"):
        table_files.detect(path)


@pytest.mark.parametrize("value", ["'{}'", '="{}"'])
def test_values_in_other_quotes_are_refused(tmp_path: Path, value: str) -> None:
    rows = "".join(f"{value.format(word)},{row}\n" for row, word in enumerate(["007", "x", ""]))
    path = write(tmp_path, f"a,b\n{rows}".encode())
    with pytest.raises(InputError, match=r"line 2: .*007.* is not quoted as in CSV; write \"…\" instead"):
        table_files.detect(path)
    assert table_files.detect(write(tmp_path, b"a,b\n'tis,1\nrock 'n',2\n'x',3\n")).notes == ()


def test_words_that_group_columns_above_their_names(tmp_path: Path) -> None:
    path = write(tmp_path, f"in,in,out\n{TABLE}".encode())
    with pytest.raises(InputError, match=r"if the next row \(a, b, y\) has the names, set data\.skip_rows=1$"):
        table_files.detect(path)
    assert table_files.read(path, TextFormat(skip_rows=1)).column_names == ["a", "b", "y"]
    with pytest.raises(InputError, match=r"has the names, remove the row above them$"):
        list(table_files.stream(path, proposing=False))
