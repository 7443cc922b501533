"""A table that pandas writes is read back to the same values, whatever the delimiter, encoding, quotes and marks."""

import csv
import json
import tempfile
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dle_bundle.errors import InputError
from dle_bundle.tables import columns
from dle_training.config import run_config
from dle_training.data import dataset

LETTERS = st.characters(codec="cp1252", exclude_categories=["C", "Z"], exclude_characters="\"'")
WORDS = st.lists(st.text(LETTERS, min_size=1, max_size=8), min_size=2, max_size=4, unique=True)
ROWS = 24


@given(
    st.lists(st.decimals(-1_000_000, 1_000_000, places=2).map(float), min_size=ROWS, max_size=ROWS, unique=True),
    WORDS,
    st.sampled_from([(",", "."), (";", ","), (";", "."), ("\t", ","), ("|", ".")]),
    st.sampled_from(["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-32", "utf-32-be", "cp1252"]),
    st.sampled_from([csv.QUOTE_MINIMAL, csv.QUOTE_ALL, csv.QUOTE_NONNUMERIC]),
    st.sampled_from(["%Y-%m-%d %H:%M:%S", "%d.%m.%Y %H:%M:%S", "%m/%d/%Y %I:%M:%S %p"]),
    st.sampled_from(["", "Report", "Report{0}{0}{0}", "{0}{0}{0}\nof 2024, all{0}{0}{0}"]),
)
def test_written_by_pandas(
    numbers: list[float],
    words: list[str],
    marks: tuple[str, str],
    encoding: str,
    quoting: int,
    date_format: str,
    title: str,
) -> None:
    moments = pd.date_range("2024-01-20 10:00:05", periods=ROWS, freq="37h")
    text = [f"{words[row % len(words)]}_{row % 2}" for row in range(ROWS)]
    frame = pd.DataFrame({"number": numbers, "text": text, "at": moments, "y": [row % 2 for row in range(ROWS)]})
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "rows.csv"
        frame.to_csv(
            path, index=False, sep=marks[0], decimal=marks[1], encoding=encoding, quoting=quoting,  # type: ignore[call-overload]
            date_format=date_format,
        )  # fmt: skip
        above = f"{title.format(marks[0])}\n" if title else ""
        path.write_bytes((above + path.read_bytes().decode(encoding)).encode(encoding))
        given = [f"data.source={path}", "data.target=y", "data.kinds={number: numeric, text: categorical}"]
        given += ["data.encoding=cp1252"] if encoding == "cp1252" else []
        if title:
            given.append(f"data.skip_rows={above.count(chr(10))}")
            with pytest.raises(InputError, match=rf"set {given[-1]}\b"):
                dataset.load(run_config.load(None, given[:-1], {}))
        found = dataset.load(run_config.load(None, given, {}))
    order = [field.name for field in found.schema.inputs]
    assert order == ["number", "text", "at"]
    np.testing.assert_array_equal(found.groups.numeric[:, 0], np.array(numbers).astype(found.groups.numeric.dtype))
    assert found.groups.categorical[:, 0].tolist() == columns.categories(pa.chunked_array([text]), ()).tolist()
    assert found.groups.datetime[:, 0].tolist() == [int(moment.timestamp()) for moment in moments]


@settings(max_examples=25)  # each writes a workbook
@given(
    st.lists(
        st.decimals(-1_000_000, 1_000_000, places=2).map(float) | st.none(), min_size=ROWS, max_size=ROWS, unique=True
    ),
    st.lists(st.text(LETTERS, min_size=1, max_size=8).map("w{}".format), min_size=2, max_size=4, unique=True),
    st.integers(0, 5),
    st.integers(0, 2),
    st.text(LETTERS, min_size=1, max_size=31).filter(lambda name: not set(name) & set("[]:*?/\\")),
    st.booleans(),
)
def test_workbooks_written_by_pandas(
    numbers: list[float | None], words: list[str], above: int, left: int, name: str, first: bool
) -> None:
    moments = pd.date_range("2024-01-20 10:00:05", periods=ROWS, freq="37h")
    text = [f"{words[row % len(words)]}_{row % 2}" for row in range(ROWS)]
    frame = pd.DataFrame({"number": numbers, "text": text, "at": moments, "y": [row % 2 for row in range(ROWS)]})
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "rows.xlsx"
        with pd.ExcelWriter(path) as book:
            if not first:
                pd.DataFrame({"other": [1.0]}).to_excel(book, sheet_name="other sheet", index=False)
            frame.to_excel(book, sheet_name=name, index=False, startrow=above, startcol=left)
        given = [f"data.source={path}", "data.target=y", "data.kinds={number: numeric, text: categorical}"]
        given += [] if first else [f"data.sheet={json.dumps(name, ensure_ascii=False)}"]
        found = dataset.load(run_config.load(None, given, {}))
    expected = np.array([np.nan if number is None else number for number in numbers])
    np.testing.assert_array_equal(found.groups.numeric[:, 0], expected)
    assert found.groups.categorical[:, 0].tolist() == columns.categories(pa.chunked_array([text]), ()).tolist()
    assert found.groups.datetime[:, 0].tolist() == [int(moment.timestamp()) for moment in moments]
