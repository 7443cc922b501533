"""Which trial is chosen: the best, or the simplest that is about as good; and what is on the Pareto front."""

import pytest

from dle_bundle.errors import InputError
from dle_training.search import settings, study
from dle_training.search.leaderboard import TrialRow, pareto
from dle_training.search.selection import Candidate, simplest
from dle_training.search.settings import StudyConfig


def candidate(number: int, score: float, parameters: int, error: float | None = None) -> Candidate:
    return Candidate(number=number, score=score, scores=(score,), parameters=parameters, seconds=1.0, error=error)


def test_one_standard_error_takes_the_smallest_of_those_that_are_about_as_good() -> None:
    all_of_them = [
        candidate(0, 0.90, 900, error=0.02),
        candidate(1, 0.89, 500, error=0.01),
        candidate(2, 0.885, 100, error=0.01),
        candidate(3, 0.87, 10, error=0.5),  # only the best one's error counts
    ]
    assert simplest(all_of_them, higher_is_better=True).number == 2
    losses = [candidate(each.number, 1 - each.score, each.parameters, each.error) for each in all_of_them]
    assert simplest(losses, higher_is_better=False).number == 2


def test_of_equal_sizes_the_better_one() -> None:
    both = [candidate(0, 0.90, 100, error=0.05), candidate(1, 0.91, 100, error=0.05)]
    assert simplest(both, higher_is_better=True).number == 1


def row(number: int, score: float | None, latency: float | None) -> TrialRow:
    return TrialRow(number=number, state="complete", point={}, score=score, latency=latency)


def test_the_pareto_front_has_what_nothing_beats_in_both() -> None:
    rows = [row(0, 0.9, 3.0), row(1, 0.8, 1.0), row(2, 0.8, 2.0), row(3, 0.85, 2.0), row(4, None, None), row(5, 0.9, 9)]
    assert pareto(rows, higher_is_better=True) == {0, 1, 3}
    losses = [row(each.number, None if each.score is None else -each.score, each.latency) for each in rows]
    assert pareto(losses, higher_is_better=False) == {0, 1, 3}


@pytest.mark.parametrize(
    ("asked", "combinations", "count"), [(None, None, 20), (5, None, 5), (None, 12, 12), (5, 12, 5), (40, 12, 12)]
)
def test_how_many_trials_there_are(asked: int | None, combinations: int | None, count: int) -> None:
    assert settings.trials(StudyConfig(trials=asked), combinations) == count


def test_faults_of_settings_and_space_are_told_together() -> None:
    with pytest.raises(InputError) as caught:
        study.request(
            {"study": {"search": "annealing"}, "optimizer": {"lr": {"log": [1, 0]}}},
            ["study.jobs=0", "study.rule=one_standard_error"],
            {},
        )
    told = "\n".join(caught.value.details)
    for part in ("study.search", "study.jobs", "optimizer.lr", "study.rule"):
        assert part in told
