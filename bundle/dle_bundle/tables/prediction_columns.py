"""The columns of predictions: what `dle-predict` writes, and what Python gets."""

from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from dle_bundle.schema import Outputs


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
