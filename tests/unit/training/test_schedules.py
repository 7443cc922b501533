"""The values of the learning-rate schedules."""

import itertools

import pytest
from tests.configs import resolved

from dle_training.optimization import schedules
from dle_training.optimization.schedules import ScheduleConfig


@pytest.mark.parametrize(
    ("config", "values"),
    [
        (ScheduleConfig(name="constant"), {0: 1, 5: 1, 10: 1}),
        (ScheduleConfig(name="step", step_epochs=4, gamma=0.5), {0: 1, 3.99: 1, 4: 0.5, 8: 0.25, 10: 0.25}),
        (ScheduleConfig(name="exponential", gamma=0.81), {0: 1, 0.5: 0.9, 1: 0.81, 2: 0.6561}),
        (ScheduleConfig(name="cosine"), {0: 1, 2.5: 0.853553, 5: 0.5, 10: 0}),
        (ScheduleConfig(name="cosine", final_fraction=0.2), {0: 1, 5: 0.6, 10: 0.2, 11: 0.2}),
        # log2(1 + 15 · t) counts the waves, and each ends where it is a whole number
        (ScheduleConfig(name="coslog4"), {0: 0, 10 / 15: 0, 2: 0, 70 / 15: 0, 10: 0, 11: 0}),
        (ScheduleConfig(name="coslog4"), {10 * (2**0.5 - 1) / 15: 1, 10 * (2**3.5 - 1) / 15: 1, 2 / 3 + 1e-9: 0}),
    ],
)
def test_values(config: ScheduleConfig, values: dict[float, float]) -> None:
    assert {epoch: schedules.factor(config, epoch, 10) for epoch in values} == pytest.approx(values, abs=1e-6)


@pytest.mark.parametrize("name", [name for name in schedules.SCHEDULES if name != "coslog4"])
def test_every_schedule_starts_at_the_peak_and_never_rises(name: str) -> None:
    config = ScheduleConfig(name=name, gamma=schedules.SCHEDULES[name].gamma)
    factors = [schedules.factor(config, epoch / 10, 30) for epoch in range(301)]
    assert factors[0] == 1
    assert all(0 <= after <= before for before, after in itertools.pairwise(factors))


def test_regularisation_is_flat_and_then_falls_along_half_a_cosine() -> None:
    config = ScheduleConfig(regularisation="flat_cosine")
    expected = {0: 1, 3: 1, 5: 1, 6.25: (1 + 0.5**0.5) / 2, 7.5: 0.5, 10: 0}
    assert {epoch: schedules.regularisation(config, epoch, 10) for epoch in expected} == pytest.approx(expected)
    assert schedules.regularisation(ScheduleConfig(regularisation="constant"), 9, 10) == 1


def test_an_open_gamma_is_the_own_one_of_the_schedule() -> None:
    assert resolved("schedule.name=step").schedule.gamma == schedules.SCHEDULES["step"].gamma
    assert resolved("schedule.name=step", "schedule.gamma=0.7").schedule.gamma == 0.7
    assert resolved("schedule.name=cosine").schedule.gamma is None
