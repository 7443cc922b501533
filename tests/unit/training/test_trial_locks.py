"""Abandoned trials: which process resumes them, and when they count as failed."""

import errno
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from optuna.trial import TrialState
from tests import people

from dle_bundle.errors import Interrupted
from dle_training import packed
from dle_training.fitting.listeners import EpochRecord, Listener
from dle_training.packed import Member, MemberFailure, MemberResult
from dle_training.search import leaderboard, trial_locks, work
from dle_training.search import study as studies
from dle_training.search.points import Point
from dle_training.search.shared_data import PreparedData
from dle_training.search.storage import StorageError
from dle_training.search.study import Study, StudyFolder
from dle_training.search.trial import TrialTraining, Watcher


def small_study(folder: Path, *settings: str) -> Study:
    """Two trials, not pruned."""
    people.write_people(folder / "people.csv", 100)
    flags = {"data.source": str(folder / "people.csv"), "data.target": "buys", "study.trials": 2}
    asked = studies.request({}, ["study.pruner=none", *settings], flags, ["model.dropout={float: [0, 0.5]}"])
    return studies.create(StudyFolder(folder / "study"), studies.plan(asked))


@pytest.fixture
def study(tmp_path: Path) -> Study:
    return small_study(tmp_path, "training.epochs=2")


class Killed(BaseException):
    """Stands for the end of a process, which runs no handler of ours."""


class Killer(Watcher):
    """Kills the process at the first sight of each epoch of the first trial."""

    def __init__(self) -> None:
        self.seen: list[int] = []
        self.ended: list[tuple[int, str, str | None]] = []

    def on_epoch(self, number: int, epoch: int, score: float) -> None:
        if number == 0 and epoch not in self.seen:
            self.seen.append(epoch)
            raise Killed

    def on_end(self, number: int, state: str, score: float | None, error: str | None) -> None:
        self.ended.append((number, state, error))


def processes(study: Study, watcher: Watcher) -> int:
    """Work on the study in one process after another until no trial is left; how many of them were killed."""
    killed = 0
    dataset = studies.read_again(study)
    while True:
        try:
            with PreparedData(study, lambda: dataset) as data:
                work.work(study, data, watcher, work.Deadline(None), 1)
        except Killed:
            killed += 1
        else:
            return killed


def test_the_first_trial_has_the_defaults_as_far_as_the_space_holds_them(tmp_path: Path) -> None:
    people.write_people(tmp_path / "people.csv", 100)
    flags = {"data.source": str(tmp_path / "people.csv"), "data.target": "buys"}
    spaces = [
        "optimizer.lr={log: [1e-4, 1e-2]}", "optimizer.weight_decay={float: [0.5, 0.6]}",
        "model.hidden={choice: [[8], [256, 256, 256]]}", "model.dropout={float: [0, 0.5]}",
    ]  # fmt: skip
    for search, first in (("random", True), ("tpe", True), ("grid", False)):
        own = ["optimizer.lr={choice: [1e-4, 2e-3]}"] if search == "grid" else spaces
        asked = studies.request({}, [], {**flags, "study.search": search}, own)
        study = studies.create(StudyFolder(tmp_path / search), studies.plan(asked))
        point = trial_locks.claim(study, 1)[0].point
        if first:
            assert {**point, "optimizer.weight_decay": 0} == {
                "optimizer.lr": 2e-3, "optimizer.weight_decay": 0, "model.hidden": [256, 256, 256], "model.dropout": 0.1
            }  # fmt: skip
            assert 0.5 <= point["optimizer.weight_decay"] <= 0.6
            assert trial_locks.claim(study, 1)[0].point["optimizer.lr"] != 2e-3
        else:
            assert point == {"optimizer.lr": 1e-4}


def test_a_trial_that_kills_its_processes_fails(tmp_path: Path) -> None:
    """Whatever epoch it reaches: without a saved state the next process begins where the last one did."""
    study = small_study(tmp_path, "training.epochs=9", "study.packing=never")
    watcher = Killer()
    assert processes(study, watcher) == trial_locks.MOST_ATTEMPTS
    assert study.trials.all()[0].state == TrialState.FAIL
    assert watcher.ended[0] == (0, "fail", "3 processes died on it before they could save its state")
    assert [number for number, _, _ in watcher.ended] == [0, 1]


