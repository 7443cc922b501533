"""Measures the service beside its peers and beside a bare server: throughput, latency, memory, overload, restarts.

    python -m venv peers/fastapi && peers/fastapi/bin/pip install fastapi uvicorn uvloop httptools onnxruntime
    python -m venv peers/bentoml && peers/bentoml/bin/pip install bentoml uvloop httptools onnxruntime
    python -m venv peers/triton && peers/triton/bin/pip install nvidia-pytriton onnxruntime
    python benchmarks/serving.py --data data --peers peers [--only SECTION]… [--rounds N] [--seconds N]

`data` is the folder with the data sets, see `benchmarks/results.py`. Models are trained on adult and california_housing
first; `--bundles FOLDER` keeps them for the next time. Servers are pinned to the first core and clients to the second.
Servers that are compared take turns, so that other work on the machine slows all of them down alike. Figures are
medians of the rounds, and ratios are medians of the ratios within rounds. The floor is a bare uvicorn that sends the
same bytes and computes nothing. A peer without an environment is left out. The load comes from `wrk`, or from a client
in `serving_clients.py` where it is not installed. The exit code is 1 if a demand is not met.
"""

import argparse
import sys
import tempfile
from pathlib import Path

import serving_load
import serving_speed
from serving_bench import Bench

SECTIONS = {
    "one-row": serving_speed.one_row,
    "two-segments": serving_speed.two_segments,
    "32-rows": serving_speed.many_rows,
    "latency": serving_speed.latency,
    "connections": serving_speed.connections,
    "kinds": serving_speed.kinds,
    "memory": serving_load.memory,
    "ready": serving_load.ready,
    "overload": serving_load.overload,
    "slow": serving_load.slow,
    "restarts": serving_load.restarts,
}


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description="The service beside its peers and a bare server.")
    parser.add_argument("--data", type=Path, required=True, help="folder with the data sets")
    parser.add_argument("--peers", type=Path, help="folder with the environments of the peers")
    parser.add_argument("--bundles", type=Path, help="folder that keeps the models")
    parser.add_argument("--only", action="append", choices=SECTIONS, help="measure this section; repeatable")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=4.0, help="seconds of each round")
    parser.add_argument("--memory", type=float, default=60.0, help="seconds of load under which memory is watched")
    parser.add_argument("--restarts", type=int, default=100)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        bench = Bench(options, Path(name))
        for section in options.only or SECTIONS:
            print(f"{section}: {(SECTIONS[section].__doc__ or '').strip()}", flush=True)
            SECTIONS[section](bench)
    sys.exit(f"error: not met: {'; '.join(bench.missed)}" if bench.missed else 0)


if __name__ == "__main__":
    main()
