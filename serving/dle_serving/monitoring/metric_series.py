"""Prometheus counters, histograms and gauges whose values are shared by all workers.

prometheus_client formats them. Its own multiprocess mode takes a tenth of the time of a small request and leaves files
behind for every worker; here an observation is an addition to a mapped number.
"""

import hashlib
from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from threading import Lock
from typing import Literal

import numpy as np
from prometheus_client import Metric
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.utils import floatToGoString

from dle_bundle.drift.counting import Sums
from dle_serving.monitoring.shared_numbers import SharedMatrix

MetricType = Literal["counter", "histogram", "livesum", "max"]
"""The gauges follow prometheus_client's modes: `livesum` adds up the running workers, `max` is the highest value."""


@dataclass(frozen=True, slots=True)
class MetricFamily:
    """A metric family: its name, help text, type, label names and, for a histogram, the upper bounds of the buckets."""

    name: str
    help: str
    type: MetricType
    labels: tuple[str, ...] = ()
    bounds: tuple[float, ...] = ()

    @property
    def size(self) -> int:
        """How many numbers one series needs; for a histogram the buckets, the +Inf bucket and the sum."""
        return len(self.bounds) + 2 if self.type == "histogram" else 1


class SharedSeries:
    """One series, which this worker updates and all workers see once its group is open. Safe in any thread."""

    __slots__ = ("_bounds", "_cells", "_lock", "_start", "_sum")

    def __init__(self, start: int, bounds: tuple[float, ...], lock: Lock) -> None:
        self._start, self._sum = start, start + len(bounds) + 1
        self._bounds = bounds
        self._lock = lock
        self._cells = memoryview(b"").cast("d")

    def open(self, cells: "memoryview[float]") -> None:
        """Keep the values in `cells` from now on."""
        self._cells = cells

    def inc(self, amount: float = 1.0) -> None:
        """Add to a counter or a gauge."""
        with self._lock:
            self._cells[self._start] += amount

    def set(self, value: float) -> None:
        """Set a gauge."""
        with self._lock:
            self._cells[self._start] = value

    def observe(self, value: float, times: int = 1) -> None:
        """Add a value to a histogram, so many times."""
        place = self._start + bisect_left(self._bounds, value)
        with self._lock:
            self._cells[place] += times
            self._cells[self._sum] += value * times

    def observe_all(self, values: Sequence[float]) -> None:
        """Add each value to a histogram."""
        with self._lock:
            for value in values:
                self._cells[self._start + bisect_left(self._bounds, value)] += 1
            self._cells[self._sum] += sum(values)


@dataclass(slots=True)
class SeriesGroup:
    """Series that are declared, then opened together; workers with equal declarations share the values."""

    folder: Path
    _declared: list[tuple[MetricFamily, tuple[str, ...], SharedSeries]] = field(default_factory=list)
    _size: int = 0
    _lock: Lock = field(default_factory=Lock)
    _shared: SharedMatrix | None = None

    def series(self, family: MetricFamily, *labels: str) -> SharedSeries:
        """Declare a series of the family with these label values; only before `open`."""
        assert self._shared is None
        made = SharedSeries(self._size, family.bounds, self._lock)
        self._declared.append((family, labels, made))
        self._size += family.size
        return made

    def open(self) -> None:
        """Connect all series to the shared numbers: they continue with the earlier values, `livesum` gauges with 0."""
        described = repr([(family, labels) for family, labels, _ in self._declared])
        name = hashlib.sha256(described.encode()).hexdigest()[:16]
        self._shared = SharedMatrix(self.folder, name, 1, self._size)
        cells = self._shared.cells
        for family, _, series in self._declared:
            series.open(cells)
            if family.type == "livesum":
                series.set(0)

    def close(self) -> None:
        """Release the values for the next worker."""
        if self._shared is not None:
            self._shared.close()
            cells = self._shared.cells
            for _, _, series in self._declared:
                series.open(cells)  # what is still counted goes to no file

    def read(self) -> Iterator[tuple[MetricFamily, tuple[str, ...], Sums]]:
        """Every series with its numbers, combined over all workers."""
        if self._shared is None:
            return
        everyone, running = self._shared.all(), self._shared.running()
        merged: dict[MetricType, Sums] = {
            "counter": _merged(np.add, everyone),
            "livesum": _merged(np.add, running),
            "max": _merged(np.maximum, everyone),
        }
        merged["histogram"] = merged["counter"]
        start = 0
        for family, labels, _ in self._declared:
            yield family, labels, merged[family.type][start : start + family.size]
            start += family.size


def families(groups: Iterable[SeriesGroup]) -> Iterator[Metric]:
    """The metric families of all groups, in the order of their first declaration."""
    by_family: dict[MetricFamily, list[tuple[tuple[str, ...], Sums]]] = {}
    for group in groups:
        for family, labels, numbers in group.read():
            by_family.setdefault(family, []).append((labels, numbers))
    for family, found in by_family.items():
        yield _FAMILIES[family.type](family, found)


def _merged(put_together: np.ufunc, matrices: Sequence[Sums]) -> Sums:
    found: Sums = put_together.reduce([matrix[0] for matrix in matrices])
    return found


def _numbers(
    kind: type[CounterMetricFamily | GaugeMetricFamily],
    family: MetricFamily,
    found: Iterable[tuple[tuple[str, ...], Sums]],
) -> Metric:
    metric = kind(family.name, family.help, labels=family.labels)
    for labels, numbers in found:
        metric.add_metric(labels, float(numbers[0]))
    return metric


def _histogram(family: MetricFamily, found: Iterable[tuple[tuple[str, ...], Sums]]) -> Metric:
    metric = HistogramMetricFamily(family.name, family.help, labels=family.labels)
    bounds = [*map(floatToGoString, family.bounds), "+Inf"]
    for labels, numbers in found:
        counts = np.cumsum(numbers[:-1]).tolist()
        metric.add_metric(labels, list(zip(bounds, counts, strict=True)), float(numbers[-1]))
    return metric


_FAMILIES: dict[MetricType, Callable[[MetricFamily, Iterable[tuple[tuple[str, ...], Sums]]], Metric]] = {
    "counter": partial(_numbers, CounterMetricFamily),
    "histogram": _histogram,
    "livesum": partial(_numbers, GaugeMetricFamily),
    "max": partial(_numbers, GaugeMetricFamily),
}
