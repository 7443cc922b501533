"""`dle-train` as people treat it: replayed, killed, interrupted, resumed, and given what cannot work."""

import csv
import json
import sys
from pathlib import Path

import pytest
import torch
from safetensors.numpy import load_file
from tests import commands, people
from tests.e2e.paused import Paused

from dle_cli import train

pytestmark = pytest.mark.e2e
SETTINGS = (
    "people.csv", "--preset", "fast", "--target", "buys", "--set", "training.epochs=6",
    "--set", "model.hidden=[256,256]", "--set", "training.batch_size=16", "--set", "training.patience=0",
)  # fmt: skip


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the file and one uninterrupted run of it."""
    folder = tmp_path_factory.mktemp("train")
    people.write_people(folder / "people.csv", 2000)
    commands.run("dle-train", *SETTINGS, "--out", "whole", "--quiet", folder=folder)
    return folder


def weights(run: Path) -> dict[str, bytes]:
    """Every tensor of the chosen weights, as bytes."""
    return {name: tensor.tobytes() for name, tensor in load_file(run / "checkpoints" / "best.safetensors").items()}


def started(folder: Path, out: str) -> Paused:
    """A run that has stopped in the middle of an epoch."""
    return Paused(out, "dle-train", *SETTINGS, "--out", out, folder=folder)


def test_killed_in_the_middle_of_an_epoch_and_resumed_ends_in_the_same_weights(folder: Path) -> None:
    started(folder, "killed").kill()
    assert "has not finished" in commands.refusal("dle-evaluate", "killed", folder=folder)
    commands.run("dle-train", "--resume", "--out", "killed", folder=folder)
    assert weights(folder / "killed") == weights(folder / "whole")
    history = (folder / "killed" / "history.jsonl").read_text().splitlines()
    assert [json.loads(line)["epoch"] for line in history] == [1, 2, 3, 4, 5, 6]


def test_ctrl_c_saves_and_says_how_to_resume(folder: Path) -> None:
    code, said = started(folder, "stopped").interrupt()
    assert code == 130, said
    assert "Traceback" not in said
    assert "dle-train --resume --out stopped" in said
    commands.run("dle-train", "--resume", "--out", "stopped", folder=folder)
    assert weights(folder / "stopped") == weights(folder / "whole")


@pytest.mark.skipif(torch.cuda.is_available(), reason="a CUDA device is here")
def test_a_run_begun_on_a_gpu_continues_without_one_by_the_option_that_the_refusal_names(folder: Path) -> None:
    started(folder, "moved").interrupt()
    config = folder / "moved" / "config.yaml"
    written = config.read_text()
    assert "\ndevice: cpu\n" in written, "config.yaml holds the device in use"
    config.write_text(written.replace("\ndevice: cpu\n", "\ndevice: cuda\n"))
    assert "use --device cpu" in commands.refusal("dle-train", "--resume", "--out", "moved", folder=folder)
    commands.run("dle-train", "--resume", "--out", "moved", "--device", "cpu", folder=folder)
    assert config.read_text() == written
    assert weights(folder / "moved") == weights(folder / "whole")


def test_a_finished_run_is_not_resumed_and_shows_its_result_without_its_source(tmp_path: Path) -> None:
    people.write_people(tmp_path / "people.csv", 100)
    options = ("people.csv", "--target", "buys", "--folds", "2", "--set", "training.epochs=1", "--out", "run")
    trained = commands.run("dle-train", *options, folder=tmp_path).stdout
    (tmp_path / "people.csv").unlink()
    again = commands.run("dle-train", "--resume", "--out", "run", folder=tmp_path).stdout
    said, _, result = again.partition("\n")
    assert said == "run is finished, so nothing was trained; another --out begins another run"
    assert result == trained[trained.index("Trained\n") :]
    assert "run exists already and its run is finished: dle-evaluate run" in commands.refusal(
        "dle-train", *options, folder=tmp_path
    )
    metrics = tmp_path / "run" / "metrics.json"
    metrics.write_text(json.dumps({"validation": json.loads(metrics.read_text())["validation"]}))
    assert "people.csv: no such file" in commands.refusal("dle-train", "--resume", "--out", "run", folder=tmp_path)
    assert "dle-train --resume --out run" in commands.refusal("dle-train", *options, folder=tmp_path)


def test_a_run_is_replayed_from_its_configuration(folder: Path) -> None:
    commands.run("dle-train", "--config", "whole/config.yaml", "--out", "again", "--quiet", folder=folder)
    assert weights(folder / "again") == weights(folder / "whole")


def test_nothing_but_the_test_scores_depends_on_the_labels_of_the_test_part(folder: Path) -> None:
    import numpy as np

    test = set(np.load(folder / "whole" / "split.npz")["test"].tolist())
    part = {row: name for name, rows in np.load(folder / "whole" / "split.npz").items() for row in rows.tolist()}
    with (folder / "people.csv").open(newline="") as file:
        header, *rows = csv.reader(file)
    for name, turn in (("honest", False), ("poisoned", True)):
        with (folder / f"{name}.csv").open("w", newline="") as copy:
            writer = csv.writer(copy)
            writer.writerow([*header, "split"])
            for index, row in enumerate(rows):
                label = {"yes": "no", "no": "yes"}[row[-1]] if turn and index in test else row[-1]
                writer.writerow([*row[:-1], label, part[index]])
        commands.run("dle-train", f"{name}.csv", *SETTINGS[1:], "--out", name, "--quiet", folder=folder)
        commands.run("dle-export", name, "--to", f"bundles/{name}/people", "--quiet", folder=folder)
    assert weights(folder / "honest") == weights(folder / "poisoned")
    bundles = [folder / "bundles" / name / "people" for name in ("honest", "poisoned")]
    for part_of_it in ("model.onnx", "schema.json", "parity.json"):
        assert (bundles[0] / part_of_it).read_bytes() == (bundles[1] / part_of_it).read_bytes(), part_of_it
    honest, poisoned = (json.loads((bundle / "reference.json").read_text()) for bundle in bundles)
    assert honest["metrics"].pop("test") != poisoned["metrics"].pop("test")
    assert honest == poisoned


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("none.csv", "--target", "buys"), ["none.csv: no such file"]),
        (("people.csv", "--target", "buyz"), ["no column 'buyz'", "did you mean 'buys'"]),
        (("people.csv", "--target", "country"), ["one value only"]),
        (("people.csv",), ["name it with --target", "buys"]),
        (("people.csv", "--target", "buys", "--set", "model.hiden=[3]", "--set", "optimizer.lr=-1"), ["hidden", "lr"]),
        (("people.csv", "--target", "buys", "--device", "tpu"), ["device", "tpu"]),
        (("people.csv", "--target", "buys", "--device", "cuda"), ["no CUDA device"]),
        (("people.csv", "--target", "buys", "--set", "objective.class_weights={yess: 2}"), ["did you mean 'yes'"]),
        (
            (
                "people.csv",
                "--target",
                "buys",
                "--set",
                "optimizer.lr=1e30",
                "--set",
                "training.epochs=1",
                "--out",
                "diverged",
            ),
            ["not finite"],
        ),
        (("other.csv", "--resume", "--out", "whole"), ["is a run of"]),
        (("sklearn:breast_cancr",), ["did you mean 'breast_cancer'"]),
        ((), ["no SOURCE"]),
        (("--resume", "--out", "nowhere"), ["this is not a run"]),
        (
            ("--resume", "--out", "whole", "--seed", "3"),
            ["--resume continues with the settings in the run's config.yaml: leave out --seed"],
        ),
    ],
)
def test_what_cannot_work_is_refused_before_anything_is_written(
    folder: Path,
    arguments: tuple[str, ...],
    words: list[str],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """In this process, which has PyTorch loaded already; `test_a_refusal_has_exit_code_2` starts a real one."""
    before = set(folder.iterdir())
    monkeypatch.chdir(folder)
    monkeypatch.setattr(sys, "argv", ["dle-train", *arguments])
    with pytest.raises(SystemExit) as ended:
        train.main()
    diverges = "optimizer.lr=1e30" in arguments
    assert ended.value.code == (1 if diverges else 2)
    said = capsys.readouterr()
    assert diverges or not said.out
    for word in words:
        assert word in said.err
    assert set(folder.iterdir()) == before


def test_a_refusal_has_exit_code_2(folder: Path) -> None:
    said = commands.refusal("dle-train", "none.csv", "--target", "buys", folder=folder, own_process=True)
    assert "none.csv: no such file" in said
