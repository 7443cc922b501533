"""Boosted trees and a linear model beside the model of a table: printed, kept, scored on the test part, reported."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests import commands
from tests.people import write_people

import dle_training
from dle_bundle.errors import InputError, Interrupted
from dle_bundle.groups import Groups
from dle_cli import train
from dle_training.ensembles import folds
from dle_training.scoring import table_baselines
from dle_training.scoring.metrics import Predictions
from dle_training.scoring.table_baselines import Predict

pytestmark = pytest.mark.e2e
BRIEF = ("--set", "model.name=mlp", "--set", "model.hidden=[8]", "--set", "training.epochs=2")
PACK = [
    word
    for setting in ("name=pack", "pack.members=2", "pack.width=8", "pack.cosines=[2,2]", "pack.folds=3")
    for word in ("--set", f"model.{setting}")
] + ["--set", "training.epochs=2"]


def trained(folder: Path, *options: str, target: str = "buys", rows: int = 150, out: str = "run") -> dict[str, Any]:
    """The document of a short training with baselines."""
    if not (folder / "people.csv").exists():
        write_people(folder / "people.csv", rows, target=target)
    return commands.document(
        "dle-train", "people.csv", "--target", target, "--baseline", *options, "--out", out, folder=folder
    )


def answers(run: Path) -> dict[str, np.ndarray]:
    with np.load(run / "rows" / "baseline_answers.npz") as arrays:
        return {name: arrays[name] for name in arrays.files}


@pytest.mark.parametrize(("target", "model"), [("buys", BRIEF), ("level", PACK), ("spent", PACK)])
def test_from_training_to_report(tmp_path: Path, target: str, model: tuple[str, ...]) -> None:
    said = trained(tmp_path, *model, target=target, rows=300)
    assert list(said["baselines"]) == list(said["baseline_seconds"]) == ["trees", "linear"]
    for scores in said["baselines"].values():
        assert set(scores) == set(said["validation"])
        assert scores["r2" if target == "spent" else "accuracy"] > 0.5
    assert all(seconds > 0 for seconds in said["baseline_seconds"].values())
    evaluated = commands.document("dle-evaluate", "run", folder=tmp_path)
    assert list(evaluated["baselines"]) == list(said["baselines"])
    assert all(set(scores) == set(evaluated["test"]) for scores in evaluated["baselines"].values())
    assert "ahead" in evaluated["comparison"]
    known = json.loads((tmp_path / "run" / "metrics.json").read_text())
    assert known["comparison"] == evaluated["comparison"]
    assert {name: own["validation"] for name, own in known["baselines"].items()} == said["baselines"]
    assert {name: own["test"] for name, own in known["baselines"].items()} == evaluated["baselines"]
    page = (tmp_path / "run" / "report.html").read_text()
    assert f"{evaluated['comparison']}." in page
    for part in ("test", "validation" if model == BRIEF else "out of fold"):
        assert f'<th class="n" colspan="3">{part}</th>' in page
    kept = answers(tmp_path / "run")["trees"]
    assert len(kept) == evaluated["rows"]
    run = dle_training.Run(tmp_path / "run")
    assert {name: own.test for name, own in run.baselines.items()} == evaluated["baselines"]


def test_people_see_one_table(tmp_path: Path) -> None:
    write_people(tmp_path / "people.csv", 150)
    options = ("people.csv", "--target", "buys", "--baseline", *BRIEF, "--out", "run")
    done = commands.run("dle-train", *options, folder=tmp_path)
    assert "Baselines: trees, linear" in done.stderr
    lines = [line.split() for line in done.stdout[done.stdout.index("Validation\n") :].splitlines()]
    assert ["metric", "model", "trees", "linear"] in lines
    for name in ("accuracy", "log_loss", "seconds"):
        (row,) = [line for line in lines if line[:1] == [name]]
        assert len([float(cell) for cell in row[1:]]) == 3
    again = commands.run("dle-train", "--resume", "--out", "run", folder=tmp_path).stdout
    assert again.partition("\n")[2] == done.stdout[done.stdout.index("Trained\n") :]
    printed = commands.run("dle-evaluate", "run", folder=tmp_path).stdout
    assert "ahead of" in printed
    assert ["metric", "model", "trees", "linear"] in [line.split() for line in printed.splitlines()]


def test_none_are_trained_when_nobody_wants_them(tmp_path: Path) -> None:
    write_people(tmp_path / "people.csv", 150)
    options = ("people.csv", "--target", "buys", "--no-baseline", *BRIEF)
    said = commands.document("dle-train", *options, "--out", "run", folder=tmp_path)
    assert "baselines" not in said
    assert commands.document("dle-evaluate", "run", folder=tmp_path)["baselines"] is None
    assert "Beside trees" not in (tmp_path / "run" / "report.html").read_text()
    assert "baseline: false" in (tmp_path / "run" / "config.yaml").read_text()
    warned = commands.run("dle-train", *options, "--set", "training.baseline=true", "--out", "other", folder=tmp_path)
    assert "--no-baseline overrides --set training.baseline=true" in warned.stderr


@pytest.mark.parametrize(("model", "kind"), [(PACK, "out-of-fold"), (BRIEF, "validation")])
def test_scores_without_baselines_say_which_rows_they_are_of(tmp_path: Path, model: tuple[str, ...], kind: str) -> None:
    write_people(tmp_path / "people.csv", 150)
    options = ("people.csv", "--target", "buys", "--no-baseline", *model, "--out", "run")
    lines = [line.split()[:2] for line in commands.run("dle-train", *options, folder=tmp_path).stdout.splitlines()]
    assert [first for first, *rest in filter(None, lines) if rest == ["log_loss"]] == [kind]


def test_a_pack_with_folds_is_compared_out_of_its_own_folds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each baseline answers the rows of a fold without having learnt from them, and the test rows by the mean."""
    fitted, said = list[str](), dict[str, list[np.ndarray]]()
    fit, draw, drawn = table_baselines.fit, folds.draw, list[Any]()

    def noted(name: str, groups: Groups, *rest: Any) -> Predict:
        predict, learnt = fit(name, groups, *rest), each_row(groups)
        fitted.append(name)

        def answer(asked: Groups) -> Predictions:
            assert not each_row(asked) & learnt
            said.setdefault(name, []).append(predict(asked))
            return said[name][-1]

        return answer

    def noted_draw(*given: Any) -> Any:
        drawn.append(draw(*given))
        return drawn[-1]

    monkeypatch.setattr(table_baselines, "fit", noted)
    monkeypatch.setattr(folds, "draw", noted_draw)
    trained(tmp_path, *PACK)
    assert fitted == ["trees"] * 3 + ["linear"] * 3
    assert len({tuple(each.tolist()) for each in drawn}) == 1, "the folds are those of the pack"
    for name, kept in answers(tmp_path / "run").items():
        validated, test = said[name][:3], said[name][3:]
        assert sum(map(len, validated)) == 150 - len(kept)
        np.testing.assert_allclose(kept, np.mean(test, axis=0))


