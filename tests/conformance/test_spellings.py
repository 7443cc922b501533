"""What `tests/spellings.json` says of values as people write them holds in training, files, requests and Python.

docs/tables.md shows the same table.
"""

import json
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pytest

from dle_bundle import in_memory
from dle_bundle.errors import InputError
from dle_bundle.groups import MISSING_TIME, Groups
from dle_bundle.rows.decoder import RowDecoder
from dle_bundle.schema import Outputs, Schema
from dle_bundle.tables import columns
from dle_training.config.run_config import DataConfig
from dle_training.data.columns import inference
from dle_training.data.columns.inference import InferredInputs

SPELLINGS = json.loads((Path(__file__).parents[1] / "spellings.json").read_text(encoding="utf-8"))
ASKED = DataConfig(kinds={})


def infer(texts: list[str]) -> InferredInputs:
    table = pa.table({"c": pa.array(texts)})
    return inference.infer(table, ASKED, np.arange(len(table)), {})


def values(groups: Groups, kind: str) -> list[Any]:
    """The values of the only column, as JSON has them."""
    if kind == "datetime":
        return plain(groups.datetime[:, 0])
    return plain(groups.categorical[:, 0] if kind == "categorical" else groups.numeric[:, 0])


def plain(array: npt.NDArray[Any]) -> list[Any]:
    """The values (N,) of a column of any kind, as JSON has them."""
    if array.dtype == object:
        return list(array)
    missing = array == MISSING_TIME if array.dtype == np.int64 else np.isnan(array)
    return [None if gone else value for value, gone in zip(array.tolist(), missing.tolist(), strict=True)]


def expected(spelling: dict[str, Any]) -> list[Any]:
    if spelling["kind"] == "datetime":
        return [int(datetime.fromisoformat(text).timestamp()) for text in spelling["read"]]
    if spelling["kind"] == "categorical":
        return list(spelling["read"])
    return [None if value is None else float(value) for value in spelling["read"]]


@pytest.mark.parametrize("spelling", SPELLINGS, ids=lambda spelling: " | ".join(spelling["texts"]))
def test_every_way_in_reads_the_same(spelling: dict[str, Any]) -> None:
    texts = spelling["texts"]
    if "refused" in spelling:
        with pytest.raises(InputError, match=spelling["refused"]):
            infer(texts)
        return
    found = infer(texts)
    (field,) = found.fields
    assert (field.kind, field.unit) == (spelling["kind"], spelling.get("unit"))
    assert spelling.get("note", "") in " ".join(found.notes)
    assert plain(found.readings["c"].values) == expected(spelling)
    schema = Schema(inputs=(field,), outputs=Outputs(target="y", task="regression"))
    table = pa.table({"c": pa.array(texts)})
    from_file, faults = columns.to_groups(table, schema)
    assert not faults
    assert values(from_file, field.kind) == expected(spelling)
    assert values(in_memory.read(table, schema)[0], field.kind) == expected(spelling)
    if field.kind in ("categorical", "datetime") or field.number_format is not None:
        rows = [{"c": text or None} for text in texts]
        assert values(RowDecoder(schema).decode(json.dumps({"rows": rows}).encode()), field.kind) == expected(spelling)
        assert values(in_memory.read(rows, schema)[0], field.kind) == expected(spelling)
