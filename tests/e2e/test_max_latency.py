"""A limit of latency, from the option to the report, and the same weights again from the configuration."""

import re
from pathlib import Path

import pytest
from safetensors import deserialize
from tests import commands
from tests.people import write_people

from dle_training.ensembles import choice, distillation
from dle_training.export import latency
from dle_training.runs import model_choices

pytestmark = pytest.mark.e2e
BRIEF = [
    word
    for setting in (
        "model.name=pack", "model.pack.members=4", "model.pack.width=16", "model.pack.cosines=[3,3]",
        "model.pack.most=4", "training.epochs=5",
    )
    for word in ("--set", setting)
]  # fmt: skip


@pytest.fixture(autouse=True)
def brief(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(distillation, "_STEPS", 30)
    monkeypatch.setattr(model_choices, "_LEAST_SHUFFLED", 500)
    monkeypatch.setattr(choice, "LEAST_GAIN", -1.0)  # four members, even if one alone is best


def weights(file: Path) -> dict[str, bytes]:
    content = file.read_bytes()
    return {name: bytes(tensor["data"]) for name, tensor in deserialize(content)}  # type: ignore[no-untyped-call]


def test_a_limit_that_all_choices_meet(tmp_path: Path) -> None:
    """The graphs are really measured."""
    write_people(tmp_path / "people.csv", 300)
    words = ["people.csv", "--target", "buys", *BRIEF, "--set", "model.pack.folds=1", "--max-latency", "1000"]
    said = commands.document("dle-train", *words, "--out", "run", folder=tmp_path)
    choices = said["choices"]["choices"]
    assert [each["members"] for each in choices] == [4, 2, 1]
    assert all(0 < each["milliseconds"] < 1000 for each in choices)
    assert not any(each["distilled"] for each in choices)
    assert said["choices"]["max_latency"] == 1000


@pytest.mark.parametrize(("target", "folds"), [("buys", 1), ("level", 3)])
def test_a_limit_that_few_choices_meet(
    tmp_path: Path, target: str, folds: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(latency, "single_row", lambda model, sample: len(model.network) / 100)
    write_people(tmp_path / "people.csv", 300, target=target)
    settings = [*BRIEF, "--set", f"model.pack.folds={folds}"]
    words = ["dle-train", "people.csv", "--target", target, *settings, "--max-latency", "0.015", "--out", "run"]
    done = commands.run(*words, folder=tmp_path)
    shown = done.stdout
    assert "distillation: epoch 1/" in done.stderr
    assert "Choices for a single row, at most 0.015 ms" in shown
    assert re.search(r"distilled network +\S+ +0\.01", shown)
    said = commands.document("dle-train", "--resume", "--out", "run", folder=tmp_path)
    taken = next(each for each in said["choices"]["choices"] if each["taken"])
    assert taken["milliseconds"] <= 0.015
    distilled = next(each for each in said["choices"]["choices"] if each["distilled"])
    assert distilled["difference"] > 0
    assert f"a mean Kullback-Leibler divergence of {distilled['difference']:.3g}." in shown
    assert said["validation"]["log_loss"] == pytest.approx(taken["score"], rel=1e-6)
    commands.run("dle-evaluate", "run", folder=tmp_path)
    report = (tmp_path / "run" / "report.html").read_text()
    assert (tmp_path / "run" / "figures" / "model_choices.png").is_file()
    assert "At most 0.015 ms were asked for" in report
    commands.run("dle-export", "run", "--to", "bundle", folder=tmp_path)

    def fail(*_: object) -> float:
        raise AssertionError("a replay needs no measurement to choose")

    file = "distilled/best.safetensors" if taken["distilled"] else "best.safetensors"
    monkeypatch.setattr(latency, "single_row", (lambda model, sample: 0.5) if taken["distilled"] else fail)
    commands.run("dle-train", "--config", "run/config.yaml", "--out", "again", folder=tmp_path)
    assert weights(tmp_path / "run" / "checkpoints" / file) == weights(tmp_path / "again" / "checkpoints" / file)


def test_a_limit_that_no_choice_meets_is_reported_and_the_run_is_not_lost(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(latency, "single_row", lambda model, sample: float(len(model.network)))
    write_people(tmp_path / "people.csv", 300)
    words = ["people.csv", "--target", "buys", *BRIEF, "--set", "model.pack.folds=1", "--max-latency", "0.2"]
    done = commands.run("dle-train", *words, "--out", "run", folder=tmp_path)
    warned = " ".join(done.stderr.split())
    assert "takes 1 ms for a single row, more than 0.2 ms" in warned
    assert "model.pack.width=8" in warned
    commands.run("dle-evaluate", "run", folder=tmp_path)
    assert "No model is that fast" in (tmp_path / "run" / "report.html").read_text()


def test_what_cannot_be_limited(tmp_path: Path) -> None:
    write_people(tmp_path / "people.csv", 300)
    words = ["people.csv", "--target", "buys", *BRIEF]
    refused = commands.run("dle-train", *words, "--max-latency", "0.2", "--folds", "3", folder=tmp_path, code=2)
    assert "training.max_latency: cannot be cross-validated" in refused.stderr
    refused = commands.run("dle-train", *words, "--max-latency", "-1", folder=tmp_path, code=2)
    assert "training.max_latency: expected" in refused.stderr
    refused = commands.run("dle-tune", *words, "--set", "training.max_latency=1", folder=tmp_path, code=2)
    assert "training.max_latency: leave it out" in refused.stderr
    assert not (tmp_path / "runs").exists()
