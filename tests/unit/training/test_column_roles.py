"""What settings make of a long table, and which do not go together."""

import numpy as np
import pyarrow as pa
import pytest

from dle_bundle.errors import InputError
from dle_bundle.values.numbers import NumberFormat
from dle_training.config import run_config
from dle_training.data import column_roles
from dle_training.data.column_roles import Arranged

HOURS = 60
TABLE = pa.table(
    {
        "hour": range(HOURS),
        "load": [float(hour % 24) for hour in range(HOURS)],
        "temp": [float(hour % 7) for hour in range(HOURS)],
        "sky": ["clear", "grey"] * (HOURS // 2),
    }
)
UNITS = pa.table(
    {
        "unit": [unit for unit in "abcd" for _ in range(3)],
        "step": [*range(3)] * 4,
        "s1": [float(place) for place in range(12)],
        "maker": [maker for maker in "xyxy" for _ in range(3)],
        "broken": [fate for fate in ("yes", "no", "yes", "no") for _ in range(3)],
    }
)
FORECAST = ("data.time=hour", "data.window=6", "data.horizon=2")
SERIES = ("data.sequence_id=unit", "data.time=step")


def arrange(table: pa.Table, target: str, *assignments: str) -> Arranged:
    return column_roles.arrange(table, run_config.load(None, list(assignments)), target, ("", "NA"))


def test_a_forecast() -> None:
    found = arrange(TABLE, "load", *FORECAST)
    assert found.layout is not None
    assert (found.layout.channels, found.layout.window) == (("load", "temp", "sky"), 6)
    assert found.dropped == {}
    assert set(found.table.column("sequence").combine_chunks().value_lengths().to_pylist()) == {6}


def test_a_channel_is_left_out() -> None:
    found = arrange(TABLE, "load", *FORECAST, "data.drop=[temp,sky]")
    assert found.layout is not None
    assert found.layout.channels == ("load",)


def test_amounts_are_channels() -> None:
    """Numbers with units, currencies and decimal commas, read with one format for each channel."""
    table = pa.table(
        {
            "hour": range(HOURS),
            "load": [f"${1000 + hour % 24:,}.50" for hour in range(HOURS)],
            "temp": [f"{hour % 7},25" if hour else "NA" for hour in range(HOURS)],
            "weight": [f"{hour % 5} kg" for hour in range(HOURS)],
            "sky": ["clear", "grey"] * (HOURS // 2),
        }
    )
    found = arrange(table, "load", *FORECAST, "data.drop=[sky]")
    assert found.layout is not None
    assert found.layout.channels == ("load", "temp", "weight")
    assert found.layout.number_formats == {
        "load": NumberFormat(thousands=",", unit="$"),
        "temp": NumberFormat(decimal=","),
        "weight": NumberFormat(unit="kg"),
    }
    steps = found.table.column("sequence").to_pylist()[0]
    assert steps[1] == [1001.5, 1.25, 1.0]
    assert np.isnan(steps[0][1])
    assert found.table.column("load").combine_chunks().to_numpy_ndarray()[0].tolist() == [1006.5, 1007.5]
    assert found.notes[0] == "load: numbers are read: '$1,000.50' as 1000.5 $, '$1,001.50' as 1001.5 $"


def test_amounts_that_may_be_two_numbers() -> None:
    table = TABLE.set_column(1, "load", pa.array([f"{hour % 9 + 1},{hour % 7}00" for hour in range(HOURS)]))
    with pytest.raises(InputError, match=r"set 'data\.decimal=,' or 'data\.decimal=\.'"):
        arrange(table, "load", *FORECAST)
    assert arrange(table, "load", *FORECAST, "data.decimal=,").layout is not None


def test_series_with_columns_of_their_own() -> None:
    found = arrange(UNITS, "broken", *SERIES)
    assert found.layout is not None
    assert found.layout.channels == ("s1",)
    assert found.table.column_names == ["maker", "broken", "sequence"]
    assert found.table.column("sequence").to_pylist()[1] == [[3.0], [4.0], [5.0]]
    assert found.notes == ("4 series of 12 rows",)


def test_series_are_split_by_a_column_of_their_own() -> None:
    assert arrange(UNITS, "broken", *SERIES, "split.by=group:maker").table.column("maker").to_pylist() == [*"xyxy"]


def test_other_tables_stay_as_they_are() -> None:
    assert arrange(UNITS, "broken").table is UNITS


@pytest.mark.parametrize(
    ("table", "target", "assignments", "message"),
    [
        (TABLE, "load", ("data.horizon=3",), "data.horizon=3 needs data.window"),
        (TABLE, "load", ("data.window=3",), "data.window needs data.time"),
        (TABLE, "load", ("data.time=hour",), "data.time orders the steps of series"),
        (TABLE, "load", (*FORECAST, "split.by=random"), "a forecast is split by time"),
        (TABLE, "load", (*FORECAST, "split.by=time:hour"), "a forecast is split by time"),
        (UNITS, "broken", (*SERIES, "split.by=group:unit"), "the rows of each 'unit' form one example"),
        (UNITS, "broken", (*SERIES, "split.by=time:step"), "'step' varies within a series"),
        (UNITS, "broken", (*SERIES, "split.by=group:s1"), "'s1' varies within a series"),
        (UNITS.append_column("s2", UNITS["s1"]), "s1", SERIES, "the target must be the same in all rows of a series"),
        (UNITS, "broken", (*SERIES, "data.kinds={s1: categorical}"), "data.kinds: 's1' is a channel of the series"),
        (UNITS, "broken", (*SERIES, "data.date_formats={s1: '%Y'}"), "data.date_formats: 's1' is a channel"),
        (UNITS, "broken", (*SERIES, "data.na_values={s1: ['-', x]}"), """set 'data.na_values=["-", "x"]'"""),
        (UNITS, "broken", (*SERIES, "data.drop=[s1]"), "No column is left that varies within a series"),
    ],
)
def test_what_does_not_go_together(table: pa.Table, target: str, assignments: tuple[str, ...], message: str) -> None:
    with pytest.raises(InputError) as raised:
        arrange(table, target, *assignments)
    assert message in "\n".join((raised.value.message, *raised.value.details))


@pytest.mark.parametrize("typed", [False, True])
def test_days_in_digits_follow_each_other(typed: bool) -> None:
    days = [int(f"2024{month:02}{day:02}") for month, last in ((1, 31), (2, 29), (3, 31)) for day in range(1, last + 1)]
    table = pa.table({"t": days if typed else list(map(str, days)), "load": [float(day % 7) for day in days]})
    arranged = arrange(table, "load", "data.time=t", "data.window=7", "data.horizon=1")
    assert arranged.layout is not None
    assert arranged.layout.step is not None
    assert (arranged.layout.step.size, arranged.layout.step.unit) == (86_400, "second")
    assert not any("absent" in note for note in arranged.notes)
