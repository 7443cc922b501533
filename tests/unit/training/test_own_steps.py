"""Which series are named because their rows have another step than most rows of the table."""

from datetime import datetime, timedelta

import pyarrow as pa

from dle_bundle.schema import SeriesLayout, TimeStep
from dle_bundle.tables import long_tables
from dle_training.config import run_config
from dle_training.data import column_roles
from dle_training.data.series import own_steps

FIRST = datetime(2024, 1, 1)
FORECAST = ("data.sequence_id=unit", "data.time=at", "data.window=6", "data.horizon=2")


def notes(**series: tuple[timedelta, int]) -> tuple[str, ...]:
    rows = [(name, str(FIRST + step * place)) for name, (step, count) in series.items() for place in range(count)]
    table = pa.table({"unit": [name for name, _ in rows], "at": [at for _, at in rows]})
    layout = SeriesLayout(channels=(), sequence_id="unit", time="at", step=TimeStep(size=3_600, unit="second"))
    return own_steps.notes(long_tables.order(table, layout, ()), layout)


HOUR, DAY = timedelta(hours=1), timedelta(days=1)


def test_series_with_the_step_of_the_table() -> None:
    assert notes(a=(HOUR, 50), b=(HOUR, 20), c=(timedelta(minutes=61), 20)) == ()


def test_a_series_of_a_few_rows_has_a_gap_only() -> None:
    assert notes(a=(HOUR, 50), b=(DAY, 5)) == ()


def test_longer_and_shorter_steps() -> None:
    longer, shorter = notes(a=(HOUR, 50), b=(DAY, 20), c=(timedelta(minutes=15), 9), d=(HOUR, 1), e=(3 * DAY, 6))
    assert longer == (
        "at: the step of most rows is 1 hour, but these series have another, so most steps of their windows are "
        "missing: b (1 day), e (3 days); forecast them from a file of their own"
    )
    assert "each of their rows counts as one step: c (15 minutes);" in shorter


def test_a_forecast_names_them() -> None:
    days = [("a", FIRST + HOUR * place) for place in range(480)] + [("b", FIRST + DAY * place) for place in range(20)]
    table = pa.table(
        {
            "unit": [name for name, _ in days],
            "at": [str(at) for _, at in days],
            "load": [float(at.hour + 3 * at.day) for _, at in days],
        }
    )
    found = column_roles.arrange(table, run_config.load(None, list(FORECAST)), "load", ("",))
    assert any("missing: b (1 day);" in note for note in found.notes)
    alone = table.filter(pa.array([name == "b" for name, _ in days]))
    assert not any(
        "have another" in note
        for note in column_roles.arrange(alone, run_config.load(None, list(FORECAST)), "load", ("",)).notes
    )
