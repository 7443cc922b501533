"""A pack from file to prediction: trained, evaluated, exported, and asked from both sides."""

import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from safetensors import deserialize
from tests import commands
from tests.people import write_people

import dle_serving
import dle_training
from dle_bundle.tables import table_files
from dle_training.ensembles import distillation
from dle_training.export import latency
from dle_training.scoring.metrics import METRICS

pytestmark = pytest.mark.e2e
BRIEF = [
    word
    for setting in ("name=pack", "pack.members=3", "pack.width=16", "pack.cosines=[3,3]")
    for word in ("--set", f"model.{setting}")
]


@pytest.mark.parametrize(("target", "folds"), [("buys", 5), ("level", 1), ("spent", 3)])
def test_from_file_to_prediction(tmp_path: Path, target: str, folds: int) -> None:
    source = write_people(tmp_path / "people.csv", target=target)
    settings = [*BRIEF, "--set", f"model.pack.folds={folds}", "--set", "training.epochs=12"]
    trained = commands.document("dle-train", source, "--target", target, *settings, "--out", "run", folder=tmp_path)
    new = tmp_path / "new.csv"
    source.rename(new)  # the run needs its source no more
    test = commands.document("dle-evaluate", "run", folder=tmp_path)["test"]
    measure, limit = ("r2", 0.3) if target == "spent" else ("accuracy", 0.55)
    assert test[measure] > limit
    assert trained["validation"][measure] > limit
    commands.run("dle-export", "run", "--to", "bundle", folder=tmp_path)
    commands.run("dle-predict", "bundle", new, "--out", "answers.parquet", folder=tmp_path)
    own = dle_training.Run(tmp_path / "run").predict(pd.read_csv(new)).to_pandas()
    served = table_files.read(tmp_path / "answers.parquet").to_pandas()
    for column in own.columns:
        if own[column].dtype.kind == "f":
            np.testing.assert_allclose(served[column], own[column], rtol=1e-5, atol=1e-5)
        else:
            assert served[column].tolist() == own[column].tolist()


@pytest.mark.parametrize(
    "settings",
    [
        ["--preset", "fast"],
        ["--preset", "default"],  # with folds
        ["--preset", "default", "--set", "model.pack.folds=1"],
        ["--preset", "best"],
        ["--preset", "default", "--set", "training.distill=true"],  # with folds
        ["--preset", "default", "--set", "model.pack.folds=1", "--max-latency", "1.5"],
    ],
    ids=" ".join,
)
def test_the_test_part_chooses_nothing(tmp_path: Path, settings: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """With the targets of the test part turned round, training gives the same validation scores and weights."""
    monkeypatch.setattr(latency, "single_row", lambda model, sample: float(len(model.network)))
    monkeypatch.setattr(distillation, "_STEPS", 30)
    honest = write_people(tmp_path / "honest.csv", 200)
    small = ["--target", "buys", "--split", "random", "--set", "training.epochs=3", *settings]
    first = commands.document("dle-train", honest, *small, "--out", "honest", folder=tmp_path)
    test = set(np.load(tmp_path / "honest" / "split.npz")["test"].tolist())
    header, *rows = (line.rpartition(",") for line in honest.read_text().splitlines())
    turned = {"yes": "no", "no": "yes"}
    lines = ["".join(header)]
    lines += [f"{values},{turned[answer] if row in test else answer}" for row, (values, _, answer) in enumerate(rows)]
    (tmp_path / "poisoned.csv").write_text("\n".join(lines) + "\n")
    second = commands.document("dle-train", "poisoned.csv", *small, "--out", "poisoned", folder=tmp_path)
    assert first["validation"] == second["validation"]
    assert first.get("choices") == second.get("choices")
    one, other = (tmp_path / name / "checkpoints" for name in ("honest", "poisoned"))
    for file in one.rglob("best.safetensors"):
        assert _tensors(file.read_bytes()) == _tensors((other / file.relative_to(one)).read_bytes())


def test_the_exported_ensemble_is_as_honest_as_its_answers_out_of_fold(tmp_path: Path) -> None:
    """The mean of all copies is sharper than the copies that the temperature was fitted on, but not by much."""
    source = write_people(tmp_path / "people.csv", 3_000)
    settings = [*BRIEF, "--set", "model.pack.folds=5", "--set", "training.epochs=25", "--set", "split.test=0.6"]
    trained = commands.document("dle-train", source, "--target", "buys", *settings, "--out", "run", folder=tmp_path)
    commands.run("dle-export", "run", "--to", "bundle", folder=tmp_path)
    rows = pd.read_csv(source).iloc[np.load(tmp_path / "run" / "split.npz")["test"]]
    answers = dle_serving.load(tmp_path / "bundle").predict(rows.drop(columns="buys")).to_pandas()
    probabilities = answers[["probability_no", "probability_yes"]].to_numpy()
    actual = (rows["buys"] == "yes").to_numpy().astype(int)
    for name, room in (("ece", 0.015), ("log_loss", 0.015)):
        score = METRICS[name].score
        assert score is not None
        found = score(probabilities, actual)
        assert found is not None
        assert found <= trained["validation"][name] + room, name


def test_minutes_are_planned_first_and_the_plan_is_in_the_configuration(tmp_path: Path) -> None:
    write_people(tmp_path / "people.csv", 200)
    small = ["people.csv", "--target", "buys", "--set", "model.pack.width=8", "--set", "training.epochs=2"]
    said = commands.run("dle-train", *small, "--minutes", "5", "--out", "run", folder=tmp_path).stdout
    plan = re.search(r"Plan for 5 minutes: (\d+) members, (?:5 folds, )?up to 2 epochs; predicted training time:", said)
    assert plan is not None, said
    assert said.index(plan[0]) < said.index("Trained")
    written = (tmp_path / "run" / "config.yaml").read_text()
    assert f"members: {plan[1]}\n" in written
    assert len((tmp_path / "run" / "history.jsonl").read_text().splitlines()) == 2
    found = commands.document("dle-train", *small, "--minutes", "5", "--out", "again", folder=tmp_path)["plan"]
    assert (found["minutes"], found["epochs"], f"{found['members']}") == (5, 2, plan[1])
    assert found["predicted_seconds"] > 0
    short = commands.refusal("dle-train", *small, "--minutes", "0", "--out", "short", folder=tmp_path)
    assert "0 minutes are too short" in short
    assert "expected --minutes of at least" in short
    resumed = commands.refusal("dle-train", "--resume", "--minutes", "5", "--out", "run", folder=tmp_path)
    assert "--minutes" in resumed


def _tensors(content: bytes) -> dict[str, bytes]:
    return {name: bytes(tensor["data"]) for name, tensor in deserialize(content)}  # type: ignore[no-untyped-call]
