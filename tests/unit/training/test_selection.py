"""Which trial is chosen: the best, or the simplest that is about as good; and what is on the Pareto front."""

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import pytest
from tests import people

from dle_bundle.errors import InputError
from dle_training.config.run_config import RunConfig
from dle_training.search import selection, settings, study, trial_locks
from dle_training.search.leaderboard import TrialRow, pareto
from dle_training.search.selection import Candidate, simplest
from dle_training.search.settings import StudyConfig
from dle_training.search.shared_data import PreparedData
from dle_training.search.study import Study, StudyFolder
from dle_training.search.trial import RESULT, TrialResult


def candidate(number: int, score: float, parameters: int, error: float | None = None) -> Candidate:
    return Candidate(number=number, score=score, parameters=parameters, seconds=1.0, error=error)


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


@pytest.fixture
def study_of_two(tmp_path: Path) -> Study:
    """Two complete trials: trial 0 has many parameters, and trial 1 few. Trial 0 has the better score."""
    people.write_people(tmp_path / "people.csv", 100)
    flags = {"data.source": str(tmp_path / "people.csv"), "data.target": "buys", "study.search": "grid"}
    settings = ["training.epochs=1", "study.pruner=none", "study.seeds=4", "study.finalists=2"]
    asked = study.request({}, settings, flags, [], ["model.hidden=[64],[4]"])
    made = study.create(StudyFolder(tmp_path / "study"), study.plan(asked))
    for number, (loss, parameters) in enumerate([(0.10, 900), (0.30, 50)]):
        claim = trial_locks.claim(made, 1)[0]
        assert claim.number == number
        made.begin(number, claim.point)
        result = TrialResult(parameters=parameters, seconds=1.0, epochs=1, best_epoch=1)
        claim.trial.set_user_attr(RESULT, msgspec.to_builtins(result))
        made.trials.study.tell(claim.trial, loss)
        claim.lock.release()
    return made


@pytest.mark.parametrize(
    ("rule", "losses", "chosen"),
    [
        ("best", [[0.48, 0.46, 0.50], [0.46, 0.42, 0.44]], 1),  # 0.48 and 0.44; with their own scores 0.385 and 0.405
        # 0.03 apart, standard error 0.0115; with their own scores 0.0725 apart, standard error 0.0806
        ("one_standard_error", [[0.42, 0.40, 0.44], [0.45, 0.43, 0.47]], 0),
        ("one_standard_error", [[0.42, 0.38, 0.46], [0.44, 0.44, 0.44]], 1),  # 0.02 apart, standard error 0.0231
    ],
)
def test_the_score_that_made_a_finalist_is_no_part_of_its_statistics(
    study_of_two: Study, monkeypatch: pytest.MonkeyPatch, rule: Any, losses: list[list[float]], chosen: int
) -> None:
    scores = {(number, seed): losses[number][seed - 1] for number in (0, 1) for seed in (1, 2, 3)}

    def score(study: Study, folder: Path, config: RunConfig, *_: object) -> float:
        return scores[int(folder.name[:3]), config.seed]

    monkeypatch.setattr(selection, "_score", score)
    asked = study_of_two.request
    made = replace(study_of_two, request=replace(asked, settings=settings.changed(asked.settings, {"rule": rule})))
    with PreparedData(made, lambda: study.read_again(made)) as data:
        decided = selection._decided(made, data, lambda _: [])
    assert decided.number == chosen
    for finalist in decided.finalists:
        own = losses[finalist.number]
        assert finalist.scores == tuple(own)
        assert finalist.score == pytest.approx(sum(own) / 3)
        sd = math.sqrt(sum((each - finalist.score) ** 2 for each in own) / 2)
        assert finalist.sd == pytest.approx(sd)
        assert finalist.error == pytest.approx(sd / math.sqrt(3))


@pytest.mark.parametrize(
    ("given", "fault"),
    [
        (["study.seeds=3"], "does not count), found 2: --set study.seeds=4"),
        (["study.seeds=2", "split.folds=5"], "does not count), found 1: --set study.seeds=4"),
        (["split.folds=2"], "scores of each trial, found 2: --folds 3 or --set study.seeds=4"),
        ([], "found 1: --folds 3 or --set study.seeds=4"),
        (["study.seeds=4"], None),
        (["split.folds=3"], None),
    ],
)
def test_a_standard_error_takes_three_scores(given: list[str], fault: str | None) -> None:
    settings = ["study.rule=one_standard_error", *given]
    if fault is None:
        assert study.request({}, settings, {}).settings.rule == "one_standard_error"
    else:
        with pytest.raises(InputError, match="one_standard_error expects at least 3") as caught:
            study.request({}, settings, {})
        assert fault in str(caught.value)


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
