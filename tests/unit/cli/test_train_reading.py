"""What `dle-train` says while it reads images, and how Ctrl-C ends that."""

from pathlib import Path

import pytest
from PIL import Image

from dle_bundle.errors import InputError
from dle_cli import console, train
from dle_cli.progress import ReadingProgress
from dle_training.config.run_config import RunConfig
from dle_training.runs import prepare as preparing
from dle_training.runs.prepare import Prepared


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for label in ("cat", "dog"):
        place = tmp_path / "pets" / label
        place.mkdir(parents=True)
        for index in range(10):
            Image.new("L", (8, 8), index).save(place / f"{index}.png")
    return tmp_path / "pets"


def stop(shown: ReadingProgress, done: int, total: int) -> None:
    assert (done, total) == (20, 20)
    raise KeyboardInterrupt


def test_interrupted_while_reading(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(ReadingProgress, "__call__", stop)
    out = folder.parent / "run"
    monkeypatch.setattr("sys.argv", ["dle-train", str(folder), "--out", str(out)])
    with pytest.raises(SystemExit) as ended:
        console.run(train.app)
    assert ended.value.code == 130
    assert "Interrupted" in capsys.readouterr().err
    assert not out.exists()


@pytest.mark.parametrize("option", ["--json", "--quiet"])
def test_nothing_is_told_where_nobody_reads(folder: Path, monkeypatch: pytest.MonkeyPatch, option: str) -> None:
    def prepare(config: RunConfig, progress: object, source: object) -> Prepared:
        assert progress is None
        raise InputError("that will do")

    monkeypatch.setattr(preparing, "prepare", prepare)
    monkeypatch.setattr("sys.argv", ["dle-train", str(folder), "--out", str(folder.parent / "run"), option])
    with pytest.raises(SystemExit) as ended:
        console.run(train.app)
    assert ended.value.code == 2
