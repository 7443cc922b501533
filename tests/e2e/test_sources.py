"""Tables in several files, in a .zip and from standard input, by the real commands."""

import csv
import zipfile
from datetime import date
from pathlib import Path
from typing import Any

import openpyxl
import pytest
import yaml
from safetensors.numpy import load_file
from tests import commands, people

pytestmark = pytest.mark.e2e
SMALL = ("--set", "preset=fast", "--target", "buys", "--set", "training.epochs=2", "--set", "model.hidden=[8]")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with `people.csv`, its two halves in `halves`, and the exported model `bundle` of a run on all rows."""
    folder = tmp_path_factory.mktemp("sources")
    header, *lines = people.write_people(folder / "people.csv", 400).read_text().splitlines(keepends=True)
    (folder / "halves").mkdir()
    (folder / "halves" / "1.csv").write_text("".join([header, *lines[:150]]))
    (folder / "halves" / "2.csv").write_text("".join([header, *lines[150:]]))
    with zipfile.ZipFile(folder / "people.zip", "w") as archive:
        archive.write(folder / "people.csv", "people.csv")
    commands.run("dle-train", "people.csv", *SMALL, "--out", "whole", folder=folder)
    commands.run("dle-export", "whole", "--to", "bundle", folder=folder)
    return folder


def weights(run: Path) -> dict[str, bytes]:
    """Every tensor of the chosen weights, as bytes."""
    return {name: tensor.tobytes() for name, tensor in load_file(run / "checkpoints" / "best.safetensors").items()}


@pytest.mark.parametrize(
    ("arguments", "run"),
    [
        (("halves/1.csv", "halves/2.csv"), "1"),
        (("halves/*.csv",), "halves"),
        (("people.zip",), "people"),
        (("-",), "stdin"),
    ],
)
def test_the_same_table_in_another_form_gives_the_same_model(
    folder: Path, arguments: tuple[str, ...], run: str
) -> None:
    sent = (folder / "people.csv").read_bytes() if arguments == ("-",) else b""
    commands.run("dle-train", *arguments, *SMALL, folder=folder, sent=sent)
    assert weights(folder / "runs" / run) == weights(folder / "whole")
    commands.run("dle-predict", "bundle", *arguments, "--out", f"of-{run}.csv", folder=folder, sent=sent)
    commands.run("dle-predict", "bundle", "people.csv", "--out", "expected.csv", folder=folder)
    assert (folder / f"of-{run}.csv").read_bytes() == (folder / "expected.csv").read_bytes()


def test_config_and_resume(folder: Path) -> None:
    files = [str(folder / "halves" / name) for name in ("1.csv", "2.csv")]
    commands.run("dle-train", "halves/*.csv", *SMALL, "--out", "resumed", folder=folder)
    assert yaml.safe_load((folder / "resumed" / "config.yaml").read_text())["data"]["source"] == files
    commands.run("dle-train", "halves/*.csv", "--resume", "--out", "resumed", folder=folder)
    said = commands.refusal("dle-train", "people.csv", "--resume", "--out", "resumed", folder=folder)
    assert f"resumed is a run of 2 files, {files[0]} to {files[1]}, not of people.csv: leave SOURCE out" in said
    commands.run("dle-train", "--config", "resumed/config.yaml", "--out", "replayed", folder=folder)
    assert weights(folder / "replayed") == weights(folder / "resumed")


def test_evaluate(folder: Path) -> None:
    whole = commands.document("dle-evaluate", "whole", "--data", "people.csv", folder=folder)
    halves = ("--data", "halves/1.csv", "--data", "halves/2.csv")
    assert commands.document("dle-evaluate", "whole", *halves, folder=folder)["test"] == whole["test"]
    said = commands.run("dle-evaluate", "whole", "--data", "halves/*.csv", folder=folder)
    assert "halves/*.csv: 340 of 400 rows were trained on" in said.stderr
    kept_none = ("--set", "data.keep_rows=0", "--out", "none")
    done = commands.run("dle-train", "halves/1.csv", "halves/2.csv", *SMALL, *kept_none, folder=folder)
    files = f"--data {folder}/halves/1.csv --data {folder}/halves/2.csv"
    assert f"Next: dle-evaluate none {files}" in done.stdout
    assert f"dle-evaluate none {files}" in commands.refusal("dle-evaluate", "none", folder=folder)
    scored = commands.run("dle-evaluate", "none", "--data", "halves/*.csv", folder=folder)
    assert "Test part: 60 rows" in scored.stdout


def test_tune(folder: Path) -> None:
    content = (folder / "people.csv").read_bytes()
    search = (*SMALL, "--grid", "optimizer.lr=0.01,0.001")
    refused = commands.run("dle-tune", "-", *search, "--jobs", "2", folder=folder, sent=content, code=2)
    assert "standard input can be read only once" in refused.stderr
    assert not (folder / "runs" / "stdin-study").exists()
    commands.run("dle-tune", "-", *search, folder=folder, sent=content)
    commands.run("dle-tune", "--resume", "--out", "runs/stdin-study", folder=folder, sent=content)
    other = commands.run(
        "dle-tune", "--resume", "--out", "runs/stdin-study", folder=folder, sent=content.replace(b"red", b"rot"), code=2
    )
    assert "is a study of other data" in other.stderr
    assert "the content of standard input has changed" in other.stderr
    commands.run("dle-tune", "halves/*.csv", *search, folder=folder)
    assert (folder / "runs" / "halves-study" / "selected").is_dir()
    commands.run("dle-tune", "--resume", "halves/*.csv", "--out", "runs/halves-study", folder=folder)


def test_predict_names_standard_input(folder: Path) -> None:
    content = (folder / "people.csv").read_bytes()
    for color in (b"red", b"green", b"blue"):
        content = content.replace(color, color.upper())
    done = commands.run("dle-predict", "bundle", "-", "--out", "x.csv", folder=folder, sent=content)
    assert "check how they are spelled in standard input" in done.stderr


def test_predict_names_file_and_row(folder: Path) -> None:
    text = (folder / "halves" / "2.csv").read_text().splitlines(keepends=True)
    row = next(csv.reader([text[7]]))
    row[1] = "old"
    (folder / "bad.csv").write_text("".join([*text[:7], ",".join(row) + "\n", *text[8:]]))
    said = commands.refusal("dle-predict", "bundle", "halves/1.csv", "bad.csv", "--out", "x.csv", folder=folder)
    assert "bad.csv, row 7, 'age': expected a number, got 'old'" in said
    files = ("halves/1.csv", "bad.csv", "--out", "x.csv", "--errors", "errors.csv")
    done = commands.document("dle-predict", "bundle", *files, folder=folder)
    assert (done["rows"], done["predicted"]) == (400, 399)
    assert (folder / "errors.csv").read_text().splitlines()[1].startswith("bad.csv,7,age,type,")


def test_refusals(folder: Path) -> None:
    with zipfile.ZipFile(folder / "both.zip", "w") as archive:
        archive.write(folder / "halves" / "1.csv", "1.csv")
        archive.write(folder / "halves" / "2.csv", "2.csv")
    said = commands.refusal("dle-train", "both.zip", *SMALL, folder=folder)
    assert said.splitlines()[1:] == ["  - 1.csv", "  - 2.csv"]
    assert "nothing/*.csv: no file has such a name" in commands.refusal("dle-train", "nothing/*.csv", folder=folder)
    assert "standard input: empty file" in commands.refusal("dle-train", "-", *SMALL, "--out", "empty", folder=folder)
    said = commands.refusal("dle-train", "halves/1.csv", "sklearn:iris", "--out", "iris", folder=folder)
    assert "sklearn:iris: no such file or folder" in said


def test_workbook(folder: Path) -> None:
    with (folder / "people.csv").open(newline="") as file:
        lines = list(csv.reader(file))
    book = openpyxl.Workbook()
    book["Sheet"].append(["a cover"])
    sheet = book.create_sheet("People 2024")
    for line in [["All people"], [], *lines]:
        sheet.append([_cell(text) for text in line])
    book.save(folder / "book.xlsx")
    said = commands.refusal("dle-train", "book.xlsx", *SMALL, folder=folder)
    assert "no rows in the sheet 'Sheet'; to read another sheet, set 'data.sheet=People 2024'" in said
    chosen = ("--set", "data.sheet=People 2024")
    said = commands.refusal("dle-train", "book.xlsx", *SMALL, *chosen, folder=folder)
    assert "set data.skip_rows=2" in said
    commands.run("dle-train", "book.xlsx", *SMALL, *chosen, "--set", "data.skip_rows=2", folder=folder)
    assert weights(folder / "runs" / "book") == weights(folder / "whole")
    commands.run("dle-export", "runs/book", "--to", "of-book", folder=folder)
    commands.run("dle-predict", "of-book", "book.xlsx", "--out", "book.csv", folder=folder)
    commands.run("dle-predict", "bundle", "people.csv", "--out", "expected.csv", folder=folder)
    assert (folder / "book.csv").read_bytes() == (folder / "expected.csv").read_bytes()


def _cell(text: str) -> Any:
    """The text as a person would have typed it into a sheet."""
    try:
        return float(text)
    except ValueError:
        pass
    try:
        return date.fromisoformat(text)
    except ValueError:
        return text or None
