"""The sections of `serving.py` about speed: one row, two segments, 32 rows, latency, connections and kinds of input."""

import json
import statistics
import subprocess
import sys
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
from serving_bench import Bench, loading, rates, ratio, show
from serving_clients import segmented
from serving_servers import HERE, SERVER_CORE, Asked, NotMeasured, bare, dle, pinned, rival

CONNECTIONS = 64


def one_row(bench: Bench) -> None:
    """One adult row, 64 connections, with ids, validation, drift and metrics."""
    bundle = bench.bundle("adult")
    body = bench.body(bundle, 1)
    with ExitStack() as stack:
        asked: dict[str, Asked] = {}
        server = stack.enter_context(dle(bundle, bench.folder))
        asked["dle, fast"] = bench.asked(server, body)
        hello = stack.enter_context(bare(server.post("/predict", body.read_bytes()), bench.folder))
        asked["uvicorn, hello"] = bench.asked(hello, body)
        pack = stack.enter_context(dle(bench.bundle("adult-pack"), bench.folder))
        asked["dle, pack"] = bench.asked(pack, body)
        for name, path in {"fastapi": "/predict", "bentoml": "/predict", "triton": "/v2/models/income/infer"}.items():
            try:
                peer = stack.enter_context(rival(name, bench.options.peers, bundle, bench.folder))
                asked[name] = bench.asked(peer, bench.arrays(bundle) if name == "triton" else body, path)
            except (NotMeasured, ValueError) as error:
                print(f"  {name}: not measured: {error}")
        found = bench.turns({name: loading(each, CONNECTIONS) for name, each in asked.items()})
    for name, loads in found.items():
        show(name, loads)
    floor = found["uvicorn, hello"]
    for ours in ("dle, fast", "dle, pack"):
        for name, least in {"uvicorn, hello": 0.9, "triton": 2.0, "fastapi": 8.0, "bentoml": 30.0}.items():
            if name in found:
                bench.demand(f"{ours}: of {name}", ratio(rates(found[ours]), rates(found[name])), least=least)
        p99 = ratio([each.p99 for each in found[ours]], [each.p99 for each in floor])
        bench.demand(f"{ours}: p99, of uvicorn's", p99, most=2.0)


def two_segments(bench: Bench) -> None:
    """The same by a client that sends head and body apart, beside the same client sending them together."""
    bundle = bench.bundle("adult")
    with dle(bundle, bench.folder) as server:
        asked = bench.asked(server, bench.body(bundle, 1))
        found = bench.turns(
            {
                "one segment": lambda seconds: segmented(asked, CONNECTIONS, seconds, 1),
                "two segments": lambda seconds: segmented(asked, CONNECTIONS, seconds, 2),
            }
        )
    for name, loads in found.items():
        show(name, loads)
    share = ratio(rates(found["two segments"]), rates(found["one segment"]))
    bench.demand("two segments, of one", share, least=0.8)


def many_rows(bench: Bench) -> None:
    """Requests of 32 rows: rows a second over HTTP, beside the same work in one process."""
    for name, least in {"housing": 0.5, "adult": 0.4}.items():
        bundle = bench.bundle(name)
        body = bench.body(bundle, 32)
        with dle(bundle, bench.folder) as server:
            http = loading(bench.asked(server, body), CONNECTIONS)
            found = bench.turns({"http": http, "inside": _inside(bundle, body)})
        show(f"{name}, 32 rows", found["http"])
        over = statistics.median(rates(found["http"]))
        inside, run = (statistics.median(each[key] for each in found["inside"]) for key in ("rate", "run"))
        print(
            f"  rows/s: {over * 32:,.0f} over HTTP, {inside * 32:,.0f} in one process, {run * 32:,.0f} the graph alone"
        )
        share = ratio(rates(found["http"]), [each["rate"] for each in found["inside"]])
        bench.demand(f"{name}: 32 rows over HTTP, of in-process", share, least=least)


