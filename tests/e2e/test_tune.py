"""`dle-tune` as people treat it: killed, interrupted, resumed, shared by processes, and given what cannot work."""

import json
import os
import signal
import subprocess
import time
from pathlib import Path
from types import SimpleNamespace

import psutil
import pytest
from tests import commands, people
from tests.e2e.paused import Paused
from tests.e2e.servers import DEADLINE, eventually

from dle_training.search import work

pytestmark = pytest.mark.e2e
EPOCHS = 6
SLOW = (
    "people.csv", "--target", "buys", "--set", "study.trials=4", "--set", f"training.epochs={EPOCHS}",
    "--set", "training.patience=0", "--set", "training.batch_size=32",
    "--set", "study.pruner=none", "--set", "study.packing=never", "--set", "model.hidden=[64]",
    "--space", "model.dropout={float: [0, 0.5]}",
)  # fmt: skip


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the file and one uninterrupted study of it."""
    folder = tmp_path_factory.mktemp("tune")
    people.write_people(folder / "people.csv", 1000)
    commands.run("dle-tune", *SLOW, "--out", "whole", "--quiet", folder=folder)
    return folder


def started(folder: Path, out: str, *options: str) -> Paused:
    """A study that has stopped in the middle of its second trial."""
    return Paused("001", "dle-tune", *SLOW, "--out", out, *options, folder=folder)


def epochs(study: Path, number: int) -> int:
    """Epochs that a trial has behind it, by its history."""
    history = study / "trials" / f"{number:03}" / "history.jsonl"
    return len(history.read_text().splitlines()) if history.exists() else 0


def results(study: Path) -> dict[int, tuple[str, str]]:
    """State and score of each trial as the leaderboard has it."""
    lines = (study / "leaderboard.csv").read_text().splitlines()
    rows = [dict(zip(lines[0].split(","), line.split(","), strict=False)) for line in lines[1:]]
    return {int(row["number"]): (row["state"], row["score"]) for row in rows}


def test_a_study_ends_in_a_model_that_exports_as_a_run_does(folder: Path) -> None:
    assert results(folder / "whole").keys() == {0, 1, 2, 3}
    assert not (folder / "whole" / "prepared").exists(), "nobody needs it any more"
    evaluated = commands.document("dle-evaluate", "whole", folder=folder)
    assert evaluated["rows"] == 150
    exported = commands.document("dle-export", "whole", "--to", "bundles/whole", folder=folder)
    assert exported["test"] == evaluated["test"]


def test_a_study_has_a_report(folder: Path) -> None:
    report = (folder / "whole" / "report.html").read_text()
    assert "<h2>Trials</h2>" in report
    figures = {path.stem for path in (folder / "whole" / "figures").iterdir()}
    assert figures == {"history", "learning_curves", "parallel_coordinates", "pareto_front"}  # it has one setting
    assert report.count("<img ") == len(figures)


def test_a_study_compares_with_a_run(folder: Path) -> None:
    options = ("--set", "training.epochs=2", "--seed", "1", "--out", "single", "--quiet")
    commands.run("dle-train", "people.csv", "--target", "buys", *options, folder=folder)
    (group,) = commands.document("dle-compare", "whole", "single", folder=folder)["groups"]
    assert {run["path"]: run["study"] for run in group["runs"]} == {"whole": True, "single": False}
    assert all(run["latency"] > 0 for run in group["runs"])
    assert (folder / "single" / "latency.json").is_file()
    said = commands.refusal("dle-compare", "whole", "people.csv", "nowhere", folder=folder)
    assert "people.csv: a file, not a run" in said
    assert "nowhere: nothing is there" in said


def test_killed_and_resumed_with_more_trials_it_finishes_the_same_ones(folder: Path) -> None:
    started(folder, "killed", "--trials", "2").kill()
    first = (folder / "killed/trials/000/metrics.json").stat().st_mtime_ns
    assert epochs(folder / "killed", 1) == 2
    commands.run("dle-tune", "--resume", "--trials", "4", "--out", "killed", "--quiet", folder=folder)
    assert results(folder / "killed") == results(folder / "whole")
    assert (folder / "killed/trials/000/metrics.json").stat().st_mtime_ns == first
    history = (folder / "killed/trials/001/history.jsonl").read_text().splitlines()
    assert [json.loads(line)["epoch"] for line in history] == list(range(1, EPOCHS + 1))


@pytest.mark.full
def test_after_a_timeout_what_is_resumed_decides_anew(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def hours() -> float:  # one for each trial that has ended
        return 3600.0 * len(list(folder.glob("timed/trials/*/metrics.json")))

    with monkeypatch.context() as patched:
        patched.setattr(work, "time", SimpleNamespace(monotonic=hours, sleep=time.sleep))
        commands.run("dle-tune", *SLOW, "--timeout", "5400", "--out", "timed", "--quiet", folder=folder)
    first = json.loads((folder / "timed" / "selection.json").read_text())
    assert first["ended"] == 2
    tested = (folder / "timed" / "selected" / "metrics.json").stat().st_mtime_ns
    commands.run("dle-tune", "--resume", "--timeout", "1000", "--out", "timed", "--quiet", folder=folder)
    assert results(folder / "timed") == results(folder / "whole")
    selections = [json.loads((folder / study / "selection.json").read_text()) for study in ("timed", "whole")]
    assert selections[0]["number"] == selections[1]["number"]
    assert selections[0]["ended"] == 4
    again = (folder / "timed" / "selected" / "metrics.json").stat().st_mtime_ns
    assert (again == tested) == (selections[0]["number"] == first["number"]), "nothing of the same trial is done again"


def test_bad_trials_are_stopped_early_and_finalists_have_further_seeds(folder: Path) -> None:
    commands.run(
        "dle-tune", "people.csv", "--target", "buys", "--trials", "6", "--set", "training.epochs=9",
        "--set", "training.patience=0", "--set", "study.pruner=halving", "--set", "study.least_epochs=2",
        "--set", "study.reduction=2", "--set", "model.hidden=[16]", "--space", "optimizer.lr={log: [1e-6, 1e-1]}",
        "--set", "study.finalists=2", "--set", "study.seeds=3", "--out", "halved", "--quiet", folder=folder,
    )  # fmt: skip
    states = {number: state for number, (state, _) in results(folder / "halved").items()}
    pruned = [number for number, state in states.items() if state == "pruned"]
    assert states[0] == "complete", "the first has nothing to be compared with"
    assert pruned
    assert all(2 <= epochs(folder / "halved", number) < 9 for number in pruned)
    selection = json.loads((folder / "halved" / "selection.json").read_text())
    assert selection["number"] not in pruned
    for finalist in selection["finalists"]:
        assert len(finalist["scores"]) == 2
        assert finalist["score"] == pytest.approx(sum(finalist["scores"]) / 2)
        own = float(results(folder / "halved")[finalist["number"]][1])
        assert own not in finalist["scores"], "the score that made it a finalist counts"
        for seed in (1, 2):
            assert (folder / f"halved/finalists/{finalist['number']:03}-seed{seed}/metrics.json").is_file()


@pytest.mark.full
def test_trials_that_are_trained_at_once_are_killed_and_gone_on_with(folder: Path) -> None:
    started(folder, "packed", "--set", "study.packing=auto").kill()
    assert not (folder / "packed" / "trials" / "000" / "metrics.json").exists(), "they were not trained at once"
    assert all(epochs(folder / "packed", number) for number in range(4))
    commands.run("dle-tune", "--resume", "--out", "packed", "--quiet", folder=folder)
    found, expected = results(folder / "packed"), results(folder / "whole")
    for number, (state, score) in expected.items():
        assert found[number][0] == state
        assert float(found[number][1]) == pytest.approx(float(score), rel=0.02)
    for number in range(4):
        assert epochs(folder / "packed", number) == EPOCHS


def test_a_killed_worker_is_replaced_and_its_trial_gone_on_with(folder: Path) -> None:
    command = started(folder, "workers", "--jobs", "2")
    assert command.stopped.pid != command.process.pid
    command.stopped.kill()
    _, said = command.process.communicate(timeout=DEADLINE)
    assert command.process.returncode == 0, said
    assert results(folder / "workers") == results(folder / "whole")


@pytest.mark.full
def test_ctrl_c_on_a_terminal_reaches_workers_that_only_begin(folder: Path) -> None:
    process = subprocess.Popen(  # of a group of its own, all of which a terminal's Ctrl-C interrupts
        [commands.BIN / "dle-tune", *SLOW, "--out", "early", "--jobs", "2"],
        cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True,
    )  # fmt: skip

    def has_workers() -> bool:
        assert process.poll() is None, process.communicate()
        of_python = psutil.Process(process.pid).children(recursive=True)
        return any("spawn_main" in " ".join(each.cmdline()) for each in of_python)

    eventually(has_workers)
    os.killpg(process.pid, signal.SIGINT)
    _, said = process.communicate(timeout=DEADLINE)
    assert process.returncode == 130, said
    assert "Traceback" not in said
    assert "dle-tune --resume --out early" in said


@pytest.mark.full
def test_without_its_keeper_no_worker_goes_on(folder: Path) -> None:
    command = started(folder, "orphans", "--jobs", "2")
    workers = psutil.Process(command.process.pid).children(recursive=True)
    command.kill()
    psutil.wait_procs(workers, timeout=DEADLINE)
    assert not [worker for worker in workers if worker.is_running()]
    commands.run("dle-tune", "--resume", "--out", "orphans", "--jobs", "2", "--quiet", folder=folder)
    assert results(folder / "orphans") == results(folder / "whole")


@pytest.mark.full
@pytest.mark.parametrize("jobs", ["1", "2"])
def test_ctrl_c_saves_and_says_how_to_resume(folder: Path, jobs: str) -> None:
    out = f"stopped{jobs}"
    code, said = started(folder, out, "--jobs", jobs).interrupt()
    assert code == 130, said
    assert "Traceback" not in said
    assert f"dle-tune --resume --out {out}" in said
    commands.run("dle-tune", "--resume", "--out", out, "--quiet", folder=folder)
    assert results(folder / out) == results(folder / "whole")
