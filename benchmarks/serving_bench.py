"""What the sections of `serving.py` share: options, models, repetition in turns, and demands."""

import statistics
from argparse import Namespace
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec
from commands import document
from serving_clients import Load, closed
from serving_servers import JSON, Asked, Server

from dle_bundle import bundle as bundles
from dle_bundle import in_memory

_SOURCES = {
    "adult": ("adult.parquet", "income", "fast"),
    "adult-pack": ("adult.parquet", "income", "default"),
    "housing": ("california_housing.parquet", "MedHouseVal", "fast"),
}
"""The file, the target and the preset of each model that is trained here."""


@dataclass
class Bench:
    """One run of the benchmark. `folder` is temporary; `missed` collects the demands that are not met."""

    options: Namespace
    folder: Path
    missed: list[str] = field(default_factory=list)

    def bundle(self, name: str) -> Path:
        """The bundle of a model, trained and exported if `--bundles` does not hold it yet."""
        models = self.options.bundles or self.folder / "bundles"
        bundle: Path = models / name
        if not bundle.exists():
            file, target, preset = _SOURCES[name]
            run = self.folder / "runs" / name
            source = str(self.options.data / file)
            document(["dle-train", source, "--target", target, "--preset", preset, "--out", str(run)])
            document(["dle-export", str(run), "--to", str(bundle)])
        return bundle

    def body(self, bundle: Path, rows: int) -> Path:
        """A request of the model's example row, so many times."""
        example = {each.name: each.example for each in bundles.load(bundle).schema.inputs}
        return self.file(f"{bundle.name}-{rows}.json", msgspec.json.encode({"rows": [example] * rows}))

    def arrays(self, bundle: Path) -> Path:
        """A request of the example row as Triton takes it: the arrays of the graph."""
        schema = bundles.load(bundle).schema
        groups, _ = in_memory.read([{each.name: each.example for each in schema.inputs}], schema)
        types = {"f": "FP64", "O": "BYTES"}
        inputs = [
            {"name": name, "shape": array.shape, "datatype": types[array.dtype.kind], "data": array.ravel().tolist()}
            for name, array in groups.feeds().items()
        ]
        return self.file(f"{bundle.name}-arrays.json", msgspec.json.encode({"inputs": inputs}))

    def file(self, name: str, content: bytes) -> Path:
        """A file in the temporary folder."""
        path = self.folder / name
        path.write_bytes(content)
        return path

    def asked(self, server: Server, body: Path, path: str = "/predict", headers: Mapping[str, str] = JSON) -> Asked:
        """The request; it is sent once, to see that the server answers it."""
        server.post(path, body.read_bytes(), headers)
        return Asked(server.port, path, body, headers)

    def turns(self, loads: Mapping[str, Callable[[float], Any]]) -> dict[str, list[Any]]:
        """Call each with the seconds of a round, in turns, after a short round that does not count."""
        for load in loads.values():
            load(1.0)
        found: dict[str, list[Any]] = {name: [] for name in loads}
        for _ in range(self.options.rounds):
            for name, load in loads.items():
                found[name].append(load(self.options.seconds))
        return found

    def demand(self, what: str, value: float, *, least: float | None = None, most: float | None = None) -> None:
        """Print a figure beside what is demanded of it."""
        bound = f"at least {least:g}" if least is not None else f"at most {most:g}"
        missed = (least is not None and value < least) or (most is not None and value > most)
        print(f"  {what:<58}{value:10.3g}   demanded: {bound}{'   MISSED' if missed else ''}", flush=True)
        if missed:
            self.missed.append(what)


def loading(asked: Asked, connections: int) -> Callable[[float], Load]:
    """A closed loop of so many seconds."""
    return lambda seconds: closed(asked, connections, seconds)


def show(name: str, loads: Sequence[Load]) -> None:
    """Print the medians of the rounds."""
    rate, p50, p99 = (statistics.median(getattr(each, key) for each in loads) for key in ("rate", "p50", "p99"))
    errors = sum(each.errors for each in loads)
    wrong = f"   {errors} errors" if errors else ""
    every = [round(each.rate) for each in loads]
    latencies = f"p50 {p50 * 1e3:7.2f} ms   p99 {p99 * 1e3:7.2f} ms"
    print(f"  {name:<20}{rate:9,.0f} requests/s   {latencies}   of {every}{wrong}", flush=True)


def ratio(ours: Sequence[float], theirs: Sequence[float]) -> float:
    """The median ratio within each round, because the speed of the machine changes between rounds."""
    return statistics.median(one / other for one, other in zip(ours, theirs, strict=True))


def rates(loads: Sequence[Load]) -> list[float]:
    """The requests per second of each round."""
    return [each.rate for each in loads]
