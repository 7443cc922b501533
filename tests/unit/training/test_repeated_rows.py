"""A warning about test rows that are copies of training rows."""

from pathlib import Path

import numpy as np
import pandas as pd

from dle_training.config import run_config
from dle_training.data import dataset


def warnings(frame: pd.DataFrame, folder: Path) -> tuple[str, ...]:
    frame.to_csv(folder / "rows.csv", index=False)
    flags = {"data.source": str(folder / "rows.csv"), "data.target": "y"}
    return dataset.load(run_config.load(None, [], flags)).warnings


def test_rows_that_occur_twice(tmp_path: Path) -> None:
    generator = np.random.default_rng(0)
    values = {name: generator.normal(size=100).round(3) for name in ("x", "z")}
    once = pd.DataFrame({**values, "y": generator.integers(0, 2, 100)})
    (found,) = warnings(pd.concat([once, once]), tmp_path)
    assert "test rows equal a training row in all columns" in found
    assert not warnings(once, tmp_path)


def test_rows_that_are_equal_by_chance(tmp_path: Path) -> None:
    generator = np.random.default_rng(0)
    values = {name: generator.integers(0, 3, 200) for name in ("a", "b", "y")}
    assert not warnings(pd.DataFrame(values), tmp_path)
    coarse = {"x": generator.normal(size=600).round(2), "y": generator.integers(0, 2, 600)}
    assert not warnings(pd.DataFrame(coarse), tmp_path)
