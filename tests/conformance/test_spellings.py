"""What `tests/spellings.json` says of values as people write them holds in training, in files and in requests.

docs/tables.md shows the same table.
"""

import json
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

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
        moments = groups.datetime[:, 0].tolist()
        return [None if moment == MISSING_TIME else moment for moment in moments]
    if kind == "categorical":
        return list(groups.categorical[:, 0])
    return [None if np.isnan(value) else value for value in groups.numeric[:, 0].astype(np.float64).tolist()]


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
    schema = Schema(inputs=(field,), outputs=Outputs(target="y", task="regression"))
    from_file, faults = columns.to_groups(pa.table({"c": pa.array(texts)}), schema)
    assert not faults
    assert values(from_file, field.kind) == expected(spelling)
    if field.kind in ("categorical", "datetime") or field.number_format is not None:
        body = json.dumps({"rows": [{"c": text or None} for text in texts]}).encode()
        assert values(RowDecoder(schema).decode(body), field.kind) == expected(spelling)
