"""Small models with every kind of input, trained and exported once for the tests that ask for them."""

import tempfile
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import onnx
import onnxruntime
from tests import people

from dle_bundle.groups import Groups
from dle_training.config import run_config
from dle_training.export import graph
from dle_training.runs import contents, prepare, train
from dle_training.runs.folder import RunFolder
from dle_training.runs.trained_model import TrainedModel


@dataclass(frozen=True)
class Small:
    """A finished run, its model, the training rows that it keeps, and its graph."""

    run: RunFolder
    model: TrainedModel
    training: Groups
    graph: onnx.ModelProto

    def session(self) -> Any:
        """The graph in ONNX Runtime."""
        return onnxruntime.InferenceSession(self.graph.SerializeToString(), providers=["CPUExecutionProvider"])


@cache
def small(target: str) -> Small:
    """The model that predicts `buys`, `level` or `spent` of people."""
    folder = Path(tempfile.mkdtemp(prefix="dle-test-"))
    source = people.write_people(folder / "people.csv", 300, target=target)
    settings = ["preset=fast", "training.epochs=3", "model.hidden=[16]", "device=cpu", "preprocessing.piecewise_bins=8"]
    config = run_config.load(None, settings, {"data.source": str(source), "data.target": target})
    prepared = prepare.prepare(config)
    run = prepare.create(folder / "run", prepared)
    train.train(run, prepared)
    model = train.open_model(run)
    training, _ = contents.read_training_sample(run)
    example = model.tensors(training.take(slice(0, 2)))
    proto = graph.build(model.inference_module(tuple(example)), model.schema, example)
    return Small(run, model, training, proto)