def latency(bench: Bench) -> None:
    """One connection: what a prediction over HTTP takes more than in the process and for a bare server together."""
    bundle = bench.bundle("adult")
    body = bench.body(bundle, 1)
    with dle(bundle, bench.folder) as server, bare(server.post("/predict", body.read_bytes()), bench.folder) as hello:
        ours, floor = bench.asked(server, body), bench.asked(hello, body)
        found = bench.turns(
            {
                "dle": lambda seconds: segmented(ours, 1, seconds, 1),
                "uvicorn, hello": lambda seconds: segmented(floor, 1, seconds, 1),
                "inside": _inside(bundle, body),
            }
        )
    show("dle", found["dle"])
    show("uvicorn, hello", found["uvicorn, hello"])
    inside = [each["p50"] for each in found["inside"]]
    print(f"  in one process: p50 {statistics.median(inside) * 1e3:.2f} ms")
    each = zip(found["dle"], inside, found["uvicorn, hello"], strict=True)
    more = statistics.median(dle.p50 - own - bare.p50 for dle, own, bare in each)
    bench.demand("p50 above in-process and uvicorn, microseconds", more * 1e6, most=150)


def connections(bench: Bench) -> None:
    """Many connections: nothing fails, and nobody waits much longer than the others."""
    bundle = bench.bundle("adult")
    body = bench.body(bundle, 1)
    with dle(bundle, bench.folder) as server, bare(server.post("/predict", body.read_bytes()), bench.folder) as hello:
        asked = {"dle": bench.asked(server, body), "uvicorn": bench.asked(hello, body)}
        loads = {f"{who}, {count}": loading(each, count) for count in (256, 1024) for who, each in asked.items()}
        found = bench.turns(loads)
    for name, each in found.items():
        show(name, each)
    for count in (256, 1024):
        loads_of = found[f"dle, {count}"]
        bench.demand(f"{count:,} connections: errors", sum(each.errors for each in loads_of), most=0)
        fair = statistics.median(each.p99 * each.rate / count for each in loads_of)
        bench.demand(f"{count:,} connections: p99, of connections / throughput", fair, most=2.0)


def kinds(bench: Bench) -> None:
    """Small models of the tests that take an image of 28 × 28, a text, or a series, beside the bare server."""
    sys.path.insert(0, str(HERE.parent))
    from tests import bundles

    loads, example = {}, {}
    with ExitStack() as stack:
        for name, schema in _schemas().items():
            bundle = bundles.write(bench.folder / "kinds" / name, schema, name=name)
            server = stack.enter_context(dle(bundle, bench.folder))
            body = bench.body(bundle, 1)
            example[name] = bench.asked(server, body)
            if name == "image":
                file = bench.file("image.png", bundles.png(_pixels()))
                example["image as a file"] = bench.asked(server, file, headers={"content-type": "image/png"})
            hello = stack.enter_context(bare(server.post("/predict", body.read_bytes()), bench.folder))
            loads[f"{name}: uvicorn"] = loading(bench.asked(hello, body), CONNECTIONS)
        loads |= {name: loading(asked, CONNECTIONS) for name, asked in example.items()}
        found = bench.turns(loads)
    for name, each in found.items():
        show(name, each)
    for name in example:
        floor = found[f"{name.split()[0]}: uvicorn"]
        print(f"  {name}: {ratio(rates(found[name]), rates(floor)):.2f} of uvicorn")


def _pixels() -> Any:
    return np.random.default_rng(0).integers(0, 255, (1, 28, 28)).astype(np.uint8)


def _schemas() -> dict[str, Any]:
    import msgspec
    from tests import bundles

    from dle_bundle.schema import ImageShape

    photo = bundles.PICTURE.inputs[0]
    shape = ImageShape(channels=1, height=28, width=28)
    field = msgspec.structs.replace(photo, image=shape, example=bundles.base64_png(_pixels()))
    image = msgspec.structs.replace(bundles.PICTURE, inputs=(field,))
    return {"image": image, "text": bundles.REVIEW, "series": bundles.SIGNAL}


def _inside(bundle: Path, body: Path) -> Callable[[float], Any]:
    def measure(seconds: float) -> Any:
        command = [sys.executable, str(HERE / "serving_inprocess.py"), str(bundle), str(body), str(seconds)]
        return json.loads(subprocess.run(pinned(SERVER_CORE, command), stdout=subprocess.PIPE, check=True).stdout)

    return measure
