"""A row gets the same prediction from dle-predict, over HTTP and from Python, as dicts or as a table."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet
import pytest
from tests import bundles
from tests.inprocess import InProcess

import dle_serving
from dle_bundle.schema import Schema
from dle_serving.offline.predict import predict
from dle_serving.settings import ServerSettings

SCHEMAS = {
    "income": bundles.INCOME,
    "digit": bundles.DIGIT,
    "price": bundles.PRICE,
    "spam": bundles.SPAM,
    "review": bundles.REVIEW,
    "signal": bundles.SIGNAL,
}


@pytest.fixture(params=SCHEMAS)
def name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def bundle(name: str, tmp_path: Path) -> Path:
    return bundles.write(tmp_path / name, SCHEMAS[name], name=name)


@pytest.fixture
def service(bundle: Path, tmp_path: Path) -> Iterator[InProcess]:
    running = InProcess(ServerSettings(bundles=(bundle,), home=tmp_path))
    yield running
    running.close()


def over_http(service: InProcess, schema: Schema, rows: list[dict[str, Any]]) -> list[list[Any]]:
    """The label and the probabilities of each row, or its value."""
    response = service.post("/predict", json={"rows": rows})
    assert response.status_code == 200, response.text
    found = response.json()["predictions"]
    if schema.outputs.classes is None:
        return [[each["value"]] for each in found]
    return [[each["label"], *each["probabilities"].values()] for each in found]


def in_python(table: pa.Table) -> list[list[Any]]:
    """The same of a table of predictions."""
    names = [name for name in table.column_names if name != "probability"]
    return [list(row.values()) for row in table.select(names).to_pylist()]


def test_all_ways_out(name: str, bundle: Path, service: InProcess, tmp_path: Path) -> None:
    schema, rows = SCHEMAS[name], bundles.rows(SCHEMAS[name], 200)
    table = pa.Table.from_pylist(rows)
    model = dle_serving.load(bundle)
    found = model.predict(rows)
    assert found.equals(model.predict(table))
    assert found.equals(model.predict(pd.DataFrame(rows)))

    pyarrow.parquet.write_table(table, tmp_path / "rows.parquet")
    predict(bundle, tmp_path / "rows.parquet", tmp_path / "out.parquet")
    assert found.equals(pyarrow.parquet.read_table(tmp_path / "out.parquet"))
    if name != "signal":  # text has no cells for series
        pd.DataFrame(rows).to_csv(tmp_path / "rows.csv", index=False)
        predict(bundle, tmp_path / "rows.csv", tmp_path / "out.parquet")
        assert found.equals(pyarrow.parquet.read_table(tmp_path / "out.parquet"))

    assert in_python(found) == over_http(service, schema, rows)
