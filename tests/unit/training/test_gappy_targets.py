"""Forecasts whose targets have gaps: every known step counts, in training, in scores and in what a run keeps."""

from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from dle_training.config import run_config
from dle_training.export.bundle import export_run
from dle_training.export.parity import VALUE_BOUND
from dle_training.runs import contents
from dle_training.runs.evaluate import evaluate, evaluate_source
from dle_training.runs.prepare import create, prepare
from dle_training.runs.train import open_model, train

STEPS = 300
HORIZON = 4


def write(path: Path, share: float) -> str:
    """An hourly wave in which a share of the values is missing."""
    lost = np.random.default_rng(0).random(STEPS) < share
    lines = [
        f"{hour},{'' if lost[hour] else f'{10 + np.sin(hour / 12 * 2 * np.pi):.6f}'},{hour % 12}"
        for hour in range(STEPS)
    ]
    path.write_text("\n".join(["hour,load,clock", *lines]))
    return str(path)


def test_from_training_to_the_bundle(tmp_path: Path) -> None:
    source = write(tmp_path / "gaps.csv", 0.2)
    config = run_config.load(
        None,
        [
            f"data.source={source}",
            *("data.target=load", "data.time=hour", "data.window=12", f"data.horizon={HORIZON}"),
            *("model.tcn.width=4", "model.tcn.depth=3", "training.epochs=2", "device=cpu"),
        ],
    )
    prepared = prepare(config)
    assert any("some values of load to predict are missing" in note for note in prepared.dataset.notes)
    folder = create(tmp_path / "run", prepared)
    train(folder, prepared)

    groups, target = contents.read_part(folder, "test")
    known = ~np.isnan(target)
    assert not known.all()
    assert known.any(axis=1).all()
    predicted = open_model(folder).predict(groups)
    scores = evaluate(folder)
    assert scores.test["mae"] == pytest.approx(np.abs(predicted - target)[known].mean())
    assert scores.forecast is not None
    assert scores.forecast.model.mae == scores.test["mae"]
    assert all(value is not None for value in scores.test.values())

    answers = pq.read_table(folder.validation_answers)
    actual = prepared.dataset.part("validation")[1]
    assert answers.column("actual_2").null_count == np.isnan(actual[:, 1]).sum() > 0
    assert answers.column("value_2").null_count == 0
    assert export_run(folder, tmp_path / "bundle").parity.largest_difference <= VALUE_BOUND

    everything = evaluate_source(folder, source).evaluation
    assert everything.rows > len(target)
    assert all(value is not None for value in everything.test.values())
