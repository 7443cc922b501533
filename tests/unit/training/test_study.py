"""A study as it is asked for, made and opened again: what is refused, and in which words."""

import errno
from pathlib import Path
from typing import Any

import pytest
from optuna.storages.journal import JournalFileBackend
from optuna.trial import TrialState
from tests import people

from dle_bundle.errors import InputError
from dle_training.runs import folder as run_folder
from dle_training.runs.folder import RunFolder
from dle_training.search import study as studies
from dle_training.search import trial_locks, work
from dle_training.search.shared_data import PreparedData
from dle_training.search.study import Study, StudyFolder
from dle_training.search.trial import Watcher

SPACE = ["optimizer.lr={log: [1e-3, 1e-2]}"]


@pytest.fixture
def made(tmp_path: Path) -> Study:
    people.write_people(tmp_path / "people.csv", 100)
    flags = {"data.source": str(tmp_path / "people.csv"), "data.target": "buys", "study.trials": 2}
    asked = studies.request({}, [], flags, SPACE)
    return studies.create(StudyFolder(tmp_path / "study"), studies.plan(asked))


def refusal(error: pytest.ExceptionInfo[InputError]) -> list[str]:
    return [error.value.message, *error.value.details]


@pytest.mark.parametrize(
    ("assignments", "flags", "spaces", "fault"),
    [
        (["optimizer.lr={log: [1e-4, 1e-2]}"], {}, [], "--set optimizer.lr: expected a value, found a space: give it"),
        ([], {"study.search": "grid"}, [], "study.search: a grid needs lists of values: give them, as in --grid"),
        ([], {"study.search": "grid"}, SPACE, "optimizer.lr: expected a choice, found a range"),
        ([], {"study.jobs": 0}, SPACE, "study.jobs: expected int >= 1, found 0"),
    ],
)
def test_what_a_request_is_refused_for(
    assignments: list[str], flags: dict[str, object], spaces: list[str], fault: str
) -> None:
    with pytest.raises(InputError) as caught:
        studies.request({}, assignments, {"data.source": "nowhere.csv", **flags}, spaces)
    message, *details = refusal(caught)
    assert message == "The search must change"
    assert len(details) == 1
    assert details[0].startswith(fault)


def test_a_pack_is_not_refitted(tmp_path: Path) -> None:
    people.write_people(tmp_path / "people.csv", 100)
    flags = {"data.source": str(tmp_path / "people.csv"), "data.target": "buys", "study.refit": True}
    for setting, proposal in (("model.name=pack", "model.name=mlp"), ("preset=best", "--preset fast")):
        with pytest.raises(InputError, match=f"set study.refit=false, or .*{proposal}"):
            studies.plan(studies.request({}, [setting], flags, SPACE))


def test_studies_of_one_folder_have_names_of_their_own(made: Study, tmp_path: Path) -> None:
    """Of a command that was killed while it made its study, the storage has the study and the folder is not there."""
    other = studies.create(StudyFolder(tmp_path / "other" / "study"), studies.plan(made.request))
    names = {studies.read(each.folder)[0] for each in (made, other)}
    assert len(names) == 2
    assert all(name.startswith("study-") for name in names)
    assert {each.trials.study.study_name for each in (made, other)} == names


def test_a_study_may_grow(made: Study) -> None:
    assert trial_locks.grown(made, 5).count == 5
    assert studies.open_study(made.folder).count == 5
    assert trial_locks.grown(made, 5).count == 5, "or stay as it is"
    with pytest.raises(InputError, match="expected 5 \\(the present number\\) or more, found 4"):
        trial_locks.grown(made, 4)


def test_a_grid_grows_up_to_its_combinations(made: Study, tmp_path: Path) -> None:
    flags = {"data.source": str(tmp_path / "people.csv"), "data.target": "buys", "study.trials": 1}
    asked = studies.request({}, [], {**flags, "study.search": "grid"}, grids=["optimizer.lr=1e-3,1e-2,1e-1"])
    study = studies.create(StudyFolder(tmp_path / "grid"), studies.plan(asked))
    with pytest.raises(
        InputError, match="expected 1 \\(the present number\\) or up to 3 \\(its whole grid\\), found 4"
    ):
        trial_locks.grown(study, 4)
    assert trial_locks.grown(study, 3).count == 3


def test_a_study_does_not_grow_while_somebody_works_on_it(made: Study) -> None:
    (claim,) = trial_locks.claim(made, 1)
    with pytest.raises(InputError, match="trials are being trained"):
        trial_locks.grown(made, 5)
    assert trial_locks.grown(made, 2) is made, "but may be joined by the same command"
    claim.lock.release()
    assert trial_locks.grown(made, 5).count == 5


