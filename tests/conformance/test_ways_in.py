"""A value means the same whichever way it comes in: the same rows as CSV, Parquet, JSON or in memory give equal arrays.

Training and offline prediction read files through `columns`, the service reads JSON through `rows`, Python hands over
DataFrames, Arrow tables and dicts; this is where all must agree, bit for bit.
"""

import csv
import json
import random
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet
import pytest

from dle_bundle import in_memory
from dle_bundle.groups import Groups
from dle_bundle.rows.decoder import RowDecoder
from dle_bundle.schema import Field, Outputs, Schema
from dle_bundle.tables import columns, table_files
from dle_bundle.values.missing import NA_VALUES
from dle_bundle.values.numbers import NumberFormat

ROWS = 1000
EUROS = NumberFormat(decimal=",", thousands=".", unit="€")
FIELDS = (
    Field(name="number", kind="numeric", required=False),
    Field(name="whole", kind="numeric", required=True),
    Field(name="flag", kind="boolean", required=False),
    Field(name="colour", kind="categorical", required=False, categories=("red", "dark blue", "grün", "日本")),
    Field(name="digit", kind="categorical", required=False, categories=("1", "2", "-7"), json_type="integer"),
    Field(name="moment", kind="datetime", required=False),
    Field(name="price", kind="numeric", required=False, number_format=EUROS),
    Field(name="day, with a comma", kind="datetime", required=False, date_format="%d.%m.%Y"),
)
SCHEMA = Schema(
    inputs=FIELDS,
    outputs=Outputs(target="y", task="regression"),
    na_values=(*NA_VALUES, "-", "-999"),
)
SPACES = ("", "", "", " ", "  ", "\t", "\u00a0", "\u3000", "\n")

Cell = tuple[str, Any, Any]
"""One value thrice: text in the CSV file, JSON value, value in the Parquet file."""


class Maker:
    """Random cells, the same for the same seed."""

    def __init__(self, seed: int) -> None:
        self._random = random.Random(seed)

    def row(self) -> dict[str, Cell]:
        makers = (self.number, self.whole, self.flag, self.colour, self.digit, self.moment, self.price, self.day)
        return {
            field.name: maker() if field.required or self._random.random() > 0.1 else self.missing(field)
            for field, maker in zip(FIELDS, makers, strict=True)
        }

    def missing(self, field: Field) -> Cell:
        text = self._spaced(self._random.choice(SCHEMA.missing(field)))
        spelled = text if field.kind in ("categorical", "datetime") else None
        if field.kind == "numeric" and text.strip() == "-999":
            return text, -999, -999.0
        typed = spelled if field.kind == "categorical" and field.json_type == "string" else None
        return text, self._random.choice([None, spelled]), typed

    def number(self) -> Cell:
        value = self._random.choice(
            [
                self._random.gauss(0, 1),
                self._random.uniform(-1, 1) * 10.0 ** self._random.randint(-320, 308),
                float(self._random.randint(-(10**18), 10**18)),
                self._random.choice([0.0, -0.0, 5e-324, 1.7976931348623157e308, 3.4028236e38, 1e-46, 16777217.0]),
            ]
        )
        forms = [f"{value!r}", f"{value:.17e}", f"{value:.17E}".replace("E+", "E"), f"+{value!r}".replace("+-", "-")]
        return self._spaced(self._random.choice(forms)), value, value

    def price(self) -> Cell:
        value = self._random.choice([self._random.uniform(-9e5, 9e5), self._random.randint(-999, 999), 1e6])
        value = round(value, 2)
        digits = f"{abs(value):,.2f}".translate(str.maketrans(",.", ".,"))
        sign = "" if value >= 0 else self._random.choice("-−")
        text = self._random.choice(
            [f"{sign}{digits} €", f"{sign}€{digits}", f"{sign}{digits}\u00a0€", f"{sign}{digits}"]
        )
        return self._spaced(text), self._random.choice([text, value]), value

    def whole(self) -> Cell:
        value = self._random.randint(-(10**6), 10**6)
        text = self._random.choice([str(value), f"{value}.", f"{value}.000", f"{value}e0"])
        return self._spaced(text), self._random.choice([value, float(value)]), value

    def flag(self) -> Cell:
        value = self._random.random() < 0.5
        spellings = ("true", "TRUE", "True", "t", "yes", "Y", "1") if value else ("false", "F", "No", "n", "0")
        return self._spaced(self._random.choice(spellings)), value, value

    def colour(self) -> Cell:
        text = self._spaced(
            self._random.choice(
                ["red", "dark blue", "grün", "gru\u0308n", "日本", "unseen, one", 'a "b"', "été\u00a0s"]
            )
        )
        return text, text, text

    def digit(self) -> Cell:
        value = self._random.choice([1, 2, -7, 12345678901234567])
        return self._spaced(str(value)), self._random.choice([value, str(value)]), value

    def moment(self) -> Cell:
        zone = self._random.choice([None, UTC, timezone(timedelta(hours=5, minutes=45)), timezone(-timedelta(hours=3))])
        value = datetime(1, 1, 3, tzinfo=zone) + timedelta(
            days=self._random.randint(0, 3_652_000),
            seconds=self._random.randint(0, 86_399),
            microseconds=self._random.choice([0, 0, 1, 999_999]),
        )
        text = value.isoformat(self._random.choice("T ")).replace("+00:00", self._random.choice(["Z", "+00:00"]))
        text = self._spaced(text)
        return text, text, value if zone else value.replace(tzinfo=UTC)

    def day(self) -> Cell:
        value = datetime(1900, 1, 1, tzinfo=UTC) + timedelta(days=self._random.randint(0, 70_000))
        text = self._spaced(self._random.choice([value.strftime("%d.%m.%Y"), value.date().isoformat()]))
        return text, text, value.date()

    def _spaced(self, text: str) -> str:
        return f"{self._random.choice(SPACES)}{text}{self._random.choice(SPACES)}"


