"""Runs side by side: what they are ranked by, who is ranked with whom, and what a path that is no run is told."""

import shutil
from pathlib import Path
from typing import Any

import pytest
from tests import people

from dle_bundle import documents
from dle_bundle.errors import InputError
from dle_training.config import run_config
from dle_training.export import latency
from dle_training.runs import cross_validation, evaluate, prepare
from dle_training.runs import train as run_training
from dle_training.runs.folder import RunFolder
from dle_training.search import compare as comparing
from dle_training.search import study
from dle_training.search.compare import Group
from dle_training.search.study import StudyFolder

SMALL = ("preset=fast", "training.epochs=2", "model.hidden=[8]", "device=cpu")


def train(folder: Path, name: str, target: str, *settings: str, folds: bool = False) -> RunFolder:
    """A small run, finished."""
    flags = {"data.source": str(folder / f"{target}.csv"), "data.target": target}
    prepared = prepare.prepare(run_config.load(None, [*SMALL, *settings], flags))
    made = prepare.create(folder / name, prepared)
    run_training.train(made, prepared)
    if folds:
        cross_validation.validate(made, prepared, lambda _: [])
    return made


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Runs `a` (evaluated), `b` (cross-validated), `loss` (by another metric) and `spent` (other data)."""
    folder = tmp_path_factory.mktemp("compare")
    for target in ("buys", "spent"):
        people.write_people(folder / f"{target}.csv", 200, target=target)
    evaluate.evaluate(train(folder, "a", "buys", "training.metric=accuracy"))
    train(folder, "b", "buys", "training.metric=accuracy", "split.folds=2", "optimizer.lr=1e-6", folds=True)
    train(folder, "loss", "buys", "seed=1")
    train(folder, "weighted", "buys", "objective.class_weights=balanced")
    train(folder, "spent-run", "spent")
    return folder


def compare(folder: Path, *names: str) -> list[Group]:
    return comparing.compare([folder / name for name in names], lambda done, total: None)


def test_losses_with_class_weights_are_not_compared(folder: Path) -> None:
    (group,) = compare(folder, "weighted")
    assert group.metric == "log_loss"
    assert group.runs[0].validation is not None
    assert group.runs[0].validation["log_loss"] is not None


def names(group: Group) -> list[str]:
    return [Path(entry.path).name for entry in group.runs]


def test_the_better_score_of_the_common_metric_is_first(folder: Path) -> None:
    (group,) = compare(folder, "b", "a")
    assert (group.metric, group.task, group.target, group.same_rows) == ("accuracy", "binary", "buys", True)
    assert group.source == str(folder / "buys.csv")
    scores = [entry.validation["accuracy"] for entry in group.runs if entry.validation is not None]
    assert scores == sorted(scores, key=lambda score: -(score or 0))
    a = next(entry for entry in group.runs if entry.path.endswith("a"))
    b = next(entry for entry in group.runs if entry.path.endswith("b"))
    assert a.test is not None
    assert b.test is None
    assert a.cross_validation is None
    assert b.cross_validation is not None
    assert b.cross_validation.folds == 2
    assert a.parameters is not None
    assert a.parameters == b.parameters
    assert a.seconds
    assert any(entry.on_front for entry in group.runs)


def test_other_data_and_targets_are_ranked_apart(folder: Path) -> None:
    first, second = compare(folder, "a", "spent-run", "b")
    assert sorted(names(first)) == ["a", "b"]
    assert (names(second), second.metric, second.task) == (["spent-run"], "rmse", "regression")


def test_different_metrics_and_splits(folder: Path) -> None:
    (group,) = compare(folder, "a", "loss")
    assert group.metric == "log_loss"
    assert not group.same_rows


def test_a_latency_is_measured_once(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (before,) = compare(folder, "a")
    assert (folder / "a" / "latency.json").is_file()

    def fail(*_: Any) -> float:
        raise AssertionError("measured again")

    monkeypatch.setattr(latency, "single_row", fail)
    assert compare(folder, "a") == [before]


def test_a_latency_needs_the_rows_that_the_run_keeps_and_no_source(folder: Path, tmp_path: Path) -> None:
    shutil.copytree(folder / "a", tmp_path / "gone")
    (tmp_path / "gone" / "latency.json").unlink(missing_ok=True)
    config = tmp_path / "gone" / "config.yaml"
    config.write_text(config.read_text().replace(str(folder / "buys.csv"), str(tmp_path / "moved.csv")))
    ((entry,),) = (group.runs for group in compare(tmp_path, "gone"))
    assert entry.latency
    (tmp_path / "gone" / "latency.json").unlink()
    RunFolder(tmp_path / "gone").training_sample.unlink()
    ((entry,),) = (group.runs for group in compare(tmp_path, "gone"))
    assert entry.latency is None
    assert entry.parameters is not None
    assert entry.note is not None
    assert "latency is not known" in entry.note
    assert "training_sample.parquet" in entry.note


def test_unfinished_runs_and_studies_come_last(folder: Path, tmp_path: Path) -> None:
    shutil.copytree(folder / "a", tmp_path / "begun")
    (tmp_path / "begun" / "metrics.json").unlink()
    fixed = {"data": {"source": str(folder / "buys.csv"), "target": "buys"}, "device": "cpu"}
    asked = study.request(fixed, [], {}, ["optimizer.lr={log: [1e-3, 1e-2]}"])
    study.create(StudyFolder(tmp_path / "study"), study.plan(asked))
    paths = [tmp_path / "study", tmp_path / "begun", folder / "a"]
    (group,) = comparing.compare(paths, lambda done, total: None)
    assert names(group)[0] == "a"
    assert set(names(group)[1:]) == {"study", "begun"}
    again = f"has not finished: dle-tune --resume --out {tmp_path / 'study'}"
    assert {Path(entry.path).name: entry.note for entry in group.runs} == {
        "a": None, "begun": "has not finished", "study": again
    }  # fmt: skip
    assert [entry.study for entry in group.runs if entry.path.endswith("study")] == [True]


def test_a_study_counts_as_its_selected_run_and_no_run_twice(folder: Path, tmp_path: Path) -> None:
    shutil.copytree(folder / "a", tmp_path / "study" / "selected")
    (tmp_path / "study" / "study.yaml").write_text("study: {}\n")
    ((entry,),) = (group.runs for group in compare(tmp_path, "study", "study/selected", "study"))
    assert entry.study
    assert entry.path == str(tmp_path / "study")
    assert entry.test == documents.read(folder / "a" / "metrics.json", dict)["test"]


def test_all_paths_that_are_no_runs_are_told(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "notes.txt").touch()
    paths = [tmp_path / name for name in ("empty", "notes.txt", "nowhere")]
    with pytest.raises(InputError, match="3 of 4 paths") as caught:
        comparing.compare([folder / "a", *paths], lambda done, total: None)
    for path, told in zip(paths, ("this is not a run", "a file", "nothing is there"), strict=True):
        assert any(str(path) in detail and told in detail for detail in caught.value.details)


def test_progress_counts_what_is_timed(folder: Path, tmp_path: Path) -> None:
    shutil.copytree(folder / "a", tmp_path / "fresh")
    (tmp_path / "fresh" / "latency.json").unlink(missing_ok=True)
    told: list[tuple[int, int]] = []
    comparing.compare([tmp_path / "fresh"], lambda done, total: told.append((done, total)))
    comparing.compare([tmp_path / "fresh"], lambda done, total: told.append((done, total)))
    assert told == [(0, 1), (1, 1)]
