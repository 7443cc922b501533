"""What `dle-compare` prints of what was compared."""

import json
from pathlib import Path
from typing import Any

import pytest

from dle_bundle.errors import InputError
from dle_cli import compare, console
from dle_training.scoring.cross_validation import CrossValidation
from dle_training.search import compare as comparing
from dle_training.search.compare import Entry, Group

ENTRY: dict[str, Any] = {"study": False, "finished": True, "model": "mlp", "rows": {"train": 1_000, "test": 9}}
BEST = Entry(
    path="runs/best-study", validation={"log_loss": 0.25}, test={"log_loss": 0.31}, parameters=12_345, seconds=7.5,
    latency=0.051, on_front=True, **{**ENTRY, "study": True},
    cross_validation=CrossValidation(folds=3, mean={"log_loss": 0.27}, sd={"log_loss": 0.02}, scores=()),
)  # fmt: skip
ODD = Entry(path="runs/odd", validation={"log_loss": None}, note="its latency is not known: no file", **ENTRY)
BEGUN = Entry(path="runs/begun", note="has not finished", **{**ENTRY, "finished": False})


def group(*entries: Entry, same_rows: bool = True) -> Group:
    return Group(
        source="houses.csv", target="sold", task="binary", metric="log_loss", same_rows=same_rows, runs=entries
    )


def said(
    groups: list[Group] | InputError, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], *flags: str
) -> tuple[str, str, int]:
    """Standard output, standard error and exit code for these groups, or this error."""

    def found(paths: list[Path], progress: object) -> list[Group]:
        assert paths == [Path("runs/a"), Path("runs/b")]
        if isinstance(groups, InputError):
            raise groups
        return groups

    monkeypatch.setattr(comparing, "compare", found)
    monkeypatch.setattr("sys.argv", ["dle-compare", "runs/a", "runs/b", *flags])
    with pytest.raises(SystemExit) as ended:
        console.run(compare.app)
    assert isinstance(ended.value.code, int)
    out, err = capsys.readouterr()
    return out, err, ended.value.code


def test_a_table_for_each_group(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    out, err, code = said([group(BEST, ODD, BEGUN), group(ODD, same_rows=False)], monkeypatch, capsys)
    assert (err, code) == ("", 0)
    for expected in (
        "ranked in 2 separate tables", "houses.csv: sold, by validation log_loss, lower is better",
        "runs/best-study (study) *", "0.27 ± 0.02", "0.31", "12,345", "0.051", "1,000",
        "* no other run in the table is both better and faster", "runs/begun: has not finished",
        "runs/odd: its latency is not known: no file", "on the same rows",
        "Next: dle-export runs/best-study --to bundles/best-study", "      dle-export runs/odd --to bundles/odd",
    ):  # fmt: skip
        assert expected in out, expected


def test_what_has_not_finished_is_not_to_be_exported(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    out, _, code = said([group(BEGUN)], monkeypatch, capsys)
    assert code == 0
    assert "has not finished" in out
    assert "Next" not in out
    assert "tables" not in out


def test_one_document_or_nothing(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    out, _, _ = said([group(BEST, ODD)], monkeypatch, capsys, "--json")
    (found,) = json.loads(out)["groups"]
    assert (found["source"], found["target"], found["metric"]) == ("houses.csv", "sold", "log_loss")
    assert [run["path"] for run in found["runs"]] == ["runs/best-study", "runs/odd"]
    assert found["runs"][1]["latency"] is None
    assert said([group(BEST)], monkeypatch, capsys, "--quiet") == ("", "", 0)


def test_paths_that_are_no_runs(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    out, err, code = said(InputError("1 of 2 paths", ["runs/b: a file, not a run"]), monkeypatch, capsys)
    assert (out, code) == ("", 2)
    assert "runs/b: a file" in err


def test_the_selected_run_of_a_study_is_named_after_it(tmp_path: Path) -> None:
    (tmp_path / "houses-study" / "selected").mkdir(parents=True)
    assert compare._name(tmp_path / "houses-study" / "selected") == "selected"
    (tmp_path / "houses-study" / "study.yaml").touch()
    assert compare._name(tmp_path / "houses-study" / "selected") == "houses-study"
