"""Measures the latency of the exported graph for a single row."""

import time
from statistics import median

from dle_bundle.groups import Groups
from dle_training.export import graph, parity
from dle_training.runs.trained_model import TrainedModel
from dle_training.runs.training_sample import LONGEST

_WARM_UP, _RUNS, _SECONDS = 20, 300, 0.5


def single_row(model: TrainedModel, sample: Groups) -> float:
    """Return the median latency in milliseconds of the graph in ONNX Runtime, on one CPU thread.

    `sample` holds training rows, the longest first (see `training_sample`). The first row is the one that is timed.
    """
    example = model.tensors(sample.take(slice(LONGEST)).trimmed())
    content = graph.build(model.inference_module(tuple(example)), model.schema, example).SerializeToString()
    session = parity.open_session(content)
    feeds = model.preprocessing.tokenise(sample.take(slice(1))).trimmed().feeds()
    for _ in range(_WARM_UP):
        session.run(None, feeds)
    times: list[float] = []
    end = time.perf_counter() + _SECONDS
    while len(times) < _RUNS and time.perf_counter() < end:
        begun = time.perf_counter()
        session.run(None, feeds)
        times.append(time.perf_counter() - begun)
    return 1_000 * median(times)
