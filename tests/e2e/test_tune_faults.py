"""`dle-tune` where something cannot work: each fault is told, and nothing that was done is lost."""

import csv
import json
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests import commands, people, postgres
from tests.postgres import Postgres

pytestmark = pytest.mark.e2e
SMALL = (
    "people.csv", "--target", "buys", "--trials", "3", "--set", "training.epochs=2", "--set", "model.hidden=[8]",
    "--space", "optimizer.lr={log: [1e-3, 1e-2]}",
)  # fmt: skip


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("faults")
    people.write_people(folder / "people.csv", 300)
    return folder


@pytest.fixture(scope="module")
def database() -> Iterator[Postgres]:
    with postgres.running() as server:
        yield server


def test_every_fault_of_a_space_is_told_before_anything_is_read(folder: Path) -> None:
    said = commands.refusal(
        "dle-tune", "nowhere.csv", "--space", "optimizer.lrr={log: [1, 2]}",
        "--space", "model.dropout={float: [0.5, 0]}", "--grid", "split.test=0.1,0.2",
        "--space", "optimizer.lr=3", "--set", "study.prunner=none", folder=folder,
    )  # fmt: skip
    for part in ("'lr'", "model.dropout", "split.test", "optimizer.lr:", "'pruner'"):
        assert part in said, said


def test_a_space_that_no_trial_can_satisfy(folder: Path) -> None:
    said = commands.refusal(
        "dle-tune", "people.csv", "--target", "buys", "--grid", "model.transformer.width=10,14",
        "--set", "model.transformer.heads=4", folder=folder,
    )  # fmt: skip
    assert "none of 2 combinations tried is valid" in said


def test_trials_that_repeat_others_are_counted(folder: Path) -> None:
    options = (*SMALL[:-2], "--set", "study.pruner=none", "--space", "optimizer.name={choice: [adam]}")
    said = commands.run("dle-tune", *options, "--out", "repeated", folder=folder).stdout
    assert "1 different combination: some of the 3 trials repeat the settings of another" in said


@pytest.mark.full
def test_a_grid_says_its_size_first_and_leaves_out_what_is_impossible(folder: Path) -> None:
    done = commands.run(
        "dle-tune", "people.csv", "--target", "buys", "--search", "grid", "--grid", "model.batch_norm=true,false",
        "--grid", "training.batch_size=1,64", "--set", "training.epochs=1", "--set", "study.pruner=none",
        "--out", "grid", folder=folder,
    )  # fmt: skip
    assert "Grid: 3 combinations, without 1 invalid combination" in done.stdout
    rows = [line.split(",")[-2:] for line in (folder / "grid" / "leaderboard.csv").read_text().splitlines()]
    assert rows[0] == ["model.batch_norm", "training.batch_size"]
    assert sorted(rows[1:]) == [["false", "1"], ["false", "64"], ["true", "64"]]


@pytest.mark.full
def test_when_every_trial_fails_the_first_errors_are_told(folder: Path) -> None:
    done = commands.run(
        "dle-tune", "people.csv", "--target", "buys", "--trials", "3", "--space", "optimizer.lr={float: [1e12, 2e12]}",
        "--out", "failing", folder=folder, code=1,
    )  # fmt: skip
    assert "none of 3 trials is complete" in done.stderr
    assert "trial 0: The loss is not finite" in done.stderr


@pytest.mark.full
def test_a_study_of_other_data_or_another_target_is_refused_with_the_difference(folder: Path, tmp_path: Path) -> None:
    people.write_people(tmp_path / "people.csv", 300)
    commands.run("dle-tune", *SMALL, "--out", "study", "--quiet", folder=tmp_path)
    said = commands.refusal("dle-tune", "--resume", "--out", "study", "--target", "member", folder=tmp_path)
    assert "target: the study's is 'buys', found 'member'" in said
    people.write_people(tmp_path / "people.csv", 301)
    said = commands.refusal("dle-tune", "--resume", "--out", "study", folder=tmp_path)
    assert "the content of" in said
    assert "300 rows then, 301 now" in said


def test_an_existing_study_and_an_absent_one(folder: Path, tmp_path: Path) -> None:
    assert "nothing is not a study" in commands.refusal("dle-tune", "--resume", "--out", "nothing", folder=tmp_path)
    (tmp_path / "there").mkdir()
    shutil.copy(folder / "people.csv", tmp_path)
    assert "exists already" in commands.refusal("dle-tune", *SMALL, "--out", "there", folder=tmp_path)


