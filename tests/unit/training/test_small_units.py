"""A model learns as well from numbers in a small unit: from the file to the validation scores."""

from pathlib import Path

import numpy as np
import pytest

from dle_training.config import run_config
from dle_training.runs import prepare, train
from dle_training.scoring.metrics import Scores

ROWS = 240


def scores(folder: Path, source: Path, target: str, *assignments: str) -> tuple[Scores, list[str]]:
    """Every metric on validation, and the columns that were left out."""
    settings = ["device=cpu", f"data.source={source}", f"data.target={target}", *assignments]
    prepared = prepare.prepare(run_config.load(None, settings))
    run = prepare.create(folder / source.stem, prepared)
    return train.train(run, prepared).validation, list(prepared.dataset.dropped)


def test_series(tmp_path: Path) -> None:
    draw = np.random.default_rng(0)
    labels = draw.integers(0, 2, ROWS)
    steps = np.arange(24)
    waves = np.sin(steps * np.where(labels, 0.5, 0.9)[:, None] + draw.uniform(0, 6, (ROWS, 1)))
    series = (waves + 0.1 * draw.normal(size=waves.shape))[..., None]
    found = []
    for name, unit in (("plain", 1.0), ("small", 1e-8)):
        np.savez(tmp_path / f"{name}.npz", X=series * unit, y=labels)
        settings = ["model.name=tcn", "model.tcn={width: 4, depth: 3, kernel: 9}", "training.epochs=20"]
        found.append(scores(tmp_path, tmp_path / f"{name}.npz", "y", *settings)[0])
    assert found[0]["accuracy"] == found[1]["accuracy"] == 1.0
    assert found[0]["log_loss"] == pytest.approx(found[1]["log_loss"], abs=0.02)


@pytest.mark.parametrize("bins", [0, 8])
def test_a_column(tmp_path: Path, bins: int) -> None:
    draw = np.random.default_rng(0)
    amount, other = draw.normal(size=(2, ROWS))
    found = []
    for name, unit in (("plain", 1.0), ("small", 1e-9)):
        rows = zip(amount * unit, other, amount > 0.3, strict=True)
        lines = [f"{a:.17g},{b:.17g},{'yes' if label else 'no'}" for a, b, label in rows]
        (tmp_path / f"{name}.csv").write_text("\n".join(["amount,other,y", *lines]) + "\n")
        settings = ["preset=fast", "model.hidden=[16]", "training.epochs=40", f"preprocessing.piecewise_bins={bins}"]
        measured, dropped = scores(tmp_path, tmp_path / f"{name}.csv", "y", *settings)
        assert not dropped
        found.append(measured)
    assert (found[0]["roc_auc"] or 0) > 0.95
    assert found[1] == pytest.approx(found[0], abs=1e-3)
