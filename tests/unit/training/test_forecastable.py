"""Tables that could be forecast, and the settings that do it."""

import shlex
from datetime import date, datetime, timedelta
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from dle_training.config import run_config
from dle_training.data import dataset, memory
from dle_training.data.dataset import Dataset

N = 120
RNG = np.random.default_rng(0)
DAYS = [str(date(2024, 1, 1) + timedelta(days=place)) for place in range(N)]
MONTHS = [f"{2010 + place // 12}-{place % 12 + 1:02}-01" for place in range(N)]
HOURS = [datetime(2024, 1, 1) + timedelta(hours=place) for place in range(N)]
WEEKDAYS = [str(date(2024, 1, 1) + timedelta(days=place // 5 * 7 + place % 5)) for place in range(N)]
SALES = RNG.normal(size=N)


def load(*settings: str, **columns: Any) -> Dataset:
    return dataset.load(run_config.load(None, ["data.target=sales", *settings]), memory.read(pa.table(columns)))


def hint(*settings: str, **columns: Any) -> str | None:
    return next((note for note in load(*settings, **columns).notes if "to forecast" in note), None)


def typed(note: str) -> list[str]:
    words = shlex.split(note[note.index("--set") :])
    assert words[::2] == ["--set"] * (len(words) // 2)
    return words[1::2]


@pytest.mark.parametrize(
    ("times", "step", "window"),
    [(DAYS, "1 day", 28), (MONTHS, "1 month", 24), (HOURS, "1 hour", 30), (WEEKDAYS, "1 day", 28)],
    ids=["days", "months", "hours", "weekdays"],
)
def test_one_series(times: list[Any], step: str, window: int) -> None:
    columns = {"at": times, "x": RNG.normal(size=N), "sales": SALES}
    note = hint(**columns)
    assert note == (
        f"at: rows at a step of {step}; to forecast sales from the values before, add --set data.time=at --set "
        f"data.window={window}"
    )
    layout = load(*typed(note), **columns).schema.layout
    assert layout is not None
    assert (layout.window, layout.channels) == (window, ("x", "sales"))


@pytest.mark.parametrize("name", ["shop", "the shop", "it's"])
def test_several_series(name: str) -> None:
    shops = [f"s{place}" for place in range(3) for _ in range(N)]
    columns = {
        "colour": RNG.choice(["red", "blue"], 3 * N),
        name: shops,
        "sold on": DAYS * 3,
        "sales": RNG.normal(size=3 * N),
    }
    note = hint(**columns)
    assert note is not None
    assert note.startswith(f"sold on: rows at a step of 1 day for each {name}; to forecast sales ")
    found = load(*typed(note), **columns)
    assert found.schema.layout is not None
    assert (found.schema.layout.sequence_id, found.schema.layout.time) == (name, "sold on")


def test_tables_that_are_no_series() -> None:
    events = [str(datetime(2024, 1, 1) + timedelta(minutes=int(minute))) for minute in RNG.integers(0, 500_000, N)]
    for times in (events, [DAYS[place // 2] for place in range(N)], [DAYS[place % 18] for place in range(N)]):
        assert hint(at=times, x=RNG.normal(size=N), sales=SALES) is None
    assert hint("split.by=random", at=DAYS, sales=SALES) is None
    assert hint(at=DAYS, sales=["yes" if value > 0 else "no" for value in SALES]) is None
    levels = [float(place) for place in range(3) for _ in range(N)]
    assert hint(shop=[f"s{level}" for level in levels], at=DAYS * 3, sales=np.array(levels) + 0.5) is None
