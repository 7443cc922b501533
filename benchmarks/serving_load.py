"""The sections of `serving.py` about what a server survives: memory, start, overload, slow clients and restarts."""

import signal
import statistics
import subprocess
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import serving_clients as clients
from serving_bench import Bench
from serving_servers import (
    DEADLINE_SECONDS,
    Asked,
    NotMeasured,
    Server,
    dle,
    dle_command,
    exchange,
    free_port,
    python_of,
    rival,
    running,
    start,
)

_SIZES = (1, 2, 8, 32, 100, 256, 1000)
_PATIENCE_SECONDS = 2.0
_FACTORS = (1, 2, 3, 5)
_DEADLINE_SECONDS = 4
"""Deadline of slow clients, in place of the default ones."""
_SLOW_EACH = 500


def memory(bench: Bench) -> None:
    """Memory of all processes of one server with one worker and one table model, and its slope under mixed batches."""
    bundle = bench.bundle("adult")
    with dle(bundle, bench.folder) as server:
        asked = [bench.asked(server, bench.body(bundle, rows)) for rows in _SIZES]
        bench.demand("PSS when ready, MiB", server.pss(), most=200)
        points: list[tuple[float, float]] = []
        end = time.monotonic() + bench.options.memory
        while time.monotonic() < end or len(points) < 2:
            for each in asked:
                clients.closed(each, 16, 1)
            points.append((time.monotonic() / 60, server.pss()))
    settled = points[len(points) // 4 :] if len(points) > 8 else points
    slope = statistics.linear_regression([at for at, _ in settled], [size for _, size in settled]).slope
    bench.demand("PSS under load, MiB", max(size for _, size in points), most=200)
    first, last = points[0][1], points[-1][1]
    print(f"  {first:.1f} MiB at first, {last:.1f} MiB at last, {slope:+.2f} MiB a minute after the first quarter")


def ready(bench: Bench) -> None:
    """Seconds until /readyz answers 200, beside a bare BentoML service that imports ONNX Runtime."""
    bundle = bench.bundle("adult")
    found: dict[str, list[float]] = {"dle": [], "bentoml, bare": []}
    try:
        python_of("bentoml", bench.options.peers)
        for _ in range(bench.options.rounds):
            with dle(bundle, bench.folder) as server:
                found["dle"].append(server.ready_seconds)
            with rival("bentoml-bare", bench.options.peers, bundle, bench.folder) as server:
                found["bentoml, bare"].append(server.ready_seconds)
    except NotMeasured as error:
        print(f"  not measured: {error}")
        return
    for name, seconds in found.items():
        print(f"  {name:<20}{statistics.median(seconds):6.2f} s   of {[round(each, 2) for each in seconds]}")
    pairs = zip(found["dle"], found["bentoml, bare"], strict=True)
    bench.demand("time to ready, of bare BentoML", statistics.median(own / bare for own, bare in pairs), most=1.5)


def overload(bench: Bench) -> None:
    """Requests of 256 rows at fixed rates, up to five times the capacity; clients leave after 2 s."""
    bundle = bench.bundle("adult")
    with dle(bundle, bench.folder) as server:
        asked = bench.asked(server, bench.body(bundle, 256))
        capacity = clients.closed(asked, 16, bench.options.seconds).rate
        print(f"  capacity {capacity:.0f} requests/s, measured by 16 clients")
        for factor in _FACTORS:
            _overload(bench, asked, factor, capacity)


def _overload(bench: Bench, asked: Asked, factor: int, capacity: float) -> None:
    seconds = 3 * bench.options.seconds
    live = Asked(asked.port, "/livez", asked.body)
    probe = clients.begin("probe", live, seconds=seconds)
    found = clients.run("open", asked, rate=factor * capacity, seconds=seconds, patience=_PATIENCE_SECONDS)
    probed = clients.finish(probe)
    statuses = ", ".join(f"{status}: {count}" for status, count in sorted(found["statuses"].items()))
    p50, p99, live_p50 = (1e3 * each for each in (found["p50"], found["p99"], probed["p50"]))
    print(f"  {factor} x: offered {found['offered']:.0f}/s, answered {found['goodput']:.0f}/s; {statuses}")
    print(f"  accepted p50 {p50:.0f} ms, p99 {p99:.0f} ms; /livez p50 {live_p50:.1f} ms, {probed['failed']} failed")
    bench.demand(f"{factor} x: goodput, of capacity", found["goodput"] / capacity, least=0.8)
    bench.demand(f"{factor} x: /livez p99, ms", probed["p99"] * 1e3, most=50)
    bench.demand(f"{factor} x: recovery after the load, s", found["recovered"], most=2)


def slow(bench: Bench) -> None:
    """500 silent, 500 slow-header and 500 slow-body connections, while one client sends; also with 256 open files."""
    bundle = bench.bundle("adult")
    body = bench.body(bundle, 1)
    names = ("DLE_FIRST_BYTE_TIMEOUT", "DLE_HEADER_TIMEOUT", "DLE_BODY_TIMEOUT")
    deadlines = dict.fromkeys(names, f"{_DEADLINE_SECONDS}s")
    for files in (0, 256):
        with running(dle_command(bundle), bench.folder, "/readyz", deadlines, files) as server:
            print(f"  {f'with {files} open files' if files else 'with the open files of this shell'}:")
            _slow(bench, server, bench.asked(server, body), files)


def _slow(bench: Bench, server: Server, asked: Asked, files: int) -> None:
    seconds = _DEADLINE_SECONDS + 2
    alone = clients.segmented(asked, 1, seconds, 1)
    before = server.pss()
    # the one client connects first: connections beyond the limit are refused
    one = clients.begin("closed", asked, connections=1, seconds=seconds, segments=1)
    time.sleep(0.5)
    crowd = clients.begin("slow", asked, each=_SLOW_EACH, seconds=4 * _DEADLINE_SECONDS)
    beside = clients.Load(**clients.finish(one))
    found = clients.finish(crowd)
    after = server.pss()
    again = clients.segmented(asked, 1, 1, 1)
    print(f"  alone p99 {alone.p99 * 1e3:.2f} ms, beside them {beside.p99 * 1e3:.2f} ms; {found['refused']} refused")
    print(f"  memory {before:.1f} MiB before, {after:.1f} MiB after")
    bench.demand("p99 beside slow connections, of alone", beside.p99 / alone.p99, most=2)
    bench.demand("errors of the client", beside.errors + again.errors, most=0)
    bench.demand("longest open, deadlines", max(found["longest"].values()) / _DEADLINE_SECONDS, most=1.5)
    bench.demand("memory, of before", after / before, most=1.1)


def restarts(bench: Bench) -> None:
    """Graceful restarts of a server with two workers under load, on the same port."""
    bundle = bench.bundle("adult")
    port, stop = free_port(), bench.folder / "stop"
    asked = Asked(port, "/predict", bench.body(bundle, 1))
    settings = {"DLE_WORKERS": 2}
    process = _started(bundle, port, bench.folder, settings)
    load = clients.begin("steady", asked, connections=16, patience=10.0, stop=str(stop))
    stopping: list[float] = []
    for _ in range(bench.options.restarts):
        time.sleep(0.3)
        begun = time.monotonic()
        process.send_signal(signal.SIGTERM)
        process.wait(DEADLINE_SECONDS)
        stopping.append(time.monotonic() - begun)
        process = _started(bundle, port, bench.folder, settings)
    time.sleep(0.3)
    stop.touch()
    counts = clients.finish(load)
    process.terminate()
    process.wait(DEADLINE_SECONDS)
    print(
        f"  {len(stopping)} restarts; stopping took {statistics.median(stopping):.2f} s, at most {max(stopping):.2f} s"
    )
    print(f"  requests: {counts}")
    lost = {name: count for name, count in counts.items() if name.startswith("lost")}
    bench.demand("requests lost", sum(lost.values()), most=0)
    bench.demand("requests without an answer for 10 s", counts.get("hung", 0), most=0)
    others = sum(count for name, count in counts.items() if name.isdigit() and name not in ("200", "503"))
    bench.demand("responses of another status than 200, and 503 while the models load", others, most=0)


def _started(bundle: Path, port: int, folder: Path, settings: Mapping[str, object]) -> "subprocess.Popen[Any]":
    process = start(dle_command(bundle), port, folder, settings)
    end = time.monotonic() + DEADLINE_SECONDS
    while time.monotonic() < end:
        try:
            exchange(port, "GET", "/readyz")
            return process
        except (OSError, ValueError):
            time.sleep(0.01)
    raise NotMeasured(f"no server after {DEADLINE_SECONDS:g} s")