def each_row(groups: Groups) -> set[bytes]:
    """The numbers and dates of each row."""
    return {row.tobytes() for row in np.hstack([groups.numeric, groups.datetime])}


def test_the_labels_of_the_test_part_change_nothing_but_the_test_scores(tmp_path: Path) -> None:
    found, scores = [], []
    for name, turned in (("honest", False), ("poisoned", True)):
        folder = tmp_path / name
        folder.mkdir()
        lines = write_people(folder / "people.csv", 200).read_text().splitlines()
        marked = [f"{lines[0]},split"]
        for number, line in enumerate(lines[1:]):
            part = ("train", "train", "train", "validation", "test")[number % 5]
            values, _, label = line.rpartition(",")
            turn = turned and part == "test"
            marked.append(f"{values},{ {'yes': 'no', 'no': 'yes'}[label] if turn else label },{part}")
        (folder / "people.csv").write_text("\n".join(marked) + "\n")
        scores.append(trained(folder, *BRIEF)["baselines"])
        found.append(answers(folder / "run"))
    assert scores[0] == scores[1]
    for name in table_baselines.BASELINES:
        assert np.array_equal(found[0][name], found[1][name])
    tests = [commands.document("dle-evaluate", "run", folder=tmp_path / name) for name in ("honest", "poisoned")]
    assert tests[0]["baselines"] != tests[1]["baselines"]


def test_interrupted_among_the_baselines_the_run_continues_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_people(tmp_path / "people.csv", 150)

    def interrupted(*given: Any) -> Any:
        raise KeyboardInterrupt

    options = ("people.csv", "--target", "buys", "--baseline", *BRIEF, "--out", "run")
    with monkeypatch.context() as patched:
        patched.setattr(table_baselines, "fit", interrupted)
        done = commands.run("dle-train", *options, code=130, folder=tmp_path)
        assert "the model is finished" in done.stderr
        assert "dle-train --resume --out run" in done.stderr
    best = tmp_path / "run" / "checkpoints" / "best.safetensors"
    before, history = best.read_bytes(), (tmp_path / "run" / "history.jsonl").read_text()
    assert commands.document("dle-evaluate", "run", folder=tmp_path)["baselines"] is None
    resumed = commands.document("dle-train", "--resume", "--out", "run", folder=tmp_path)
    assert set(resumed["baselines"]) == {"trees", "linear"}
    assert best.read_bytes() == before
    assert (tmp_path / "run" / "history.jsonl").read_text() == history
    assert "ahead of" in commands.document("dle-evaluate", "run", folder=tmp_path)["comparison"]


