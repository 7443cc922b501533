"""A table gives the same arrays and predictions in any kind of file, in several files and from standard input."""

import io
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import openpyxl
import pandas as pd
import pytest
from tests import bundles

from dle_bundle.tables.source_files import STDIN
from dle_serving.offline.predict import predict
from dle_training.config import run_config
from dle_training.data import dataset
from dle_training.data.dataset import Dataset

WAYS = (
    "gzip",
    "semicolons",
    "xlsx",
    "zip",
    "zip of xlsx",
    "jsonl",
    "parquet",
    "halves",
    "pattern",
    "mixed",
    "stdin",
    "xlsx to stdin",
)
SETTINGS = ("data.target=y", "data.kinds={zone: categorical}")


def frame(rows: int = 120) -> pd.DataFrame:
    """The inputs of `bundles.INCOME`, codes with leading zeros, and a target."""
    draw = np.random.default_rng(5)
    hours = draw.normal(40, 5, rows).round(2)
    hours[draw.random(rows) < 0.1] = np.nan
    return pd.DataFrame(
        {
            "age": draw.integers(18, 80, rows),
            "hours-per-week": hours,
            "zone": draw.integers(1, 5, rows),
            "workclass": draw.choice(["Private", "Rome", "two\nlines", 'a "b", c'], rows),
            "post": draw.choice(["01234", "98765", "00001"], rows),
            "married": draw.random(rows) < 0.4,
            "since": pd.Timestamp("2020-01-01") + pd.to_timedelta(draw.integers(0, 10**8, rows), unit="s"),
            "y": draw.choice(["no", "yes"], rows),
        }
    )


def write_csv(table: pd.DataFrame, path: Path, **options: Any) -> str:
    flags = table.married.map({True: "true", False: "false"})
    table.assign(married=flags).to_csv(path, index=False, **options)
    return str(path)


def write_workbook(table: pd.DataFrame, path: Path) -> str:
    book = openpyxl.Workbook(write_only=True)
    sheet = book.create_sheet()
    sheet.append(list(table.columns))
    for row in table.astype(object).itertuples(index=False):
        sheet.append([None if value != value else value for value in row])
    book.save(path)
    return str(path)


def write(table: pd.DataFrame, way: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Write the table in one of `WAYS`, and return its SOURCE."""
    halves = {"1.csv": table[:50], "2.csv": table[50:].iloc[:, ::-1]}
    if way in ("halves", "pattern"):
        files = [write_csv(half, folder / name) for name, half in halves.items()]
        return str(folder / "[0-9].csv") if way == "pattern" else files
    if way == "mixed":
        return [
            write_csv(table[:30], folder / "1.csv", sep=";"),
            write_workbook(table[30:60], folder / "2.xlsx"),
            write(table[60:90], "parquet", folder, monkeypatch),
            write(table[90:], "jsonl", folder, monkeypatch),
        ]
    if way == "gzip":
        return write_csv(table, folder / "t.csv.gz")
    if way == "semicolons":
        return write_csv(table, folder / "t.csv", sep=";", encoding="utf-16")
    if way == "xlsx":
        return write_workbook(table, folder / "t.xlsx")
    if way == "jsonl":
        lines = table.assign(since=table.since.dt.strftime("%Y-%m-%dT%H:%M:%S"))
        lines.to_json(folder / "t.jsonl", orient="records", lines=True, force_ascii=False)
        return str(folder / "t.jsonl")
    if way == "parquet":
        table.to_parquet(folder / "t.parquet")
        return str(folder / "t.parquet")
    inner = write_workbook(table, folder / "t.xlsx") if "xlsx" in way else write_csv(table, folder / "t.csv")
    if way.startswith("zip"):
        with zipfile.ZipFile(folder / "t.zip", "w") as archive:
            archive.write(inner, Path(inner).name)
        return str(folder / "t.zip")
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(Path(inner).read_bytes())))
    return STDIN


def load(source: Any) -> Dataset:
    return dataset.load(run_config.load(None, [*SETTINGS], {"data.source": source}))


@pytest.mark.parametrize("way", WAYS)
def test_training_reads_the_same(way: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    expected, found = load(write_csv(frame(), tmp_path / "plain.csv")), load(write(frame(), way, tmp_path, monkeypatch))
    kinds = {field.name: field.kind for field in expected.schema.inputs}
    assert kinds == {
        "age": "numeric", "hours-per-week": "numeric", "zone": "categorical", "workclass": "categorical",
        "post": "categorical", "married": "boolean", "since": "datetime",
    }  # fmt: skip
    assert found.schema.inputs == expected.schema.inputs
    assert found.schema.outputs == expected.schema.outputs
    assert found.split.equals(expected.split)
    np.testing.assert_array_equal(found.target, expected.target)
    np.testing.assert_array_equal(found.groups.numeric.view(np.uint64), expected.groups.numeric.view(np.uint64))
    np.testing.assert_array_equal(found.groups.categorical, expected.groups.categorical)
    np.testing.assert_array_equal(found.groups.datetime, expected.groups.datetime)


@pytest.mark.parametrize("way", WAYS)
def test_predictions_are_the_same(way: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bundle, out = bundles.write(tmp_path / "bundle"), tmp_path / "out.csv"
    predict(bundle, write_csv(frame(), tmp_path / "plain.csv"), out, keep=["post"])
    expected = out.read_bytes()
    predict(bundle, write(frame(), way, tmp_path, monkeypatch), out, keep=["post"])
    assert out.read_bytes() == expected
