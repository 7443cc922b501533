"""A note on categories that look alike; what prints alike is one category."""

import numpy as np
import pyarrow as pa

from dle_bundle.rows.decoder import RowDecoder
from dle_bundle.schema import Outputs, Schema
from dle_training.config.run_config import DataConfig
from dle_training.data.columns import inference, look_alikes


def test_categories_that_look_alike() -> None:
    assert look_alikes.note("c", ["Red", "red", "blue", "New  York", "new york"]) == (
        "c: 'New  York' and 'new york'; 'Red' and 'red' are different categories; "
        "where they mean the same, spell them alike in the file"
    )
    assert look_alikes.note("c", ["red", "blue", "red"]) is None


def test_spellings_that_print_alike_are_one_category() -> None:
    table = pa.table({"c": ["caf\u00e9", "cafe\u0301", "a\u00a0b", "a b"]})
    found = inference.infer(table, DataConfig(kinds={}), np.arange(4), {})
    assert found.readings["c"].values.tolist() == ["caf\u00e9", "caf\u00e9", "a b", "a b"]
    assert not found.notes
    schema = Schema(inputs=found.fields, outputs=Outputs(target="y", task="regression"))
    rows = '{"rows": [{"c": "cafe\u0301"}, {"c": "a\u00a0b"}]}'
    assert RowDecoder(schema).decode(rows.encode()).categorical[:, 0].tolist() == ["caf\u00e9", "a b"]
