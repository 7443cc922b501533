"""What `dle-train` and `dle-tune` refuse before they do any work."""

from pathlib import Path

import pytest
import typer
from tests import people

from dle_cli import console, train, tune


def test_impossible_folds_are_refused_before_training(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    people.write_people(tmp_path / "people.csv", 60)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.argv", ["dle-train", "people.csv", "--target", "buys", "--folds", "3000", "--out", "run"])
    with pytest.raises(SystemExit) as ended:
        console.run(train.app)
    assert ended.value.code == 2
    assert "too little data for 3000 folds" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


def test_a_list_of_nothing_names_what_can_be_listed(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for arguments, found in ((["--list"], ""), (["--list", "model"], ", found 'model' (did you mean 'models'?)")):
        monkeypatch.setattr("sys.argv", ["dle-train", *arguments])
        with pytest.raises(SystemExit) as ended:
            train.main()
        assert ended.value.code == 2
        expected = f"--list: expected one of models, losses, optimizers, schedules, metrics{found}\n"
        assert capsys.readouterr().err == f"Error: {expected}"


def test_resumption_names_the_options_that_cannot_change(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.argv", ["dle-tune", "--resume", "--out", "study", "--search", "tpe", "--seed", "0"])
    with pytest.raises(SystemExit) as ended:
        console.run(tune.app)
    assert ended.value.code == 2
    assert "leave out --seed, --search, or" in capsys.readouterr().err


def test_a_storage_is_tried_before_the_source(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["dle-tune", "absent.csv", "--set", "study.storage=no such storage", "--out", str(tmp_path / "study")]
    monkeypatch.setattr("sys.argv", arguments)
    with pytest.raises(SystemExit) as ended:
        console.run(tune.app)
    assert ended.value.code == 2
    assert "study.storage: no storage can be opened" in capsys.readouterr().err


@pytest.mark.parametrize("command", ["dle-train", "dle-tune"])
def test_a_place_where_nothing_can_be_made_is_refused_before_the_source(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], command: str
) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setattr("sys.argv", [command, "absent.csv", "--out", str(tmp_path / "file" / "run")])
    with pytest.raises(SystemExit) as ended:
        console.run({"dle-train": train.app, "dle-tune": tune.app}[command])
    assert ended.value.code == 2
    assert f"cannot be created: {tmp_path / 'file'} is a file" in capsys.readouterr().err


def test_ctrl_c_before_the_first_trial_tells_how_to_go_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    people.write_people(tmp_path / "people.csv", 60)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.argv", ["dle-tune", "people.csv", "--target", "buys", "--quiet", "--out", "study"])
    monkeypatch.setattr("dle_cli.tune._engine", lambda _: interrupted)
    with pytest.raises(SystemExit) as ended:
        console.run(tune.app)
    assert ended.value.code == 130
    assert "the finished work is in study\nContinue with: dle-tune --resume --out study" in capsys.readouterr().err


@pytest.mark.parametrize("app", [train.app, tune.app])
def test_a_configuration_that_is_not_there_is_reported_in_words(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], app: typer.Typer
) -> None:
    for place, reason in (("absent.yaml", "there is no such file"), ("", "found a folder")):
        monkeypatch.setattr("sys.argv", ["dle", "absent.csv", "--config", str(tmp_path / place)])
        with pytest.raises(SystemExit) as ended:
            console.run(app)
        assert ended.value.code == 2
        said = capsys.readouterr().err
        assert str(tmp_path / place) in said
        assert reason in said
        assert "Errno" not in said


def test_an_option_that_overrides_a_setting_says_which_one_counts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    settings = ["--set", "study.trials=9", "--set", "seed=3", "--set", "split.folds=2"]
    given = ["--trials", "5", "--seed", "3", "--out", str(tmp_path / "study")]
    monkeypatch.setattr("sys.argv", ["dle-tune", "absent.csv", *settings, *given])
    with pytest.raises(SystemExit):
        console.run(tune.app)
    warnings = [line for line in capsys.readouterr().err.splitlines() if line.startswith("Warning: ")]
    assert warnings == ["Warning: --trials 5 overrides --set study.trials=9: give only one of them"]


@pytest.mark.parametrize("app", [train.app, tune.app])
def test_an_option_with_one_value_is_refused_when_it_is_given_twice(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], app: typer.Typer
) -> None:
    repeated = ["--target", "a", "--set", "seed=1", "--set", "seed=2", "--target=b", "--out", str(tmp_path / "run")]
    monkeypatch.setattr("sys.argv", ["dle", "absent.csv", *repeated])
    with pytest.raises(SystemExit) as ended:
        console.run(app)
    assert ended.value.code == 2
    assert capsys.readouterr().err == "Error: --target is given 2 times, but takes one value: give it once\n"