def test_a_trial_that_gets_further_each_time_never_fails(tmp_path: Path) -> None:
    """Each process saves the state after every step, and is killed when the next epoch has ended."""
    study = small_study(tmp_path, "training.epochs=9", "training.patience=0", "training.checkpoint_seconds=1e-9")
    watcher = Killer()
    assert processes(study, watcher) == 9 > trial_locks.MOST_ATTEMPTS
    assert [state for _, state, _ in watcher.ended] == ["complete"] * 2


def test_a_fold_that_has_ended_is_progress(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A process is killed in each fold, after the folds before it have ended."""
    study = small_study(tmp_path, "training.epochs=1", "split.folds=5", "study.packing=never")
    killed: set[tuple[int, int]] = set()
    alone = TrialTraining.alone

    def killed_once(training: TrialTraining, fold: int) -> None:
        if (training.claim.number, fold) not in killed:
            killed.add((training.claim.number, fold))
            raise Killed
        alone(training, fold)

    monkeypatch.setattr(TrialTraining, "alone", killed_once)
    assert processes(study, Watcher()) == 10
    assert [trial.state for trial in study.trials.all()] == [TrialState.COMPLETE] * 2


def test_a_trial_that_has_not_begun_is_not_blamed_for_a_death(study: Study) -> None:
    for _ in range(2 * trial_locks.MOST_ATTEMPTS):
        first, second = trial_locks.claim(study, 2)
        assert (first.number, second.number) == (0, 1)
        assert first.attempts == second.attempts == 0
        first.lock.release()
        second.lock.release()


def test_a_trial_that_ends_between_two_looks_is_not_gone_on_with(study: Study, monkeypatch: pytest.MonkeyPatch) -> None:
    first = trial_locks.claim(study, 1)[0]
    before = study.trials.all()
    first.lock.release()
    study.trials.study.tell(first.trial, 0.5)
    monkeypatch.setattr(type(study.trials), "all", lambda _: before)
    assert [claim.number for claim in trial_locks.claim(study, 1)] == [1]
    assert study.trials.study.trials[0].state == TrialState.COMPLETE


def test_ctrl_c_is_no_attempt(study: Study, monkeypatch: pytest.MonkeyPatch) -> None:
    def stopped(training: TrialTraining, fold: int) -> None:
        raise Interrupted("Interrupted before the first step")

    dataset = studies.read_again(study)
    with PreparedData(study, lambda: dataset) as data:
        monkeypatch.setattr(TrialTraining, "alone", stopped)
        monkeypatch.setattr("dle_training.packed.faster", lambda _: False)
        for _ in range(2 * trial_locks.MOST_ATTEMPTS):
            with pytest.raises(Interrupted):
                work.work_once(study, data, Watcher(), work.Deadline(None), 1, {})
    assert [claim.attempts for claim in trial_locks.claim(study, 2)] == [0, 0]


def test_ctrl_c_after_a_trial_has_ended_is_no_attempt_at_the_others(study: Study) -> None:
    first, second = trial_locks.claim(study, 2)
    for each in (first, second):
        each.begin()
    study.trials.study.tell(first.trial, state=TrialState.PRUNED)
    for each in (first, second):
        each.leave()
        each.lock.release()
    (again,) = trial_locks.claim(study, 2)
    assert (again.number, again.attempts) == (1, 0)


def test_trials_whose_turn_has_not_come_are_there_for_others(study: Study) -> None:
    """A process claims all trials, trains them one after another, and finds the second with somebody else."""
    dataset = studies.read_again(study)
    elsewhere: list[trial_locks.Claim] = []
    begun: list[int] = []

    class Other(Watcher):
        def on_begin(self, number: int, point: Point, epochs: int) -> None:
            if not elsewhere:
                elsewhere.extend(trial_locks.claim(study, 2))
            begun.append(number)

    with PreparedData(study, lambda: dataset) as data:
        config = study.resolved(studies.first_point(study))
        never = {packed.signature(config, data.of(config, 0)): False}
        assert work.work_once(study, data, Other(), work.Deadline(None), 1, never)
        assert [claim.number for claim in elsewhere] == [1]
        assert begun == [0]
        elsewhere[0].lock.release()
        assert work.work_once(study, data, Other(), work.Deadline(None), 1, never)
    assert begun == [0, 1]
    assert [trial.state for trial in study.trials.all()] == [TrialState.COMPLETE] * 2


def test_when_the_time_is_over_what_was_claimed_first_is_trained_all_the_same(study: Study) -> None:
    """However short the time, a process gets further; those that have not begun are in no table."""
    dataset = studies.read_again(study)
    with PreparedData(study, lambda: dataset) as data:
        config = study.resolved(studies.first_point(study))
        never = {packed.signature(config, data.of(config, 0)): False}
        assert work.work_once(study, data, Watcher(), work.Deadline(0.0), 1, never)
    assert [trial.state for trial in study.trials.all()] == [TrialState.COMPLETE, TrialState.RUNNING]
    assert [row.number for row in leaderboard.make(study, {})] == [0]


def test_a_claim_that_is_taken_again_knows_what_has_happened_meanwhile(study: Study) -> None:
    _, second = trial_locks.claim(study, 2)
    second.lock.release()
    for _ in range(trial_locks.MOST_ATTEMPTS - 1):
        (elsewhere,) = trial_locks.claim(study, 1)
        elsewhere.trial.report(0.5, step=1 + elsewhere.attempts)
        elsewhere.begin()
        elsewhere.lock.release()
    again = trial_locks.regain(study, second)
    assert again is not None
    assert (again.number, again.attempts) == (1, trial_locks.MOST_ATTEMPTS - 1)
    assert sorted(study.trials.all()[1].intermediate_values) == [1, 2]
    again.begin()
    again.lock.release()
    assert trial_locks.regain(study, second) is None, "the next process that claims it fails it"
    assert not second.lock.held


@pytest.mark.parametrize(
    "error", [OSError(errno.ENOSPC, "No space left"), StorageError("The storage cannot be reached")]
)
def test_a_fault_of_disk_or_storage_is_no_death(
    study: Study, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    def fails(attempt: TrialTraining, fold: int) -> None:
        raise error

    dataset = studies.read_again(study)
    with PreparedData(study, lambda: dataset) as data:
        config = study.resolved(studies.first_point(study))
        never = {packed.signature(config, data.of(config, 0)): False}
        for _ in range(2 * trial_locks.MOST_ATTEMPTS):
            with monkeypatch.context() as patched, pytest.raises(type(error)):
                patched.setattr(TrialTraining, "alone", fails)
                work.work_once(study, data, Watcher(), work.Deadline(None), 1, never)
        work.work(study, data, Watcher(), work.Deadline(None), 1)
    assert [trial.state for trial in study.trials.all()] == [TrialState.COMPLETE] * 2


def test_where_memory_lacks_for_a_pack_its_trials_are_trained_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The pruner hears of each epoch once, whatever became of the pack."""
    people.write_people(tmp_path / "people.csv", 100)
    flags = {"data.source": str(tmp_path / "people.csv"), "data.target": "buys", "study.trials": 2}
    settings = ["training.epochs=3", "training.patience=0", "study.pruner=halving", "study.least_epochs=3"]
    asked = studies.request({}, settings, flags, ["model.dropout={float: [0, 0.5]}"])
    study = studies.create(StudyFolder(tmp_path / "study"), studies.plan(asked))

    class Heavy(Listener):
        def on_epoch(self, history: Sequence[EpochRecord], best_epoch: int) -> None:
            raise RuntimeError("DefaultCPUAllocator: can't allocate memory")

    fit = packed.fit

    def without_room(members: Sequence[Member]) -> list[MemberResult | MemberFailure]:
        first = members[0]
        return fit([replace(first, listeners=[*first.listeners, Heavy()]), *members[1:]])

    monkeypatch.setattr("dle_training.packed.loop.fit", without_room)
    monkeypatch.setattr("dle_training.packed.faster", lambda _: True)
    steps: list[tuple[int, int]] = []

    class Ear(Watcher):
        def on_epoch(self, number: int, epoch: int, score: float) -> None:
            steps.append((number, epoch))

    dataset = studies.read_again(study)
    with PreparedData(study, lambda: dataset) as data:
        work.work(study, data, Ear(), work.Deadline(None), 1)
    assert [trial.state for trial in study.trials.all()] == [TrialState.COMPLETE] * 2
    assert [sorted(trial.intermediate_values) for trial in study.trials.all()] == [[1, 2, 3]] * 2
    assert max(steps) == (1, 3)


def test_what_is_left_behind_is_not_waited_for_after_the_deadline(study: Study) -> None:
    trial_locks.claim(study, 1)[0].lock.release()
    assert work.wait_for_others(study, work.Deadline(None))
    assert not work.wait_for_others(study, work.Deadline(0))
