"""How long the exported graph of a model takes for a single row: what an application waits for at the least."""

import time
from statistics import median

from dle_bundle.groups import Groups
from dle_training.export import graph, parity
from dle_training.runs.trained_model import TrainedModel

_WARM_UP, _RUNS, _SECONDS = 20, 300, 0.5


def single_row(model: TrainedModel, rows: Groups) -> float:
    """Median milliseconds of the graph in ONNX Runtime, on one thread of the CPU, for the first of `rows`.

    `rows` are those of the training part.
    """
    rows = graph.longest(rows)
    example = model.tensors(rows)
    content = graph.build(model.answer(tuple(example)), model.schema, example).SerializeToString()
    session = parity.open_session(content)
    feeds = model.preprocessing.tokenise(rows.take(slice(0, 1))).trimmed().feeds()
    for _ in range(_WARM_UP):
        session.run(None, feeds)
    times: list[float] = []
    end = time.perf_counter() + _SECONDS
    while len(times) < _RUNS and time.perf_counter() < end:
        begun = time.perf_counter()
        session.run(None, feeds)
        times.append(time.perf_counter() - begun)
    return 1_000 * median(times)
