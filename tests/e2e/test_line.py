"""The whole line by the real commands on a person's own file: train, evaluate, export, predict, serve."""

import csv
import json
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from tests import commands, people
from tests.e2e.servers import serving

pytestmark = pytest.mark.e2e
ROWS = 1000
IN_PROCESSES = "buys"
"""The target whose commands run in processes of their own, as a person runs them."""
SMALL = ("--preset", "fast", "--set", "training.epochs=12", "--set", "model.hidden=[32,32]")


@dataclass(frozen=True)
class Line:
    """What the commands made of one file, and what `--json` said."""

    folder: Path
    target: str
    trained: dict[str, Any]
    evaluated: dict[str, Any]
    exported: dict[str, Any]

    @property
    def run(self) -> Path:
        return self.folder / "runs" / "people"

    @property
    def bundle(self) -> Path:
        return self.folder / "bundles" / "people"


@pytest.fixture(scope="module", params=["buys", "level", "spent"])
def line(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Line:
    folder = tmp_path_factory.mktemp(request.param)
    people.write_people(folder / "people.csv", ROWS, target=request.param)
    document = partial(commands.document, folder=folder, own_process=request.param == IN_PROCESSES)
    trained = document("dle-train", "people.csv", "--target", request.param, *SMALL)
    (folder / "people.csv").rename(folder / "away.csv")  # the run needs it no more
    evaluated = document("dle-evaluate", "runs/people")
    exported = document("dle-export", "runs/people", "--to", "bundles/people")
    document("dle-compare", "runs/people")
    (folder / "away.csv").rename(folder / "people.csv")
    return Line(folder, request.param, trained, evaluated, exported)


def test_the_model_has_learnt(line: Line) -> None:
    rows = line.trained["rows"]
    assert sum(rows.values()) == ROWS
    assert rows["train"] == pytest.approx(700, abs=3)
    assert line.evaluated["rows"] == rows["test"]
    scores = line.evaluated["test"]
    assert scores["r2"] > 0.6 if line.target == "spent" else scores["accuracy"] > 0.7


def test_the_documents_keep_their_contract(line: Line) -> None:
    assert line.evaluated.keys() >= {"run", "task", "rows", "test", "per_class", "confusion_matrix"}
    if line.target == "spent":
        assert line.evaluated["test"].keys() == {"mae", "rmse", "r2"}
        assert line.evaluated["confusion_matrix"] is None
    else:
        matrix = line.evaluated["confusion_matrix"]
        assert np.sum(matrix["counts"]) == line.evaluated["rows"]
        assert matrix["labels"] == (["no", "yes"] if line.target == "buys" else [0, 1, 2])
    assert line.exported["parity"]["largest_difference"] <= line.exported["parity"]["bound"]


def test_the_run_directory_is_complete(line: Line) -> None:
    present = {path.name for path in line.run.iterdir()}
    assert present >= {
        "config.yaml", "schema.json", "split.npz", "preprocessing.json", "checkpoints", "history.jsonl", "metrics.json",
        "report.html", "figures", "tensorboard", "rows", "reference.json",
    }  # fmt: skip
    kept = {path.stem for path in (line.run / "rows").iterdir()}
    assert kept == {"test", "validation", "training_sample", "trained_rows", "validation_answers"}
    assert line.trained["kept"] == {part: line.trained["rows"][part] for part in ("test", "validation")}
    assert line.run.stat().st_mode & 0o777 == 0o700
    schema = json.loads((line.run / "schema.json").read_text())
    assert [field["name"] for field in schema["inputs"]] == ["age", "income", "town", "colour", "member", "since"]
    dropped = json.loads((line.run / "data.json").read_text())["dropped"]
    assert dropped.keys() == {"person_id", "country"}


def test_tensorboard_reads_the_scalars_back(line: Line) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(line.run / "tensorboard"))
    events.Reload()
    history = [json.loads(record) for record in (line.run / "history.jsonl").read_text().splitlines()]
    points = events.Scalars("loss/train")
    assert [point.step for point in points] == [record["epoch"] for record in history]
    np.testing.assert_allclose(
        [point.value for point in points], [record["train_loss"] for record in history], rtol=1e-5
    )