def test_a_large_table_has_none_unless_they_are_asked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = [{"x": index / 7, "y": index % 3 / 2} for index in range(60)]
    settings: dict[str, Any] = {"model": {"name": "mlp", "hidden": [4]}, "training.epochs": 1, "progress": False}
    with_them = dle_training.train(rows, "y", out=tmp_path / "small", **settings)
    assert set(with_them.baselines) == {"trees", "linear"}
    monkeypatch.setattr(table_baselines, "MOST_CELLS", 1_000)
    without = dle_training.train(rows, "y", out=tmp_path / "large", **settings)
    assert without.baselines == {}
    (note,) = [note for note in without.notes if "boosted trees" in note]
    assert note.endswith("; baseline=True trains them")
    asked = dle_training.train(rows, "y", out=tmp_path / "asked", baseline=True, **settings)
    assert set(asked.baselines) == {"trees", "linear"}
    assert not [note for note in asked.notes if "boosted trees" in note]
    with pytest.raises(InputError, match="leave out target, baseline"):
        dle_training.train(rows, "y", out=tmp_path / "asked", baseline=True, resume=True, progress=False)


def test_the_note_names_the_option(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from dle_training.config import run_config
    from dle_training.runs import prepare

    monkeypatch.setattr(table_baselines, "MOST_CELLS", 1_000)
    write_people(tmp_path / "people.csv", 150)
    asked = run_config.load(None, [], {"data.source": str(tmp_path / "people.csv"), "data.target": "buys"})
    prepared = prepare.prepare(asked)
    assert prepared.config.training.baseline is False
    assert [note for note in prepared.dataset.notes if note.endswith("; --baseline trains them")]


def test_no_kept_rows_no_answers(tmp_path: Path) -> None:
    trained(tmp_path, *BRIEF, "--set", "data.keep_rows=0")
    assert not (tmp_path / "run" / "rows" / "baseline_answers.npz").exists()
    found = commands.document("dle-evaluate", "run", "--data", "people.csv", folder=tmp_path)
    assert (found["baselines"], found["comparison"]) == (None, None)
    page = (tmp_path / "run" / "report.html").read_text()
    assert '<th class="n" colspan="3">validation</th>' in page
    assert '<th class="n" colspan="3">test</th>' not in page


def test_refit_baselines_answer_the_test_part_by_all_rows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sizes, fit = list[int](), table_baselines.fit

    def noted(name: str, groups: Groups, *rest: Any) -> Predict:
        sizes.append(len(groups))
        return fit(name, groups, *rest)

    monkeypatch.setattr(table_baselines, "fit", noted)
    said = trained(tmp_path, *BRIEF, "--set", "training.refit=true")
    both = said["rows"]["train"] + said["rows"]["validation"]
    assert sizes == [said["rows"]["train"], both] * 2


def test_class_weights(tmp_path: Path) -> None:
    said = trained(tmp_path, *BRIEF, "--set", "objective.class_weights=balanced", rows=400)
    assert all(scores["log_loss"] < 0.69 for scores in said["baselines"].values())


def test_other_data_is_refused_or_has_none(tmp_path: Path) -> None:
    draw = np.random.default_rng(0)
    np.savez(tmp_path / "series.npz", X=draw.normal(size=(60, 1, 8)), y=np.arange(60) % 2)
    refused = commands.refusal("dle-train", "series.npz", "--baseline", "--out", "run", folder=tmp_path)
    assert "baselines read columns alone, but the data has series: use --no-baseline" in refused
    assert "without --engine ray" in commands.refusal(
        "dle-train", "series.npz", "--baseline", "--engine", "ray", folder=tmp_path
    )


def test_a_cluster_trains_none() -> None:
    assert train._with_baseline(None, "ray") is train._with_baseline(False, "ray") is False
    assert train._with_baseline(None, None) is None


def test_unreadable_answers_are_named(tmp_path: Path) -> None:
    trained(tmp_path, *BRIEF)
    (tmp_path / "run" / "rows" / "baseline_answers.npz").write_bytes(b"PK")
    assert "baseline_answers.npz: no readable answers" in commands.refusal("dle-evaluate", "run", folder=tmp_path)


def test_a_study_trains_none(tmp_path: Path) -> None:
    write_people(tmp_path / "people.csv", 150)
    commands.run(
        "dle-tune", "people.csv", "--target", "buys", *BRIEF, "--set", "training.baseline=true", "--trials", "1",
        "--jobs", "1", "--out", "study", "--quiet", "--space", "optimizer.lr={log: [1e-3, 1e-2]}", folder=tmp_path,
    )  # fmt: skip
    assert "baseline: false" in (tmp_path / "study" / "selected" / "config.yaml").read_text()
    assert "baselines" not in json.loads((tmp_path / "study" / "selected" / "metrics.json").read_text())
    refused = commands.refusal(
        "dle-tune", "people.csv", "--target", "buys", "--space", "training.baseline={choice: [true, false]}",
        folder=tmp_path,
    )  # fmt: skip
    assert "trials have no baselines" in refused


def test_python_users_are_interrupted_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*given: Any) -> Any:
        raise KeyboardInterrupt

    monkeypatch.setattr(table_baselines, "fit", interrupted)
    rows = [{"x": index / 7, "y": index % 3 / 2} for index in range(60)]
    with pytest.raises(Interrupted, match="the model is finished"):
        dle_training.train(rows, "y", out=tmp_path / "run", progress=False, model={"name": "mlp", "hidden": [4]})
