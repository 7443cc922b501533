"""What is reported of the values of channels, with settings that work."""

import re
import shlex
from datetime import date, timedelta
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from dle_bundle.errors import InputError
from dle_bundle.values.missing import NA_VALUES
from dle_training.config import run_config
from dle_training.data import column_roles
from dle_training.data.column_roles import Arranged

N = 120
DAYS = [str(date(2024, 1, 1) + timedelta(days=place)) for place in range(N)]
LEVELS = [str(place % 7) for place in range(N)]
WIDE = [str(2**53 + 2 * place + 1) for place in range(N)]
FORECAST = ("data.time=day", "data.window=6", "data.horizon=2")
SERIES = ("data.sequence_id=unit", "data.time=day")


def arrange(target: str, *assignments: str, **columns: list[Any]) -> Arranged:
    config = run_config.load(None, list(assignments))
    return column_roles.arrange(pa.table({"day": DAYS, **columns}), config, target, _spellings(config.data.na_values))


def units(**columns: list[Any]) -> dict[str, list[Any]]:
    return {"unit": [f"u{place // 10}" for place in range(N)], "y": ["a"] * (N // 2) + ["b"] * (N // 2), **columns}


def about(found: Arranged, name: str) -> str:
    (note,) = (note for note in found.notes if note.startswith(f"{name}: "))
    return note


def cure(text: str) -> str:
    (found,) = re.findall(r"(?:set|;) ('[^']*'|data\.[\w.=-]+)", text)
    (word,) = shlex.split(found)
    return word


def missing(found: Arranged) -> int:
    steps = found.table.column("sequence").to_pylist()
    return sum(int(np.isnan(np.array(series, dtype=float)).any()) for series in steps)


def _spellings(given: Any) -> tuple[str, ...]:
    return (*NA_VALUES, *(given if isinstance(given, tuple | list) else ()))


def test_words_that_mean_missing() -> None:
    gaps = ["NA" if place % 5 == 0 else level for place, level in enumerate(LEVELS)]
    expected = "taken as missing: 'NA' in 24 rows of load; data.na_values=[…] adds spellings for all channels"
    assert expected in arrange("load", *FORECAST, load=gaps).notes
    expected = "taken as missing: 'NA' in 24 rows of s; data.na_values=[…] adds spellings for all channels"
    assert expected in arrange("y", *SERIES, **units(s=gaps)).notes


def test_words_that_are_kept() -> None:
    sky = ["None" if place % 4 == 0 else "grey" for place in range(N)]
    found = arrange("load", *FORECAST, load=LEVELS, sky=sky)
    assert found.layout is not None
    assert found.layout.categories["sky"].values == ("grey", "None")
    note = next(note for note in found.notes if "kept as a value" in note)
    assert note.startswith("sky: 'None' in 30 rows kept as a value; if")
    after = arrange("load", *FORECAST, cure(note), load=LEVELS, sky=sky)
    assert after.layout is not None
    assert after.layout.categories["sky"].values == ("grey",)


def test_placeholders() -> None:
    far = ["-999" if place % 40 == 3 else level for place, level in enumerate(LEVELS)]
    for target, settings, columns in (("load", FORECAST, {"load": far}), ("y", SERIES, units(load=far))):
        found = arrange(target, *settings, **columns)
        note = about(found, "load")
        assert note.startswith("load: -999 is far from all other values")
        assert missing(found) == 0
        assert missing(arrange(target, *settings, cure(note), **columns)) > 0


def test_numbers_that_are_rounded() -> None:
    found = arrange("load", *FORECAST, load=LEVELS, code=WIDE)
    note = about(found, "code")
    assert note.startswith(f"code: numbers beyond ±2⁵³, such as {WIDE[0]}, are rounded to 16 digits; if they are codes")
    after = arrange("load", *FORECAST, cure(note), load=LEVELS, code=WIDE)
    assert after.layout is not None
    assert after.layout.channels == ("load",)
    assert about(arrange("load", *FORECAST, load=WIDE), "load").endswith("are rounded to 16 digits")
    assert "rounded" in about(arrange("y", *SERIES, **units(s=LEVELS, code=WIDE)), "code")


def test_dates_are_no_channels() -> None:
    for days in (DAYS, DAYS[:12] * 10):
        found = arrange("load", *FORECAST, load=LEVELS, upd=days)
        reason = found.dropped["upd"]
        assert reason.startswith("dates are no channels")
        after = arrange("load", *FORECAST, cure(reason), load=LEVELS, upd=days)
        assert "upd" not in after.dropped
    months = [("January", "May", "July")[place % 3] for place in range(N)]
    found = arrange("load", *FORECAST, load=LEVELS, month=months)
    assert found.layout is not None
    assert set(found.layout.categories["month"].values) == {"January", "July", "May"}


def refusal(target: str, *assignments: str, **columns: list[Any]) -> str:
    with pytest.raises(InputError) as caught:
        arrange(target, *assignments, **columns)
    return "\n".join((caught.value.message, *caught.value.details))


def cures(message: str) -> list[str]:
    return [word for found in re.findall(r"set ('[^']*'|data\.[\w.=-]+)", message) for word in shlex.split(found)]


SLIP = ["5k" if place == 5 else str(place * 3 % 17) for place in range(N)]


def test_a_slip_among_plain_numbers_is_refused_as_in_a_table() -> None:
    expected = (
        "'temp': a column of numbers with something else in 1 of 120 rows: row 6 '5k'; to read '5k' as 5000, set "
        "data.kinds.temp=numeric; if they mean missing, set 'data.na_values=[5k]'; "
    )
    message = refusal("load", *FORECAST, load=LEVELS, temp=SLIP)
    assert message == f"{expected}if the column holds categories, set data.kinds.temp=categorical"
    for way, kinds in zip(cures(message), ([5000.0], [], ["5k"]), strict=True):
        found = arrange("load", *FORECAST, way, load=LEVELS, temp=SLIP)
        assert found.layout is not None
        steps = np.array(found.table.column("sequence").to_pylist(), dtype=float)[..., 1]
        assert ([5000.0] if 5000 in steps else []) == kinds or "5k" in found.layout.categories["temp"].values
        assert np.isnan(steps).any() == (way == "data.na_values=[5k]")
    message = refusal("y", *SERIES, **units(s=LEVELS, temp=SLIP))
    assert message == f"{expected}to leave the column out, set 'data.drop=[temp]'"
    for way in cures(message):
        assert arrange("y", *SERIES, way, **units(s=LEVELS, temp=SLIP)).layout is not None


def test_a_slip_of_the_target() -> None:
    message = refusal("load", *FORECAST, load=SLIP)
    assert cures(message) == ["data.kinds.load=numeric", "data.na_values=[5k]"]
    for way in cures(message):
        assert arrange("load", *FORECAST, way, load=SLIP).layout is not None


def test_the_faults_of_all_channels_are_reported_at_once() -> None:
    message = refusal("load", *FORECAST, load=SLIP, temp=SLIP, other=["soon", *LEVELS[1:]])
    assert message.startswith("Columns that cannot be used as they are\n'load': ")
    assert "\n'temp': " in message
    assert "\n'other': a column of numbers with something else in 1 of 120 rows: row 1 'soon'" in message


@pytest.mark.parametrize(("written", "read"), [("{:02}/2023", "%m/%Y"), ("{} May", "%d %B"), ("202401{:02}", "%Y%m%d")])
def test_dates_are_no_amounts(written: str, read: str) -> None:
    texts = [written.format(place % 9 + 1) for place in range(N)]
    found = arrange("load", *FORECAST, load=LEVELS, due=texts)
    reason = found.dropped["due"]
    assert reason.startswith(f"dates are no channels: dates read as {read}")
    assert reason.endswith("'data.drop=[due]' leaves the column out without a note")
    (way,) = cures(reason)
    assert way == "data.kinds.due=numeric"
    after = arrange("load", *FORECAST, way, load=LEVELS, due=texts)
    assert after.layout is not None
    assert after.layout.channels == ("load", "due")
    assert reason == arrange("y", *SERIES, **units(s=LEVELS, due=texts)).dropped["due"]
    assert f"'due': a forecast needs a target of numbers, and finds dates read as {read}" in refusal(
        "due", *FORECAST, due=texts
    )
