"""What is said while a study goes on: how far it is, and how long it takes yet."""

import time

import pytest
from tests import people

from dle_cli import tune
from dle_cli.tuning_progress import TuningProgress
from dle_training.search import study as studies
from dle_training.search.study import Study, StudyFolder


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Study:
    """A study of ten trials, of which none has begun."""
    folder = tmp_path_factory.mktemp("progress")
    people.write_people(folder / "people.csv", 100)
    flags = {"data.source": str(folder / "people.csv"), "data.target": "buys", "study.trials": 10}
    asked = studies.request({}, [], flags, ["optimizer.lr={log: [1e-3, 1e-2]}"])
    return studies.create(StudyFolder(folder / "study"), studies.plan(asked))


@pytest.mark.parametrize(
    ("timeout", "left", "further"),
    [(None, "left ≤ 36 s", "left ≤ 26 s"), (20.0, "left ≤ 20 s", "left ≤ 20 s")],
)
def test_time_left_counts_epochs_and_the_timeout(
    study: Study, monkeypatch: pytest.MonkeyPatch, timeout: float | None, left: str, further: str
) -> None:
    now = 100.0
    monkeypatch.setattr(time, "monotonic", lambda: now)
    progress = TuningProgress(study, timeout)
    assert progress._far() == "0 of 10"
    progress.on_begin(0, {}, 10)
    now = 100.5
    progress.on_epoch(0, 1, 0.7)
    assert "left" not in progress._far(), "the first epoch says nothing"
    now = 102.0
    progress.on_epoch(0, 5, 0.6)
    assert progress._far() == f"0 of 10 · 3.8 s a trial · {left}"
    progress.on_begin(1, {}, 10)
    progress.on_epoch(1, 9, 0.6)  # of a trial that is gone on with: its first eight epochs took no time
    assert progress._far() == f"0 of 10 · 3.0 s a trial · {further}"
    now = 102.2
    progress.on_end(1, "pruned", None, None)
    progress.on_end(0, "complete", 0.5, None)
    assert progress._far() == "2 of 10 · best log_loss 0.5 (trial 0) · 1.5 s a trial · left ≤ 12 s"
    progress.close()


@pytest.mark.parametrize("timeout", [None, 20.0])
def test_trials_that_run_past_the_time_limit_are_announced_once(
    study: Study, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], timeout: float | None
) -> None:
    now = 100.0
    monkeypatch.setattr(time, "monotonic", lambda: now)
    progress = TuningProgress(study, timeout)
    for number in (3, 1):
        progress.on_begin(number, {}, 10)
    now = 119.0
    progress.on_epoch(3, 1, 0.7)
    assert "time limit" not in capsys.readouterr().err
    said = ""
    for epoch in (2, 3):
        now += 2
        progress.on_epoch(3, epoch, 0.7)
        said += capsys.readouterr().err
    for number in (3, 1):
        progress.on_end(number, "complete", 0.7, None)
    assert ("left" in progress._far()) == (timeout is None), "nothing is left after the limit"
    progress.close()
    expected = (
        "The time limit of 20 s (study.timeout) is over: no further trial starts, and trials 1, 3 will be completed"
    )
    assert said.count(expected) == said.count("time limit") == (0 if timeout is None else 1)


def test_trials_that_were_not_started_are_told_from_those_that_have_not_ended(study: Study) -> None:
    assert tune._undone(study, 10) == "10 were not started"
    for _ in range(9):
        study.trials.study.ask()
    assert tune._undone(study, 10) == "1 was not started, 9 have not ended"
    assert tune._undone(study, 1) == "1 was not started"
