"""Class weights from the table to the graph: what they change, and that probabilities are those of the data."""

from pathlib import Path

import numpy as np
import onnxruntime
import pytest

from dle_bundle.errors import InputError
from dle_training.config import run_config
from dle_training.config.run_config import RunConfig
from dle_training.export import graph
from dle_training.fitting.listeners import read_history
from dle_training.runs import evaluate, prepare, train
from dle_training.runs.folder import RunFolder, read_metrics
from dle_training.search import study as studies

ROWS = 4_000
RATES = {"binary": {"yes": 0.0275}, "multiclass": {"often": 0.1, "yes": 0.0275}}


def write(folder: Path, task: str) -> Path:
    """Rows of which few are `yes`, the likelier the larger `a`; `b` says nothing."""
    draw = np.random.default_rng(4)
    a, b = draw.normal(size=(2, ROWS))
    order = np.argsort(-(a + 1.5 * draw.normal(size=ROWS)))
    labels, start = np.full(ROWS, "no", dtype=object), 0
    for label, rate in reversed(RATES[task].items()):
        labels[order[start : start + round(rate * ROWS)]] = label
        start += round(rate * ROWS)
    lines = [f"{x:.5f},{y:.5f},{label}" for x, y, label in zip(a, b, labels, strict=True)]
    path = folder / f"{task}.csv"
    path.write_text("\n".join(["a,b,label", *lines]) + "\n")
    return path


def configuration(source: Path, *assignments: str) -> RunConfig:
    settings = [
        "preset=fast",
        "model.hidden=[32]",
        "training.epochs=6",
        "device=cpu",
        "objective.class_weights=balanced",
    ]
    return run_config.load(None, [*settings, *assignments], {"data.source": str(source), "data.target": "label"})


def trained(source: Path, *assignments: str) -> RunFolder:
    prepared = prepare.prepare(configuration(source, *assignments))
    run = prepare.create(source.parent / "run", prepared)
    train.train(run, prepared)
    return run


@pytest.mark.parametrize("task", RATES)
def test_probabilities_follow_how_often_each_class_occurs(tmp_path: Path, task: str) -> None:
    run = trained(write(tmp_path, task))
    model, dataset = train.open_model(run), prepare.reopen(run).dataset
    groups, target = dataset.part("test")
    probabilities = model.predict(groups)
    classes = list(model.schema.outputs.classes or ())
    for label, rate in RATES[task].items():
        actual = float((target == label).mean())
        noise = 3 * np.sqrt(rate * (1 - rate) / len(target))
        assert actual == pytest.approx(rate, abs=noise)
        assert probabilities[:, classes.index(label)].mean() == pytest.approx(rate, abs=noise)
    tensors = model.tensors(groups)
    proto = graph.build(model.inference_module(tuple(tensors)), model.schema, model.tensors(groups.take(slice(2))))
    session = onnxruntime.InferenceSession(proto.SerializeToString(), providers=["CPUExecutionProvider"])
    (found,) = session.run(["probabilities"], groups.feeds())
    np.testing.assert_allclose(found, probabilities, atol=1e-5)


def test_the_weighted_loss_chooses_the_epoch(tmp_path: Path) -> None:
    run = trained(write(tmp_path, "binary"))
    assert run.read_config().training.metric == "loss"
    history = read_history(run.history)
    assert [record.metric for record in history] == [record.validation_loss for record in history]
    best = train.open_model(run).best_epoch
    assert best == 1 + int(np.argmin([record.validation_loss for record in history]))
    evaluate.evaluate(run)
    page = run.report.read_text(encoding="utf-8")
    assert "Training weighted the classes" in page
    assert "loss" not in read_metrics(run)["test"], "an evaluation has log_loss, of the probabilities"


def test_a_metric_that_is_given_chooses_the_epoch(tmp_path: Path) -> None:
    config = prepare.prepare(configuration(write(tmp_path, "binary"), "training.metric=log_loss")).config
    assert config.training.metric == "log_loss"


def test_trials_with_different_weights_are_compared_by_log_loss(tmp_path: Path) -> None:
    flags = {"data.source": str(write(tmp_path, "binary")), "data.target": "label"}
    weights = ["objective.class_weights=balanced,null"]
    planned = studies.plan(studies.request({}, [], flags, grids=weights))
    assert planned.request.fixed["training"]["metric"] == "log_loss"
    assert (
        studies.plan(
            studies.request({}, ["objective.class_weights=balanced"], flags, ["optimizer.lr={log: [1e-3, 1e-2]}"])
        ).request.fixed["training"]["metric"]
        == "loss"
    )
    with pytest.raises(InputError) as caught:
        studies.request({}, ["training.metric=loss"], flags, grids=weights)
    assert "set log_loss" in str(caught.value)
    assert studies.request({}, ["training.metric=log_loss"], flags, grids=weights)
