"""Series of several workers, and what becomes of their values."""

from pathlib import Path

import pytest
from prometheus_client import generate_latest
from prometheus_client.registry import Collector, CollectorRegistry

from dle_serving.monitoring.metric_series import MetricFamily, SeriesGroup, families

DONE = MetricFamily("done", "Done.", "counter", ("what",))
TOOK = MetricFamily("took_seconds", "Took.", "histogram", (), (0.1, 1))
BUSY = MetricFamily("busy", "Busy.", "livesum")
LAST = MetricFamily("last_seconds", "Last.", "max")


class Worker:
    """A board with one series of each kind."""

    def __init__(self, folder: Path) -> None:
        self.board = SeriesGroup(folder)
        self.this, self.that = (self.board.series(DONE, what) for what in ("this", "that"))
        self.took, self.busy, self.last = (self.board.series(family) for family in (TOOK, BUSY, LAST))
        self.board.open()


def text(*boards: SeriesGroup) -> list[str]:
    """What Prometheus reads, without descriptions."""

    class Page(Collector):
        def collect(self):  # type: ignore[no-untyped-def]
            return families(boards)

    registry = CollectorRegistry()
    registry.register(Page())
    return [line for line in generate_latest(registry).decode().splitlines() if not line.startswith("#")]


def test_all_is_there_at_zero(tmp_path: Path) -> None:
    assert text(Worker(tmp_path).board) == [
        'done_total{what="this"} 0.0',
        'done_total{what="that"} 0.0',
        'took_seconds_bucket{le="0.1"} 0.0',
        'took_seconds_bucket{le="1.0"} 0.0',
        'took_seconds_bucket{le="+Inf"} 0.0',
        "took_seconds_count 0.0",
        "took_seconds_sum 0.0",
        "busy 0.0",
        "last_seconds 0.0",
    ]


def test_workers_are_put_together_by_kind(tmp_path: Path) -> None:
    first, second = Worker(tmp_path), Worker(tmp_path)
    first.that.inc()
    second.that.inc(2)
    for value in (0.1, 0.1001, 5):
        first.took.observe(value)
    second.took.observe(0.01)
    first.busy.inc(2)
    second.busy.inc()
    first.last.set(7)
    second.last.set(5)
    expected = [
        'done_total{what="this"} 0.0',
        'done_total{what="that"} 3.0',
        'took_seconds_bucket{le="0.1"} 2.0',
        'took_seconds_bucket{le="1.0"} 3.0',
        'took_seconds_bucket{le="+Inf"} 4.0',
        "took_seconds_count 4.0",
        "took_seconds_sum 5.2101",
        "busy 3.0",
        "last_seconds 7.0",
    ]
    assert text(first.board) == text(second.board) == expected


def test_what_was_counted_outlives_its_worker_and_what_it_was_busy_with_does_not(tmp_path: Path) -> None:
    first, second = Worker(tmp_path), Worker(tmp_path)
    first.this.inc(4)
    first.busy.inc(3)
    second.busy.inc(1)
    first.board.close()  # as the kernel does when it ends
    assert {'done_total{what="this"} 4.0', "busy 1.0"} <= set(text(second.board))
    third = Worker(tmp_path)
    third.this.inc()
    assert {'done_total{what="this"} 5.0', "busy 1.0"} <= set(text(third.board))
    assert len(list(tmp_path.iterdir())) == 2


def test_other_series_stand_in_other_files(tmp_path: Path) -> None:
    Worker(tmp_path).this.inc()
    other = SeriesGroup(tmp_path)
    other.series(DONE, "this")
    other.open()
    assert text(other) == ['done_total{what="this"} 0.0']


def test_families_of_several_boards_come_together(tmp_path: Path) -> None:
    boards = [SeriesGroup(tmp_path), SeriesGroup(tmp_path)]
    for index, board in enumerate(boards):
        made = board.series(DONE, f"{index}")
        board.open()
        made.inc(index)
    assert text(*boards) == ['done_total{what="0"} 0.0', 'done_total{what="1"} 1.0']


def test_nothing_is_declared_any_more_once_it_is_open(tmp_path: Path) -> None:
    board = Worker(tmp_path).board
    with pytest.raises(AssertionError):
        board.series(DONE, "late")
    assert text(SeriesGroup(tmp_path)) == []
