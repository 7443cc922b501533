"""What `dle-train` shows of the columns."""

import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from dle_cli import shown
from dle_cli.console import Console
from dle_training.config import run_config
from dle_training.runs import prepare


def test_a_wide_table_ends_early_and_names_dropped_columns_and_units(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rng = np.random.default_rng(2)
    columns = {f"c{index}": rng.normal(size=60) for index in range(60)}
    weights = [f"{number} kg" for number in range(3, 63)]
    table = pd.DataFrame({"weight": weights, "id": range(60), **columns, "y": rng.choice(["p", "q"], 60)})
    table.to_csv(tmp_path / "wide.csv", index=False)
    config = run_config.load(None, [], {"data.source": str(tmp_path / "wide.csv"), "data.target": "y"})
    shown.show_data(Console(json=False, quiet=False), prepare.prepare(config), Path("run"))
    printed = capsys.readouterr().out
    assert len(printed.splitlines()) < 50
    assert "… and 41 more: all are in run/schema.json\n" in printed
    assert re.search(r"weight +numeric +yes +3 … \d+ kg; such as \d+ kg, \d+ kg", printed)
    assert re.search(r"id +row number, such as '0' and '1'", printed)


def test_samples_show_large_numbers_whole(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    large = [f"{1_000_000_005 + row} kg" for row in range(60)]
    table = pd.DataFrame({"weight": large, "other": range(0, 120, 2), "y": ["p", "q"] * 30})
    table.to_csv(tmp_path / "large.csv", index=False)
    config = run_config.load(None, [], {"data.source": str(tmp_path / "large.csv"), "data.target": "y"})
    shown.show_data(Console(json=False, quiet=False), prepare.prepare(config), Path("run"))
    assert re.search(r"such as 10000000\d\d kg, 10000000\d\d kg", capsys.readouterr().out)
