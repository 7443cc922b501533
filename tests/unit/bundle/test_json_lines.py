"""JSON lines are read with their types, or refused with the line and what was expected there."""

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet
import pytest

from dle_bundle import in_memory
from dle_bundle.errors import InputError
from dle_bundle.schema import TextFormat
from dle_bundle.tables import table_files

ROWS = '{"a": 1, "b": "Zoë"}\n{"a": 2, "b": "x"}\n'


def write(folder: Path, content: bytes) -> Path:
    (folder / "t.jsonl").write_bytes(content)
    return folder / "t.jsonl"


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "cp1252"])
def test_encodings(tmp_path: Path, encoding: str) -> None:
    path = write(tmp_path, ROWS.encode(encoding))
    written = TextFormat(encoding="cp1252" if encoding == "cp1252" else None)
    assert table_files.detect(path, written).notes == (("the text is UTF-16",) if "16" in encoding else ())
    assert table_files.read(path, written).to_pydict() == {"a": [1, 2], "b": ["Zoë", "x"]}


def test_another_encoding_is_refused_with_the_setting_that_reads_it(tmp_path: Path) -> None:
    path = write(tmp_path, ROWS.encode("cp1252"))
    with pytest.raises(InputError, match=r"line 1: expected UTF-8 text, found byte 0xeb; set data\.encoding=cp1252 to"):
        table_files.read(path)
    with pytest.raises(InputError, match="found byte 0xeb; save it as UTF-8"):
        list(table_files.stream(path, proposing=False))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ('{"v": 1}\n' * 25_000 + '{"v": "x"}', "line 25,001: 'v' is text, and a number in line 1; give the column one"),
        ('\n{"v": true}\n{"v": 1, "w": 1}\n{"w": []}', "line 3: 'v' is a number, and a truth value in line 2\n"),
        ('{"v": [1, "x"]}', r"line 1: 'v\[\]' is text, and a number in line 1"),
        ('{"v": 1}\n{"v": 2\n{"v": 3}', "line 2: expected one JSON object in each line: Expecting ',' delimiter"),
        ('[{"v": 1}]', "line 1: expected a JSON object {…}, found a list"),
        ("null", "line 1: expected a JSON object {…}, found null"),
        ('{"v": 1}\n\n null\n', "line 3: expected a JSON object {…}, found null"),
        ('{"v": 1}\n{"v": 1, "v": 2}', "line 2: expected one JSON object in each line: the name 'v' occurs twice"),
        ('{"v": 1}\n{"v": 1e400}', "line 2: 'v' is a number that no column can hold: inf"),
        ('{"v": "\\ud800"}', r"line 1: 'v' is text that no column can hold: '\\ud800'"),
        (" \n", "empty file"),
    ],
)
def test_refusals_name_the_line_of_the_file(tmp_path: Path, content: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        table_files.read(write(tmp_path, content.encode()))


def test_all_columns_of_different_types_are_named_at_once(tmp_path: Path) -> None:
    with pytest.raises(InputError) as caught:
        table_files.read(write(tmp_path, b'{"v": 1, "w": "x"}\n{"v": "y"}\n{"w": 2}\n'))
    assert [line.partition(",")[0] for line in caught.value.details] == [
        "line 2: 'v' is text",
        "line 3: 'w' is a number",
    ]


@pytest.mark.parametrize(
    ("values", "read"),
    [
        (["18446744073709551615", "null"], ["18446744073709551615", None]),
        (["99999999999999999999", "7"], ["99999999999999999999", "7"]),
        (["9223372036854775807", "null"], [2**63 - 1, None]),
        (["1e20", "3"], [1e20, 3.0]),
        (["99999999999999999999", "0.5"], [1e20, 0.5]),
    ],
)
def test_whole_numbers_keep_their_digits(tmp_path: Path, values: list[str], read: list[object]) -> None:
    lines = "".join(f'{{"v": {value}}}\n' for value in values)
    assert table_files.read(write(tmp_path, lines.encode())).column("v").to_pylist() == read


ARRAY = '[\n  {"a": 1, "b": "Zoë"},\n  {\n    "a": 2,\n    "b": "x"\n  }\n]\n'


@pytest.mark.parametrize(
    ("name", "content"),
    [("t.json", ARRAY), ("t.json", ROWS), ("t.ndjson", ROWS), ("T.NDJSON", ROWS), ("t.json", ARRAY.replace("\n", ""))],
)
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_arrays_of_objects_and_other_suffixes(tmp_path: Path, name: str, content: str, encoding: str) -> None:
    (tmp_path / name).write_bytes(content.encode(encoding))
    notes = ("the text is UTF-16",) if encoding == "utf-16" else ()
    assert table_files.detect(tmp_path / name).notes == notes
    assert table_files.read(tmp_path / name).to_pydict() == {"a": [1, 2], "b": ["Zoë", "x"]}


def test_whole_numbers_in_an_array_keep_their_digits(tmp_path: Path) -> None:
    (tmp_path / "t.json").write_text('[{"v": 99999999999999999999, "w": null}, {"v": 7, "w": [1]}]')
    assert table_files.read(tmp_path / "t.json").to_pydict() == {"v": ["99999999999999999999", "7"], "w": [None, [1]]}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("[]", "t.json: no rows"),
        ("[{}, {}]", "t.json: no columns$"),
        (" \n", "empty file"),
        ('[{"a": 1}, 3]', r"line 1: expected an array of objects, such as \[.*\], found another value"),
        ('[\n{"a": 1},\n{"a": 2\n]', "line 4: Expecting ',' delimiter"),
        ('[{"a": 1}', r"line 1: expected , or \] after an object"),
        ('[{"a": 1},]', "line 1: Expecting value"),
        ('[{"a": 1}]\n[{"a": 2}]', "line 2: expected nothing after the array"),
        ('[{"a": 1},\n {"a": "x"}]', "object 2: 'a' is text, and a number in object 1; give the column one type"),
        ('[{"a": 1}, {"a": 1, "a": 2}]', "object 2: expected one JSON object: the name 'a' occurs twice"),
        ('{"a": [1, 2], "b": [3, 4]}', r"expected an array of objects.*, found one object; if it is a row, put it"),
        ('{\n "a": {\n "0": 1}\n}', r"expected an array of objects.*, found one object"),
        ('{"a": 1}\n{"a": 2', "line 2: expected one JSON object in each line: Expecting ',' delimiter"),
        ("3", r"expected an array of objects.*, found a single value"),
        ("a,b\n1,2", "line 1: Expecting value"),
    ],
)
def test_refusals_of_other_content(tmp_path: Path, content: str, message: str) -> None:
    (tmp_path / "t.json").write_text(content)
    with pytest.raises(InputError, match=message):
        table_files.read(tmp_path / "t.json")