def test_a_line_for_which_the_disk_had_no_room_is_taken_back(made: Study, monkeypatch: pytest.MonkeyPatch) -> None:
    other = studies.open_study(made.folder)

    def half_a_line(journal: JournalFileBackend, logs: list[dict[str, Any]]) -> None:
        with made.folder.journal.open("ab") as file:
            file.write(b'{"op_code": 4, "worker')
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as full, pytest.raises(OSError, match="No space left"):
        full.setattr(JournalFileBackend, "append_logs", half_a_line)
        made.trials.study.ask()
    other.trials.study.ask()
    assert [trial.number for trial in studies.open_study(made.folder).trials.all()] == [0]


def test_another_source_is_told_from_one_that_moved(made: Study, tmp_path: Path) -> None:
    first = tmp_path / "people.csv"
    (tmp_path / "moved.csv").write_bytes(first.read_bytes())
    assert len(studies.read_again(made, {"data.source": str(tmp_path / "moved.csv")}).target) == 100
    people.write_people(tmp_path / "other.csv", 101)
    with pytest.raises(InputError) as caught:
        studies.read_again(made, {"data.source": str(tmp_path / "other.csv")})
    assert f"the content of {tmp_path}/other.csv differs from that of {first} (100 rows then, 101 now)" in refusal(
        caught
    )
    (tmp_path / "without.csv").write_text("a,b\n1,2\n3,4\n")
    with pytest.raises(InputError) as caught:
        studies.read_again(made, {"data.source": str(tmp_path / "without.csv")})
    message, *details = refusal(caught)
    assert message.startswith(f"{made.folder.path} is a study of {first}, but {tmp_path}/without.csv cannot be read")
    assert "no column 'buys' to predict" in details[0]


def test_no_trial_is_stopped_after_its_last_epoch(tmp_path: Path) -> None:
    """A rung at the last epoch spares nothing, and would keep one trial in three."""
    people.write_people(tmp_path / "people.csv", 100)
    flags = {"data.source": str(tmp_path / "people.csv"), "data.target": "buys", "study.trials": 6}
    rung = ["training.epochs=3", "study.least_epochs=3", "study.pruner=halving", "model.hidden=[8]", "device=cpu"]
    planned = studies.plan(studies.request({}, rung, flags, SPACE))
    study = studies.create(StudyFolder(tmp_path / "study"), planned)
    with PreparedData(study, lambda: planned.prepared.dataset) as data:
        work.work(study, data, Watcher(), work.Deadline(None), 1)
    assert [each.state for each in study.trials.all()] == [TrialState.COMPLETE] * 6
    assert [sorted(each.intermediate_values) for each in study.trials.all()] == [[1, 2, 3]] * 6


@pytest.mark.parametrize(
    ("trials", "named", "pruner"), [(19, None, "none"), (20, None, "halving"), (19, "hyperband", "hyperband")]
)
def test_few_trials_are_not_pruned_unless_a_pruner_is_named(
    tmp_path: Path, trials: int, named: str | None, pruner: str
) -> None:
    people.write_people(tmp_path / "people.csv", 100)
    flags = {"data.source": str(tmp_path / "people.csv"), "data.target": "buys", "study.trials": trials}
    planned = studies.plan(studies.request({}, [], {**flags, "study.pruner": named}, SPACE))
    study = studies.create(StudyFolder(tmp_path / "study"), planned)
    assert study.request.settings.pruner == pruner
    assert trial_locks.grown(study, 20).request.settings.pruner == pruner, "a study that grows keeps its pruner"


def test_runs_and_studies_are_told_apart(made: Study, tmp_path: Path) -> None:
    path = made.folder.path
    with pytest.raises(InputError, match=f"{path}: the study has not finished: dle-tune --resume --out {path}"):
        run_folder.found(path)
    with pytest.raises(InputError, match=f"continue that study with dle-tune --resume --out {path}, or"):
        run_folder.refuse_existing(path)
    with pytest.raises(InputError, match=f"this is a study, not a run: dle-tune --resume --out {path}"):
        RunFolder(path).read_config()
    fold = made.folder.trial(0).path / "folds" / "1"
    fold.mkdir(parents=True)
    (fold / "config.yaml").touch()
    with pytest.raises(InputError, match=f"keeps no rows. Name the study, {path}, or train the trial"):
        run_folder.found(fold)
    run = tmp_path / "run"
    run.mkdir()
    with pytest.raises(InputError, match="exists already: choose another folder"):
        run_folder.refuse_existing(run)
    (run / "config.yaml").touch()
    with pytest.raises(InputError, match=f"continue that run with dle-train --resume --out {run}, or"):
        run_folder.refuse_existing(run)
    with pytest.raises(InputError, match=f"{run} is a run, not a study: dle-train --resume --out {run}"):
        studies.read(StudyFolder(run))
