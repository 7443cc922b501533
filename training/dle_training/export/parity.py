"""Proves at every export that the graph answers as PyTorch does.

The graph answers the rows (see `probes`) in batches of 1, 2, 7 and 64, each padded to its own longest row. Different
sizes show whether the exporter froze one: such a graph is right at that size only. A difference beyond the bounds fails
the export.
"""

import os
from collections.abc import Callable, Iterator
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt

os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")  # before the import, so that ONNX Runtime sends no telemetry

import onnxruntime

from dle_bundle.errors import WorkError
from dle_bundle.groups import Groups
from dle_bundle.schema import Schema
from dle_training.scoring.metrics import Predictions

BATCHES = (1, 2, 7, 64)
PROBABILITY_BOUND = 1e-5
DECIDING_MARGIN = 2e-5
VALUE_BOUND = 1e-5
"""Largest difference of a value y, relative to |y − mean| + sd of the target in training.

The steps of a forecast come from the same sums in float32, so the step that is farthest from the mean counts for all.
"""

Predict = Callable[[Groups], Predictions]
"""Returns PyTorch's answers: probabilities (N, K), values (N,) or values (N, horizon)."""
Prepare = Callable[[Groups], Groups]
"""Turns text into tokens with the model's own tokenizer."""


class Parity(msgspec.Struct, frozen=True, kw_only=True):
    """Content of `parity.json`: the number of compared rows, the largest difference found, and the allowed `bound`."""

    rows: int
    batches: tuple[int, ...]
    largest_difference: float
    bound: float
    labels_compared: int
    labels_within_margin: int


def check(
    model: bytes,
    predict: Predict,
    prepare: Prepare,
    rows: Groups,
    schema: Schema,
    *,
    mean: float,
    scale: float | npt.NDArray[np.float64],
) -> Parity:
    """Compare the graph with `predict` on `rows` (see `probes`). Raises WorkError, which lists the first wrong rows.

    `prepare` turns text into tokens. `mean` is the mean of the training target, `scale` its standard deviation, one for
    all rows or one for each; only regression uses them.
    """
    session = open_session(model)
    expected = predict(rows)
    labels = None if schema.outputs.classes is None else np.array(schema.outputs.classes, dtype=object)
    faults: list[str] = []
    worst, narrow = 0.0, 0
    for size in BATCHES:
        found = [session.run(None, prepare(rows.take(part)).trimmed().feeds()) for part in _slices(len(rows), size)]
        named = {
            output.name: np.concatenate([batch[index] for batch in found])
            for index, output in enumerate(session.get_outputs())
        }
        if labels is None:
            # values are float64; they were computed in float32 up to mean and standard deviation
            around = scale if isinstance(scale, float) or expected.ndim == 1 else scale[:, None]
            away = np.abs(expected - mean)
            if away.ndim == 2:
                away = away.max(axis=1, keepdims=True)
            relative = np.abs(named["value"] - expected) / (away + around)
            share = relative if relative.ndim == 1 else relative.max(axis=1)
            wrong = share > VALUE_BOUND
        else:
            # float64, because the bound is close to the precision of float32
            share = np.abs(named["probabilities"].astype(np.float64) - expected).max(axis=1)
            ordered = np.sort(expected, axis=1)
            undecided = ordered[:, -1] - ordered[:, -2] < DECIDING_MARGIN
            narrow = max(narrow, int(undecided.sum()))
            other = named["label"].astype(object) != labels[expected.argmax(axis=1)]
            wrong = (share > PROBABILITY_BOUND) | (other & ~undecided)
        wrong |= ~np.isfinite(share)
        worst = max(worst, float(np.nanmax(share)))
        faults += [f"batches of {size}, row {row}: differs by {share[row]:.2e}" for row in np.flatnonzero(wrong)[:5]]
    if faults:
        raise WorkError("The exported graph does not answer as PyTorch does; nothing was exported", faults)
    return Parity(
        rows=len(rows),
        batches=BATCHES,
        largest_difference=worst,
        bound=VALUE_BOUND if labels is None else PROBABILITY_BOUND,
        labels_compared=0 if labels is None else len(rows) * len(BATCHES),
        labels_within_margin=narrow,
    )


def _slices(count: int, size: int) -> Iterator[slice]:
    return (slice(start, start + size) for start in range(0, count, size))


def open_session(model: bytes) -> Any:
    """Open the graph in ONNX Runtime, on one thread of the CPU."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
