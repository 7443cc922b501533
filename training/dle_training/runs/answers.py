"""Writes a model's answers and the actual targets of rows to a Parquet file."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from dle_bundle.files import atomic_path
from dle_bundle.schema import Schema
from dle_training.scoring.metrics import Actual, Predictions


def write(
    path: Path,
    schema: Schema,
    rows: npt.NDArray[np.int64],
    actual: Actual,
    predicted: Predictions,
    *,
    further: Mapping[str, pa.Array] | None = None,
) -> None:
    """Write `row` (from 1), `actual`, and the answer as `dle-predict` writes it, in the order of the source.

    `rows` (N,) are positions in the source, from 0. `actual` and `predicted` have the form that `metrics.all_scores`
    takes; an actual value that is not known is null. The columns `further` follow the column `row`.
    """
    columns: dict[str, pa.Array] = {"row": pa.array(rows + 1), **(further or {})}
    classes, steps = schema.outputs.classes, schema.outputs.horizon
    if classes is None:
        for name, values in (("actual", actual), ("value", predicted)):
            each = values.reshape(len(rows), steps)
            names = [name] if steps == 1 else [f"{name}_{step}" for step in range(1, steps + 1)]
            columns |= {column: pa.array(each[:, step], from_pandas=True) for step, column in enumerate(names)}
    else:
        best = predicted.argmax(axis=1)
        columns["actual"] = pa.array([classes[place] for place in actual])
        columns["label"] = pa.array([classes[place] for place in best])
        columns["probability"] = pa.array(predicted[np.arange(len(rows)), best])
        columns |= {
            f"probability_{name}": pa.array(predicted[:, k]) for k, name in enumerate(schema.outputs.class_names)
        }
    table = pa.table(columns).take(pa.array(np.argsort(rows, kind="stable")))
    with atomic_path(path) as temporary:
        pq.write_table(table, temporary)