def rows(seed: int) -> list[dict[str, Cell]]:
    maker = Maker(seed)
    return [maker.row() for _ in range(ROWS)]


def from_csv(content: list[dict[str, Cell]], folder: Path) -> Groups:
    with (folder / "rows.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow([field.name for field in FIELDS])
        writer.writerows([[row[field.name][0] for field in FIELDS] for row in content])
    return grouped(table_files.read(folder / "rows.csv"))


def from_parquet(content: list[dict[str, Cell]], folder: Path) -> Groups:
    types = {"moment": pa.timestamp("us", tz="UTC"), "number": pa.float64(), "digit": pa.int64()}
    table = pa.table(
        {field.name: pa.array([row[field.name][2] for row in content], types.get(field.name)) for field in FIELDS}
    )
    pyarrow.parquet.write_table(table, folder / "rows.parquet")
    return grouped(table_files.read(folder / "rows.parquet"))


def from_frames(folder: Path) -> list[Groups]:
    """The rows of both files, as pandas holds them."""
    text = pd.read_csv(folder / "rows.csv", dtype=str, keep_default_na=False)
    typed = table_files.read(folder / "rows.parquet").to_pandas(types_mapper=pd.ArrowDtype)
    return [in_memory.read(frame, SCHEMA)[0] for frame in (text, typed, typed.set_index(typed.index[::-1]))]


def from_dicts(content: list[dict[str, Cell]]) -> Groups:
    return in_memory.read([{name: cell[1] for name, cell in row.items()} for row in content], SCHEMA)[0]


def from_json(content: list[dict[str, Cell]]) -> Groups:
    body = {"rows": [{name: cell[1] for name, cell in row.items()} for row in content]}
    return RowDecoder(SCHEMA).decode(json.dumps(body).encode())


def grouped(table: pa.Table) -> Groups:
    groups, faults = columns.to_groups(table, SCHEMA)
    assert not faults
    return groups


@pytest.mark.parametrize("seed", range(3))
def test_all_ways_in(seed: int, tmp_path: Path) -> None:
    content = rows(seed)
    text, typed, body = from_csv(content, tmp_path), from_parquet(content, tmp_path), from_json(content)
    for other in (typed, body, *from_frames(tmp_path), from_dicts(content)):
        np.testing.assert_array_equal(text.numeric.view(np.uint64), other.numeric.view(np.uint64))
        np.testing.assert_array_equal(text.categorical, other.categorical)
        np.testing.assert_array_equal(text.datetime, other.datetime)
    assert np.isnan(text.numeric).any(axis=0).tolist() == [True, False, True, True]
    assert (text.categorical == "").any(axis=0).all()
