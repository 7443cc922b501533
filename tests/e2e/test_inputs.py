"""Images, series, text and forecasts by the real commands, from files to a service of two workers and back offline."""

import base64
import csv
import importlib.util
import json
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from safetensors.numpy import load_file
from tests import commands
from tests.e2e.servers import Server, eventually, serving
from tests.many_inputs import COLOURS, FEW, SOURCES, picture, write_sources

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(900)]  # fifteen commands before the first test


@dataclass(frozen=True)
class Made:
    """A folder with the sources and a bundle of each, and what the commands said of them."""

    folder: Path
    trained: dict[str, dict[str, Any]]
    evaluated: dict[str, dict[str, Any]]

    def example(self, name: str) -> dict[str, Any]:
        """The row of examples of a model's schema."""
        schema = json.loads((self.folder / "bundles" / name / "schema.json").read_text())
        return {field["name"]: field["example"] for field in schema["inputs"]}


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Made:
    folder = tmp_path_factory.mktemp("inputs")
    write_sources(folder)
    trained, evaluated = {}, {}
    for name, arguments in SOURCES.items():
        trained[name] = commands.document("dle-train", *arguments, *FEW, folder=folder)
    sources = [folder / arguments[0] for arguments in SOURCES.values()]
    for source in sources:  # a run needs none of them any more
        source.rename(f"{source}.away")
    for name in SOURCES:
        evaluated[name] = commands.document("dle-evaluate", f"runs/{name}", folder=folder)
        commands.document("dle-export", f"runs/{name}", "--to", f"bundles/{name}", folder=folder)
    for source in sources:
        Path(f"{source}.away").rename(source)
    return Made(folder, trained, evaluated)


@pytest.fixture(scope="module")
def server(made: Made, tmp_path_factory: pytest.TempPathFactory) -> Any:
    bundles = [made.folder / "bundles" / name for name in SOURCES]
    with serving(tmp_path_factory.mktemp("server"), *bundles, workers=2) as found:
        yield found


def ask(server: Server, name: str, *rows: dict[str, Any], code: int = 200) -> dict[str, Any]:
    answer = httpx.post(f"{server.url}/models/{name}/predict", json={"rows": rows})
    assert answer.status_code == code, answer.text
    found: dict[str, Any] = answer.json()
    return found


def test_what_is_easy_is_learnt(made: Made) -> None:
    assert made.evaluated["pictures"]["test"]["accuracy"] == 1
    assert made.evaluated["reviews"]["test"]["accuracy"] > 0.8
    assert made.evaluated["machines"]["test"]["accuracy"] == 1
    assert made.evaluated["power"]["test"].keys() == {"mae", "rmse", "r2"}
    for name in SOURCES:
        assert (made.folder / "runs" / name / "report.html").stat().st_size > 100_000


@pytest.mark.parametrize("name", SOURCES)
def test_the_example_of_the_schema_is_answered(server: Server, made: Made, name: str) -> None:
    (prediction,) = ask(server, name, made.example(name))["predictions"]
    assert prediction.keys() >= ({"id", "values"} if name == "power" else {"id", "label", "probability"})


