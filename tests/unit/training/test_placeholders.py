"""Numbers of nines that are far from all others, as files write missing values."""

import numpy as np
import pytest

from dle_training.data.columns import placeholders

ONES = [1.0, 2.0, 3.5]


@pytest.mark.parametrize(
    ("values", "found"),
    [
        ([*ONES, -999.0, -999.0], "-999"),
        ([*ONES, 9999.0], "9999"),
        ([*ONES, np.nan, -99.0, np.inf], "-99"),
        ([*ONES, 99.9], "99.9"),
        ([*ONES, -32768.0], "-32768"),
        ([*range(10), *[-200.0] * 5], "-200"),
        ([*range(10), *[-200.0] * 4], None),  # seldom
        ([*ONES, *[-200.0] * 5], None),  # codes
        ([*ONES, -1000.0], None),
        ([*ONES, -9.0], None),
        ([*range(95), 99.0], None),  # not far
        ([1.0, 2.0, 999.0], None),  # too few others
        ([np.nan], None),
        ([99.0, 99.0], None),
    ],
)
def test_find(values: list[float], found: str | None) -> None:
    assert placeholders.find(np.array(values)) == found


DAYS = [19_700 * 86_400, 19_731 * 86_400, 19_760 * 86_400]


@pytest.mark.parametrize("far", [-2_208_988_800, 253_402_214_400, -62_135_596_800])
def test_find_date(far: int) -> None:
    assert placeholders.find_date(np.array([*DAYS, far, far])) == far
    assert placeholders.find_date(np.array([*DAYS, far])) is None, "once"
    assert placeholders.find_date(np.array([*DAYS, 19_790 * 86_400, 19_790 * 86_400])) is None, "not far"
    assert placeholders.find_date(np.array([DAYS[0], far, far])) is None, "too few others"
