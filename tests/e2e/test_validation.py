"""Splits by group and time, folds and the final training on all rows, as the commands do them."""

import csv
import json
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from safetensors.numpy import load_file
from tests import commands, people
from tests.e2e.paused import Paused

pytestmark = pytest.mark.e2e
SMALL = (
    "people.csv",
    "--set",
    "preset=fast",
    "--target",
    "buys",
    "--set",
    "training.epochs=3",
    "--set",
    "model.hidden=[16]",
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("validation")
    people.write_people(folder / "people.csv", 600)
    return folder


def column(folder: Path, name: str) -> list[str]:
    with (folder / "people.csv").open(newline="") as file:
        return [row[name] for row in csv.DictReader(file)]


def parts(run: Path) -> dict[str, list[int]]:
    return {name: rows.tolist() for name, rows in np.load(run / "split.npz").items()}


def content(path: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(path.read_text())
    return found


def test_groups_are_in_one_part_and_in_one_fold(folder: Path) -> None:
    said = commands.run("dle-train", *SMALL, "--split", "group:town", "--folds", "3", "--out", "towns", folder=folder)
    assert "by the groups of town" in said.stdout + said.stderr
    assert "Cross-validation: 3 folds" in said.stdout + said.stderr
    towns, split = column(folder, "town"), parts(folder / "towns")
    seen = {name: {towns[row] for row in rows} for name, rows in split.items()}
    assert not seen["train"] & seen["validation"]
    assert not (seen["train"] | seen["validation"]) & seen["test"]
    table = pq.read_table(folder / "towns" / "out_of_fold.parquet").to_pydict()
    assert len(table["row"]) == len(split["train"]) + len(split["validation"])
    of_fold = {(towns[row - 1], fold) for row, fold in zip(table["row"], table["fold"], strict=True)}
    assert len(of_fold) == len({town for town, _ in of_fold}), "a town in two folds"
    crossed = content(folder / "towns" / "metrics.json")["cross_validation"]
    assert len(crossed["scores"]) == 3
    assert 0 < crossed["sd"]["log_loss"] < crossed["mean"]["log_loss"]
    commands.run("dle-evaluate", "towns", "--quiet", folder=folder)
    assert "<h2>Cross-validation</h2>" in (folder / "towns" / "report.html").read_text()


def test_what_is_later_validates_and_tests(folder: Path) -> None:
    commands.run(
        "dle-train", *SMALL, "--split", "time:since", "--folds", "2", "--out", "times", "--quiet", folder=folder
    )
    since, split = [date.fromisoformat(day) for day in column(folder, "since")], parts(folder / "times")
    first = {name: min(since[row] for row in rows) for name, rows in split.items()}
    last = {name: max(since[row] for row in rows) for name, rows in split.items()}
    assert last["train"] < first["validation"]
    assert last["validation"] < first["test"]
    table = pq.read_table(folder / "times" / "out_of_fold.parquet").to_pydict()
    days: dict[int, list[date]] = {1: [], 2: []}
    for row, fold in zip(table["row"], table["fold"], strict=True):
        days[fold].append(since[row - 1])
    assert max(days[1]) < min(days[2])


@pytest.mark.full
def test_ctrl_c_among_the_folds_loses_none_of_them(folder: Path) -> None:
    options = (*SMALL, "--folds", "3", "--set", "training.patience=0")
    whole = commands.document("dle-train", *options, "--out", "whole", folder=folder)
    code, said = Paused("folds/1", "dle-train", *options, "--out", "stopped", folder=folder).interrupt()
    assert code == 130, said
    assert "dle-train --resume --out stopped" in said
    resumed = commands.document("dle-train", "--resume", "--out", "stopped", folder=folder)
    assert resumed["validation"] == whole["validation"]
    for name, score in whole["cross_validation"]["mean"].items():
        # the folds may be trained at once before and one after another behind, which rounds otherwise
        assert resumed["cross_validation"]["mean"][name] == pytest.approx(score, abs=0.02)


@pytest.mark.full
def test_the_final_training_takes_the_rows_of_validation_too(folder: Path) -> None:
    plain = commands.document("dle-train", *SMALL, "--out", "plain", folder=folder)
    refitted = commands.document("dle-train", *SMALL, "--set", "training.refit=true", "--out", "refit", folder=folder)
    assert refitted["validation"] == plain["validation"], "measured before the rows were trained on"
    tensors = [
        load_file(folder / path / "best.safetensors")
        for path in ("plain/checkpoints", "refit/checkpoints", "refit/checkpoints/refit")
    ]
    same = [all(np.array_equal(one[name], tensors[0][name]) for name in one) for one in tensors[1:]]
    assert same == [True, False]
    evaluated = commands.document("dle-evaluate", "refit", folder=folder)
    exported = commands.document("dle-export", "refit", "--to", "bundles/refit", folder=folder)
    assert exported["test"] == evaluated["test"]
    assert evaluated["test"] != commands.document("dle-evaluate", "plain", folder=folder)["test"]


def test_a_study_of_folds_ends_in_one_model_of_all_rows(folder: Path) -> None:
    commands.run(
        "dle-tune", *SMALL, "--trials", "3", "--split", "group:town", "--folds", "3", "--set", "study.refit=true",
        "--set", "study.pruner=none", "--set", "study.rule=one_standard_error", "--out", "study", "--quiet",
        folder=folder,
    )  # fmt: skip
    selected = content(folder / "study" / "selection.json")
    assert selected["rule"] == "one_standard_error"
    tables = [pq.read_table(path).num_rows for path in folder.glob("study/trials/*/out_of_fold.parquet")]
    split = parts(folder / "study" / "selected")
    assert tables == [len(split["train"]) + len(split["validation"])] * 3
    assert (folder / "study/selected/checkpoints/refit/best.safetensors").is_file()
    trial = content(folder / "study" / "trials" / f"{selected['number']:03}" / "metrics.json")
    (group,) = commands.document("dle-compare", "study", folder=folder)["groups"]
    assert group["runs"][0]["cross_validation"] == trial["cross_validation"]
    evaluated = commands.document("dle-evaluate", "study", folder=folder)
    assert evaluated["rows"] == len(split["test"])
    assert evaluated["test"] == content(folder / "study" / "selected" / "metrics.json")["test"]
