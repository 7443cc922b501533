"""What settings make of a long table, and which do not go together."""

import pyarrow as pa
import pytest

from dle_bundle.errors import InputError
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
    assert (found.layout.channels, found.layout.window) == (("load", "temp"), 6)
    assert found.dropped == {"sky": "no number"}
    assert set(found.table.column("sequence").combine_chunks().value_lengths().to_pylist()) == {6}


def test_a_channel_is_left_out() -> None:
    found = arrange(TABLE, "load", *FORECAST, "data.drop=[temp]")
    assert found.layout is not None
    assert found.layout.channels == ("load",)


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
        (UNITS, "broken", (*SERIES, "data.drop=[s1]"), "No column is left that varies within a series"),
    ],
)
def test_what_does_not_go_together(table: pa.Table, target: str, assignments: tuple[str, ...], message: str) -> None:
    with pytest.raises(InputError) as raised:
        arrange(table, target, *assignments)
    assert message in "\n".join((raised.value.message, *raised.value.details))