@pytest.mark.parametrize(
    ("url", "code", "part"),
    [("postgresql://127.0.0.1:1/none", 1, "cannot be reached"), ("no such storage", 2, "study.storage")],
)
def test_a_storage_that_cannot_be_reached(folder: Path, url: str, code: int, part: str) -> None:
    done = commands.run(
        "dle-tune", *SMALL, "--set", f"study.storage={url}", "--out", "unreachable", folder=folder, code=code
    )
    assert part in done.stderr
    assert not (folder / "unreachable").exists()


@pytest.mark.full
def test_several_commands_share_a_study_in_postgresql(folder: Path, database: Postgres) -> None:
    url = database.create()
    options = ("--set", f"study.storage={url}", "--out", "shared", "--trials", "8")
    first = subprocess.Popen(  # a trial at a time, so that something is left for the second
        [commands.BIN / "dle-tune", "--set", "study.packing=never", *SMALL[:3], *SMALL[5:], *options],
        cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    while not (folder / "shared" / "study.yaml").exists():
        assert first.poll() is None, first.communicate()
    try:
        second = commands.document("dle-tune", "--resume", "--out", "shared", folder=folder)
        _, said = first.communicate(timeout=120)
    finally:
        first.kill()
        first.wait()
    assert first.returncode == 0, said
    assert [trial["number"] for trial in second["trials"]] == list(range(8))
    trained = sorted(path.parent.name for path in (folder / "shared" / "trials").glob("*/config.yaml"))
    assert trained == [f"{number:03}" for number in range(8)]


@pytest.mark.full
def test_a_server_that_goes_away_meanwhile_ends_the_study_and_loses_nothing(folder: Path, database: Postgres) -> None:
    options = ("--set", f"study.storage={database.create()}", "--set", "training.epochs=20", "--out", "left")
    process = subprocess.Popen(
        [commands.BIN / "dle-tune", *SMALL[:3], *SMALL[7:], "--set", "study.packing=never", *options, "--trials", "20"],
        cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    first = folder / "left" / "trials" / "000" / "metrics.json"
    while not (folder / "left" / "trials" / "001" / "config.yaml").exists():  # the first is over, for the server too
        assert process.poll() is None, process.communicate()
    database.stop()
    try:
        _, said = process.communicate(timeout=120)
        assert process.returncode == 1, said
        assert "The storage of the study cannot be" in said
        assert "Traceback" not in said
        written = first.stat().st_mtime_ns
    finally:
        process.kill()
        process.wait()
        database.start()
    resumed = commands.document("dle-tune", "--resume", "--out", "left", folder=folder)
    assert [trial["number"] for trial in resumed["trials"]] == list(range(20))
    assert first.stat().st_mtime_ns == written, "it was trained again"


@pytest.mark.full
@pytest.mark.parametrize(
    ("blocks", "what"),
    [(8, "is the disk full?"), (24, "File too large")],  # of the prepared data, of a trial's weights
)
def test_a_full_disk_ends_the_study_and_loses_nothing(folder: Path, tmp_path: Path, blocks: int, what: str) -> None:
    """Files may be no larger than the limit, as on a disk without room; without it, the study goes on."""
    shutil.copy(folder / "people.csv", tmp_path)
    options = [*SMALL, "--set", "model.hidden=[64, 64]", "--out", "full", "--quiet"]
    command = " ".join(
        [f"ulimit -f {blocks}; exec", str(commands.BIN / "dle-tune"), *(f"'{each}'" for each in options)]
    )
    for again in (command, f"ulimit -f {blocks}; {commands.BIN / 'dle-tune'} --resume --out full"):
        done = subprocess.run(["bash", "-c", again], cwd=tmp_path, capture_output=True, text=True, check=False)
        assert done.returncode == 1, done.stderr
        assert what in done.stderr
        assert "Traceback" not in done.stderr
    commands.run("dle-tune", "--resume", "--out", "full", "--quiet", folder=tmp_path)
    assert json.loads((tmp_path / "full" / "selected" / "metrics.json").read_text())["test"]
    with (tmp_path / "full" / "leaderboard.csv").open(newline="") as file:
        assert [row["state"] for row in csv.DictReader(file)] == ["complete"] * 3
