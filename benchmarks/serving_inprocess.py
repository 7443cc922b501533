"""Predicts request bodies in this process, without HTTP: a part of `serving.py`.

    python serving_inprocess.py BUNDLE BODY SECONDS      # prints JSON

`rate` and `p50` are requests a second and seconds of a request: decode, run, and encode with ids. `run` is the rate of
the graph alone, over arrays that are decoded already.
"""

import json
import secrets
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from serving_clients import quantile

from dle_bundle import bundle as bundles
from dle_serving.feedback.ids import SigningKeys
from dle_serving.models.runtime import Model
from dle_serving.models.served import ServedModel
from dle_serving.monitoring.metrics import Metrics
from dle_serving.settings import ServerSettings


def main() -> None:
    """Measure and print."""
    loaded, body, seconds = bundles.load(Path(sys.argv[1])), Path(sys.argv[2]).read_bytes(), float(sys.argv[3])
    with tempfile.TemporaryDirectory() as name:
        settings = ServerSettings(home=Path(name), monitoring=False)
        model = Model(loaded, "cpu", threads=1)
        keys = SigningKeys([secrets.token_bytes(32)])
        metrics = Metrics(settings.home / "metrics")
        metrics.declare_responses([])
        served = ServedModel(loaded, model, keys, settings, metrics)
        count = len(served.decoder.rows(body))
        groups = served.decoder.groups([served.decoder.rows(body)])

        def whole() -> None:
            served.answer([served.decoder.rows(body)], [count], [True])

        rate, p50 = _timed(whole, seconds / 2)
        run, _ = _timed(lambda: model.run(groups), seconds / 2)
        served.close()
    print(json.dumps({"rate": rate, "p50": p50, "run": run}))


def _timed(work: Callable[[], object], seconds: float) -> tuple[float, float]:
    found, begun = list[float](), time.perf_counter()
    last = begun
    while last < begun + seconds:
        work()
        now = time.perf_counter()
        found.append(now - last)
        last = now
    return len(found) / (last - begun), quantile(found, 0.5)


if __name__ == "__main__":
    main()