def rows(line: Line) -> list[dict[str, Any]]:
    """The file's rows as an application would send them."""
    with (line.folder / "people.csv").open(newline="") as file:
        return [
            {
                "age": int(row["age"]),
                "income": float(row["income"]) if row["income"] else None,
                "town": row["town"],
                "colour": row["colour"] or None,
                "member": row["member"],
                "since": row["since"],
            }
            for row in csv.DictReader(file)
        ]


def test_file_service_and_pytorch_give_the_same_numbers(line: Line, tmp_path: Path) -> None:
    said = commands.document(
        "dle-predict", "bundles/people", "people.csv", "--out", "p.csv", "--keep", "person_id",
        folder=line.folder, own_process=line.target == IN_PROCESSES,
    )  # fmt: skip
    assert (said["rows"], said["predicted"]) == (ROWS, ROWS)
    assert said["ignored"] == ["country", line.target]
    with (line.folder / "p.csv").open(newline="") as file:
        offline = list(csv.DictReader(file))
    assert [row["person_id"] for row in offline] == [f"p{row:05}" for row in range(ROWS)]

    with serving(tmp_path, line.bundle) as server:
        answer = httpx.post(f"{server.url}/predict", json={"rows": rows(line)}, timeout=60).raise_for_status().json()
    online = answer["predictions"]
    expected, sd = in_pytorch(line)
    if line.target == "spent":
        values = np.array([row["value"] for row in online])
        np.testing.assert_allclose([float(row["value"]) for row in offline], values, rtol=1e-6)
        assert (np.abs(values - expected) <= 1e-5 * (np.abs(expected) + sd)).all()
        return
    names = list(online[0]["probabilities"])
    probabilities = np.array([[row["probabilities"][name] for name in names] for row in online])
    written = np.array([[float(row[f"probability_{name}"]) for name in names] for row in offline])
    np.testing.assert_allclose(written, probabilities, atol=1e-6)
    np.testing.assert_allclose(probabilities, expected, atol=1e-5)
    assert [row["label"] for row in offline] == [str(row["label"]) for row in online]
    assert isinstance(online[0]["label"], str if line.target == "buys" else int)


def in_pytorch(line: Line) -> tuple[Any, float]:
    """PyTorch's answers, and the standard deviation of the target in training."""
    from dle_bundle.tables import table_files
    from dle_bundle.tables.columns import to_groups
    from dle_training.runs.folder import RunFolder
    from dle_training.runs.train import open_model

    model = open_model(RunFolder(line.run))
    groups, faults = to_groups(table_files.read(line.folder / "people.csv"), model.schema)
    assert not faults
    return model.predict(groups), model.objective.state().sd


def test_other_data_can_be_measured(line: Line) -> None:
    people.write_people(line.folder / "later.csv", 300, seed=1, target=line.target)
    document = commands.document("dle-evaluate", "runs/people", "--data", "later.csv", folder=line.folder)
    assert document["rows"] == 300


def test_an_existing_run_or_bundle_is_refused(line: Line) -> None:
    said = commands.refusal("dle-train", "people.csv", "--target", line.target, folder=line.folder)
    assert "runs/people exists already and its run is finished: dle-evaluate runs/people" in said
    assert "--out" in said
    assert "exists already" in commands.refusal(
        "dle-export", "runs/people", "--to", "bundles/people", folder=line.folder
    )


def test_changed_data_is_noticed(line: Line) -> None:
    path, metrics = line.folder / "people.csv", line.folder / "runs" / "people" / "metrics.json"
    before, scores = path.read_bytes(), metrics.read_bytes()
    try:
        path.write_bytes(before.replace(b"town a", b"town b", 1))
        metrics.unlink()  # as if the run were unfinished: a finished one needs its source no more
        assert "has changed" in commands.refusal("dle-train", "--resume", "--out", "runs/people", folder=line.folder)
        metrics.write_bytes(scores)
        again = commands.document("dle-evaluate", "runs/people", folder=line.folder)
        assert again == line.evaluated, "the run has rows of its own"
    finally:
        path.write_bytes(before)
        metrics.write_bytes(scores)