def test_an_image_as_base64_and_as_the_body(server: Server) -> None:
    for colour in COLOURS:
        content = picture(colour, 777)
        inside = ask(server, "pictures", {"image": base64.b64encode(content).decode()})
        assert inside["predictions"][0]["label"] == colour
        url, headers = f"{server.url}/models/pictures/predict", {"content-type": "image/png"}
        whole = httpx.post(url, content=content, headers=headers)
        assert whole.status_code == 200, whole.text
        assert whole.json()["predictions"][0]["probability"] == inside["predictions"][0]["probability"]
        cut = httpx.post(url, content=content[: len(content) // 2], headers=headers)
        assert cut.status_code == 400
        assert [(fault["field"], fault["code"]) for fault in cut.json()["details"]] == [("image", "image")]
    refused = httpx.post(f"{server.url}/models/signals/predict", content=b"x", headers={"content-type": "image/png"})
    assert refused.status_code == 415


def test_faults_say_field_and_place(server: Server, made: Made) -> None:
    ragged = ask(server, "signals", {"sequence": [1.0, [2.0, 3.0]]}, {"sequence": []}, code=400)["details"]
    assert [(fault["row"], fault["field"], fault["code"]) for fault in ragged] == [
        (0, "sequence", "sequence"), (1, "sequence", "sequence"),
    ]  # fmt: skip
    assert "step 1" in ragged[0]["message"]
    example = made.example("reviews")
    wrong = ask(server, "reviews", {**example, "remark": " "}, {**example, "photo": "!"}, code=400)["details"]
    assert [(fault["row"], fault["field"], fault["code"]) for fault in wrong] == [
        (0, "remark", "missing"), (1, "photo", "image"),
    ]  # fmt: skip


def test_series_of_any_length(server: Server) -> None:
    rows = [{"sequence": [0.5] * steps} for steps in (1, 30, 200)]
    together = ask(server, "signals", *rows)["predictions"]
    alone = [ask(server, "signals", row)["predictions"][0] for row in rows]
    assert [one["label"] for one in together] == [one["label"] for one in alone]
    assert [one["probability"] for one in together] == pytest.approx([one["probability"] for one in alone], abs=1e-5)


def test_a_forecast_and_what_came_of_it(server: Server, made: Made) -> None:
    (prediction,) = ask(server, "power", made.example("power"))["predictions"]
    assert len(prediction["values"]) == 3
    answer = httpx.post(
        f"{server.url}/feedback", json={"items": [{"id": prediction["id"], "actual": [10.0, 11.0, 12.0]}]}
    )
    assert answer.json()["accepted"] == 1


def test_a_forecast_is_made_of_the_last_steps_by_the_service_as_by_a_file(server: Server, made: Made) -> None:
    with (made.folder / "power.csv").open(encoding="utf-8") as file:
        load = [float(row["load"]) for row in csv.DictReader(file)]
    commands.run("dle-predict", "bundles/power", "power.csv", "--out", "forecast.csv", folder=made.folder)
    with (made.folder / "forecast.csv").open(encoding="utf-8") as file:
        steps_ahead = list(csv.DictReader(file))
    assert [row["hour"] for row in steps_ahead] == ["300", "301", "302"]
    expected = [float(row["value"]) for row in steps_ahead]
    for steps in (24, 60, 300):
        (found,) = ask(server, "power", {"sequence": load[-steps:]})["predictions"]
        assert found["values"] == pytest.approx(expected, abs=1e-5)
    (fault,) = ask(server, "power", {"sequence": load[-23:]}, code=400)["details"]
    assert (fault["field"], fault["code"]) == ("sequence", "sequence")
    assert "at least 24 steps" in fault["message"]


def test_a_long_table_is_evaluated_and_served(server: Server, made: Made) -> None:
    again = commands.document("dle-evaluate", "runs/machines", "--data", "machines.csv", folder=made.folder)
    assert (again["rows"], again["test"]["accuracy"]) == (80, 1)
    rows: list[dict[str, Any]] = [{"sequence": [4.0] * 4, "maker": "A"}, {"sequence": [0.0] * 9, "maker": "B"}]
    assert [each["label"] for each in ask(server, "machines", *rows)["predictions"]] == ["hot", "fine"]


def test_drift_watches_what_describes_them(server: Server, made: Made) -> None:
    for name, features in {
        "pictures": {"image.brightness", "image.contrast", "image.sharpness"},
        "signals": {"sequence.level", "sequence.spread", "sequence.length"},
        "reviews": {
            "remark.length",
            "remark.unknown",
            "photo.brightness",
            "photo.contrast",
            "photo.sharpness",
            "price",
        },
    }.items():
        ask(server, name, made.example(name))
        report = eventually(partial(_counted, server, name))
        assert {shift["feature"] for shift in report["features"]} == features
    assert 'feature="remark.unknown"' in httpx.get(f"{server.url}/metrics").text


def _counted(server: Server, name: str) -> dict[str, Any] | None:
    report: dict[str, Any] = httpx.get(f"{server.url}/models/{name}/drift").json()
    return report if report["rows"] else None


def test_offline_answers_are_the_same(server: Server, made: Made) -> None:
    commands.run("dle-predict", "bundles/pictures", "pictures", "--out", "p.csv", folder=made.folder)
    with (made.folder / "p.csv").open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 80
    content = (made.folder / "pictures" / rows[0]["image"]).read_bytes()
    (served,) = ask(server, "pictures", {"image": base64.b64encode(content).decode()})["predictions"]
    assert (served["label"], served["probability"]) == (
        rows[0]["label"],
        pytest.approx(float(rows[0]["probability"]), abs=1e-6),
    )
    for name, count in {"signals": 80, "reviews": 100, "power": 1, "machines": 80}.items():
        source = SOURCES[name][0]
        said = commands.document(
            "dle-predict", f"bundles/{name}", source, "--out", f"out/{name}.csv", folder=made.folder
        )
        assert said["predicted"] == count
    with (made.folder / "out" / "power.csv").open(encoding="utf-8") as file:
        assert next(csv.reader(file)) == ["hour", "value"]
    with (made.folder / "out" / "machines.csv").open(encoding="utf-8") as file:
        assert [row["unit"] for row in csv.DictReader(file)] == [f"m{unit}" for unit in range(80)]


def test_broken_files_are_refused_together_or_left_out(made: Made) -> None:
    folder = made.folder / "pictures" / "red"
    (folder / "cut.png").write_bytes(picture("red", 5)[:200])
    (folder / "empty.png").write_bytes(b"")
    try:
        said = commands.refusal("dle-train", "pictures", "--out", "runs/broken", folder=made.folder)
        assert "cut.png: truncated" in said
        assert "empty.png: empty" in said
        few = ("--set", "data.skip_bad=true", "--set", "training.epochs=1", "--set", "model.cnn.width=4")
        trained = commands.document("dle-train", "pictures", "--out", "runs/skipped", *few, folder=made.folder)
        assert sum(trained["rows"].values()) == 80
    finally:
        (folder / "cut.png").unlink()
        (folder / "empty.png").unlink()


def weights(run: Path) -> dict[str, bytes]:
    return {name: tensor.tobytes() for name, tensor in load_file(run / "checkpoints" / "best.safetensors").items()}


def test_images_that_do_not_fit_are_learnt_alike(made: Made) -> None:
    few = ("--set", "training.epochs=2", "--set", "training.batch_size=16", "--set", "model.cnn.width=4")
    for name, memory in (("held", "1"), ("streamed", "0.00001")):
        settings = (*few, "--set", f"data.image_memory={memory}")
        commands.run("dle-train", "pictures", "--out", f"runs/{name}", "--quiet", *settings, folder=made.folder)
    assert weights(made.folder / "runs" / "streamed") == weights(made.folder / "runs" / "held")


def test_a_backbone_of_timm(made: Made) -> None:
    if missing := [name for name in ("timm", "torchvision") if importlib.util.find_spec(name) is None]:
        pytest.skip(f"BACKBONES ARE NOT TESTED: not installed: {', '.join(missing)}")
    named = ("--set", "model.name=timm:test_resnet", "--set", "model.timm.pretrained=false")
    settings = (*named, "--set", "training.epochs=4", "--set", "preprocessing.image_size=32")
    commands.run("dle-train", "pictures", "--out", "runs/backbone", *settings, folder=made.folder)
    commands.run("dle-export", "runs/backbone", "--to", "bundles/backbone", folder=made.folder)
    answers = commands.document("dle-predict", "bundles/backbone", "pictures", "--out", "b.csv", folder=made.folder)
    assert answers["predicted"] == 80


def test_the_labels_of_the_test_part_reach_nothing_but_its_scores(made: Made) -> None:
    arrays = dict(np.load(made.folder / "signals.npz"))
    whole = {"X_train": arrays["X"][:60], "y_train": arrays["y"][:60], "X_test": arrays["X"][60:]}
    few = ("--set", "training.epochs=2", "--set", "model.tcn.width=4", "--set", "model.tcn.depth=3")
    for name, labels in (("honest", arrays["y"][60:]), ("poisoned", np.roll(arrays["y"][60:], 1))):
        np.savez(made.folder / f"{name}.npz", **whole, y_test=labels)
        commands.run("dle-train", f"{name}.npz", "--out", f"runs/{name}", "--quiet", *few, folder=made.folder)
    assert weights(made.folder / "runs" / "honest") == weights(made.folder / "runs" / "poisoned")
    said = commands.document("dle-predict", "bundles/signals", "honest.npz", "--out", "h.csv", folder=made.folder)
    assert said["predicted"] == 80