@pytest.mark.parametrize("lines", [True, False])
def test_deep_nesting_and_long_numbers(tmp_path: Path, lines: bool) -> None:
    """Arrow ends the process at deep nesting."""
    path = tmp_path / ("t.jsonl" if lines else "t.json")
    for value, message in [
        ("[" * 50_000 + "]" * 50_000, "lists or objects are nested too deeply"),
        ('{"w":' * 50_000 + "1" + "}" * 50_000, "lists or objects are nested too deeply"),
        ("9" * 5_000, "a number has too many digits"),
    ]:
        row = f'{{"a": {value}}}'
        path.write_text(f"{row}\nnull" if lines else f"[{row}]")
        with pytest.raises(InputError, match=rf"line 1: .*{message}$"):
            table_files.read(path)


def written(table: pa.Table, folder: Path) -> Path:
    pyarrow.parquet.write_table(table, folder / "t.parquet")
    return folder / "t.parquet"


def test_dictionaries_of_text_in_parquet_that_is_not_utf_8(tmp_path: Path) -> None:
    broken = pa.array([b"ab", b"\xe4\xff"], pa.binary())
    texts = pa.Array.from_buffers(pa.string(), 2, broken.buffers())
    codes = pa.array([0, 0, 1, 0], pa.int32())
    table = pa.table({"n": range(4), "x": pa.DictionaryArray.from_arrays(codes, texts)})
    pyarrow.parquet.write_table(table, tmp_path / "t.parquet")
    with pytest.raises(InputError, match=r"t\.parquet: row 3: 'x' is not UTF-8 text; write it as UTF-8"):
        table_files.read(tmp_path / "t.parquet")
    table = pa.table({"n": range(4), "x": pa.DictionaryArray.from_arrays(pa.array([0] * 4), texts)})
    for read in (in_memory.table, lambda table: table_files.read(written(table, tmp_path))):
        with pytest.raises(InputError, match=r"[a-z]: 'x' is not UTF-8 text"):  # a text that no row has
            read(table)
    large = pa.Array.from_buffers(pa.large_string(), 2, broken.cast(pa.large_binary()).buffers())
    table = pa.table({"n": range(4), "x": pa.DictionaryArray.from_arrays(codes.cast(pa.int8()), large)})
    pyarrow.parquet.write_table(table, tmp_path / "t.parquet")
    with pytest.raises(InputError, match=r"t\.parquet: 'x' is not UTF-8 text; write it as UTF-8"):
        table_files.read(tmp_path / "t.parquet")


def test_text_in_parquet_and_in_memory_that_is_not_utf_8(tmp_path: Path) -> None:
    broken = pa.array([b"ab", b"\xe4\xff"], pa.binary())
    table = pa.table({"n": [1, 2], "x": pa.Array.from_buffers(pa.string(), 2, broken.buffers())})
    pyarrow.parquet.write_table(table, tmp_path / "t.parquet")
    with pytest.raises(InputError, match="row 2: 'x' is not UTF-8 text"):
        table_files.read(tmp_path / "t.parquet")
    with pytest.raises(InputError, match="row 1: 'x' is not UTF-8 text"):  # rows in memory count from 0
        in_memory.table(table)
    with pytest.raises(InputError, match="row 1: 'x' is not UTF-8 text"):
        in_memory.table(pa.table({"x": pa.DictionaryArray.from_arrays([0, 1], table["x"].chunk(0))}))
