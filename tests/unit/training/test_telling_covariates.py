"""Covariates of a forecast that tell its target."""

import re
import shlex

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pytest

from dle_training.config import run_config
from dle_training.data import dataset, memory

STEPS = 400
RNG = np.random.default_rng(3)
LOAD = 50 + np.cumsum(RNG.normal(size=STEPS)) + 5 * np.sin(np.arange(STEPS) / 24 * 2 * np.pi)
NOISE = RNG.normal(size=STEPS)


def warnings(*settings: str, horizon: int = 3, **columns: npt.NDArray[np.generic]) -> tuple[str, ...]:
    table = pa.table({"hour": np.arange(STEPS), "load": LOAD, **columns})
    given = ["data.target=load", "data.time=hour", "data.window=8", f"data.horizon={horizon}", *settings]
    return dataset.load(run_config.load(None, given), memory.read(table)).warnings


@pytest.mark.parametrize("horizon", [1, 3])
def test_a_known_copy_of_the_target(horizon: int) -> None:
    (warning,) = warnings("data.known=[same,promo]", horizon=horizon, same=LOAD, promo=NOISE)
    assert warning == "same is a copy of load; leave it out with --set 'data.drop=[same]' --set 'data.known=[promo]'"
    cures = [word for cure in re.findall("'[^']*'", warning) for word in shlex.split(cure)]
    assert not warnings("data.known=[same,promo]", *cures, horizon=horizon, same=LOAD, promo=NOISE)
    (warning,) = warnings("data.known=[cents]", horizon=horizon, cents=np.round(LOAD * 119))
    assert warning.startswith("cents alone tells load: r2 1 on training rows held back; if it is known only after load")


@pytest.mark.parametrize("earlier", [1, 2])
def test_a_known_column_of_later_values(earlier: int) -> None:
    """The value of an hour stands beside an earlier one, or beside a later one that is forecast with it."""
    (warning,) = warnings("data.known=[shifted]", shifted=np.roll(LOAD, -earlier))
    assert warning.startswith("shifted alone tells load: r2 1 ")
    (warning,) = warnings("data.known=[shifted]", shifted=np.roll(LOAD, earlier))
    assert warning.startswith("shifted alone tells load: r2 1 ")


def test_a_past_column_of_later_values() -> None:
    (warning,) = warnings(shifted=np.roll(LOAD, -1))
    assert warning.startswith("shifted alone tells load: r2 1 ")
    assert warning.endswith("leave it out with 'data.drop=[shifted]'")


def test_what_was_known_before_tells_nothing() -> None:
    """A copy of the past, the value three hours before a forecast of three hours, and the hour of the day."""
    assert not warnings(same=LOAD)
    assert not warnings("data.known=[before]", before=np.roll(LOAD, 3))
    assert not warnings("data.known=[of_day]", of_day=np.arange(STEPS) % 24)
    assert not warnings("data.known=[before]", horizon=1, before=np.roll(LOAD, 1))


def test_a_static_column_that_tells_a_level_is_no_leak() -> None:
    """Each shop has its level, which the window shows too; the value that each shop will have is told."""
    shops = np.repeat(np.arange(60), 20)
    levels = 10.0 ** (shops % 4)
    steps, own = np.tile(np.arange(20), 60), np.random.default_rng(0).normal(size=60)[shops]

    def told(sales: npt.NDArray[np.floating], of_shop: npt.NDArray[np.floating]) -> tuple[str, ...]:
        table = pa.table({"shop": shops, "day": steps, "sales": sales, "size": of_shop})
        given = ["data.target=sales", "data.time=day", "data.sequence_id=shop", "data.window=6", "data.static=[size]"]
        return dataset.load(run_config.load(None, given), memory.read(table)).warnings

    assert not told(levels + RNG.normal(size=len(shops)), levels)
    (warning,) = told(np.where(steps > 5, own, RNG.normal(size=len(shops))), own)
    assert warning.startswith("size alone tells sales: r2 ")
    assert warning.endswith("leave it out with --set 'data.drop=[size]' --set 'data.static=[]'")
