"""The columns of predictions: what `dle-predict` writes, and what Python gets."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from dle_bundle.schema import Outputs, Schema
from dle_bundle.tables import forecast_tables
from dle_bundle.tables.columns import Column


def names(outputs: Outputs) -> list[str]:
    """`label, probability, probability_<class>…`, or `value`, or `value_1, value_2, …` for several steps."""
    if outputs.classes is None:
        steps = range(1, outputs.horizon + 1)
        return ["value"] if outputs.horizon == 1 else [f"value_{step}" for step in steps]
    return ["label", "probability", *(f"probability_{name}" for name in outputs.class_names)]


def of_values(outputs: Outputs, values: npt.NDArray[Any]) -> dict[str, pa.Array]:
    """The columns of a regression that answers with `values` (N,) or (N, horizon)."""
    steps = values.reshape(len(values), outputs.horizon)
    return {name: pa.array(np.ascontiguousarray(steps[:, step])) for step, name in enumerate(names(outputs))}


def of_classes(
    outputs: Outputs, classes: npt.NDArray[np.int64], probabilities: npt.NDArray[np.float32]
) -> dict[str, pa.Array]:
    """The columns of a classification: `classes` (N,) are positions in its classes, `probabilities` are (N, K)."""
    assert outputs.classes is not None
    label, probability, *each = names(outputs)
    chosen = np.take_along_axis(probabilities, classes[:, None], axis=1)[:, 0]
    columns = {label: pa.array(list(outputs.classes)).take(pa.array(classes)), probability: pa.array(chosen)}
    return columns | {name: pa.array(np.ascontiguousarray(probabilities[:, k])) for k, name in enumerate(each)}


def taken(schema: Schema) -> list[str]:
    """The names of `names`, and of the column of predictions in a forecast of a long table."""
    return names(schema.outputs) + (["value"] if schema.outputs.horizon > 1 else [])


def table(predicted: dict[str, pa.Array], rows: pa.Table | None, schema: Schema, keep: Sequence[str] = ()) -> pa.Table:
    """The predictions with the columns `keep` of the rows before them; a forecast of a long table is a long table."""
    if rows is None:
        return pa.table(predicted)
    if forecast_tables.has_times(rows, schema):
        predicted = {"value": forecast_tables.values(predicted)}
    return pa.table({**before(rows, schema, keep), **predicted})


def before(rows: pa.Table, schema: Schema, keep: Sequence[str] = ()) -> dict[str, Column]:
    """The columns before the predictions: those of `keep`, and the id and the time of a forecast of a long table.

    An id or a time that is called like a prediction becomes `series` or `time`.
    """
    if not forecast_tables.has_times(rows, schema):
        return {name: rows.column(name) for name in keep}
    found = forecast_tables.by_step(rows, schema, keep or series_name(rows, schema))
    layout, used = schema.layout, taken(schema)
    assert layout is not None
    named: dict[str, Column] = {}
    for name, column in found.items():
        other = {layout.sequence_id: "series", layout.time: "time"}.get(name, name) if name in used else name
        while other in named or (other != name and other in found):
            other += "_"
        named[other] = column
    return named


def series_name(rows: pa.Table, schema: Schema) -> tuple[str, ...]:
    """The column with the ids of the series, if there is one."""
    name = None if schema.layout is None else schema.layout.sequence_id
    return () if name is None or name not in rows.column_names else (name,)
