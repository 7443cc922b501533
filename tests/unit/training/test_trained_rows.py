"""Rows of another source that were trained on are counted."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from dle_bundle.errors import InputError
from dle_cli import evaluate
from dle_training.config import run_config
from dle_training.data.rows import row_hashes
from dle_training.runs import prepare, train
from dle_training.runs.evaluate import evaluate_source
from dle_training.runs.folder import RunFolder

RNG = np.random.default_rng(3)
ROWS = 200
TABLE = pd.DataFrame(
    {
        "size": RNG.normal(size=ROWS).round(3),
        "town": RNG.choice(["Ulm", "Kiel", ""], ROWS),
        "born": pd.date_range("2001-01-01", periods=ROWS).strftime("%Y-%m-%d"),
        "buys": RNG.choice(["no", "yes"], ROWS),
    }
)


def trained(folder: Path, table: pd.DataFrame, target: str = "buys") -> RunFolder:
    table.to_csv(folder / "all.csv", index=False)
    flags = {"data.source": str(folder / "all.csv"), "data.target": target}
    settings = ["preset=fast", "training.epochs=1", "model.hidden=[4]", "device=cpu", "objective.task=classification"]
    made = prepare.prepare(run_config.load(None, settings, flags))
    run = prepare.create(folder / "run", made)
    train.train(run, made)
    return run


def counts(run: RunFolder, table: pd.DataFrame, folder: Path) -> dict[str, int]:
    table.to_csv(folder / "some.csv", index=False)
    return evaluate_source(run, str(folder / "some.csv")).trained


def test_rows_of_another_file_that_were_trained_on_are_counted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    run = trained(tmp_path, TABLE)
    with np.load(run.split) as split:
        parts = {name: split[name] for name in split.files}
    assert evaluate_source(run, str(tmp_path / "all.csv")).trained == {"train": 140, "validation": 30}
    chosen = np.concatenate([parts["train"][:7], parts["validation"][:2], parts["test"]])
    mixed = TABLE.iloc[RNG.permutation(chosen)][["town", "buys", "born", "size"]]
    assert counts(run, mixed, tmp_path) == {"train": 7, "validation": 2}
    assert counts(run, TABLE.iloc[parts["test"]], tmp_path) == {"train": 0, "validation": 0}
    other = TABLE.iloc[parts["train"]].assign(buys=lambda rows: np.where(rows.buys == "no", "yes", "no"))
    assert counts(run, other, tmp_path) == {"train": 0, "validation": 0}
    mixed.to_csv(tmp_path / "mixed.csv", index=False)
    monkeypatch.setattr("sys.argv", ["dle-evaluate", str(run.path), "--data", str(tmp_path / "mixed.csv"), "--json"])
    evaluate.app(standalone_mode=False)
    said = "9 of 39 rows were trained on (7 for training and 2 for validation), so the scores are too good"
    assert said in capsys.readouterr().err


def test_another_source_is_refused_without_settings_and_absent_columns_are_noted(tmp_path: Path) -> None:
    run = trained(tmp_path, TABLE.assign(town=TABLE.town.replace("", None)))
    other = tmp_path / "other.csv"
    other.write_bytes("size,town,born,buys\n1,Köln,2001-01-01,no\n".encode("cp1252"))
    with pytest.raises(InputError, match=r"expected UTF-8 text, found byte 0xf6; save it as UTF-8$"):
        evaluate_source(run, str(other))
    TABLE[["size", "born", "buys"]].to_csv(other, index=False)
    assert "no column of the table, so missing in all rows: town" in evaluate_source(run, str(other)).notes


def test_rows_that_are_equal_by_chance_are_not_counted(tmp_path: Path) -> None:
    few = pd.DataFrame({"a": RNG.choice(["p", "q"], ROWS), "b": RNG.choice(["r", "s"], ROWS), "buys": TABLE.buys})
    run = trained(tmp_path, few)
    assert counts(run, few.iloc[:50], tmp_path) == {"train": 0, "validation": 0}


def test_missing_values_are_equal_and_other_values_are_not() -> None:
    words = row_hashes.words(np.array([0.0, -0.0, np.nan, -np.nan, 1.0], dtype=np.float32))
    assert [words[0] == words[1], words[2] == words[3], words[0] == words[4]] == [True, True, False]
