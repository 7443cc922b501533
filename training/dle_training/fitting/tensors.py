"""The data of a training: preprocessing and objective fitted on the training part, and both parts as tensors.

It is made once for a split and its settings. Saved in a folder, it serves any number of processes: they map the same
pages of memory instead of reading and preparing the data again.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from dle_bundle import documents
from dle_bundle.files import write_atomic
from dle_bundle.groups import Groups
from dle_bundle.schema import Schema
from dle_training.config.run_config import RunConfig
from dle_training.data.dataset import Dataset, PartName
from dle_training.data.target import Values
from dle_training.fitting import batches
from dle_training.fitting.batches import ImageStream, PreparedRows
from dle_training.models import registry
from dle_training.models._base import Network
from dle_training.optimization import objectives
from dle_training.optimization.objectives import ObjectiveState
from dle_training.preprocessing import pipeline
from dle_training.preprocessing.pipeline import Preprocessing
from dle_training.preprocessing.shape import WINDOW, Inputs
from dle_training.settings.base import chosen

PREPROCESSING, TOKENIZER, OBJECTIVE = "preprocessing.json", "tokenizer.json", "objective.json"
_FIRST_ROWS = 1_000
"""Training rows, at least, that may shape the first weights."""
_TARGETS, _INPUT = "targets", "input."


@dataclass(frozen=True, slots=True)
class TrainingData:
    """Everything a network is trained on. Preprocessing and `objective` are fitted on the training part alone.

    The objective is not calibrated yet. The tensors are on the CPU.
    """

    preprocessing: Preprocessing
    objective: ObjectiveState
    train: PreparedRows
    validation: PreparedRows

    def network(self, config: RunConfig) -> Network:
        """A network for these inputs and targets, with weights drawn by `config.seed`."""
        objective = objectives.restore(self.objective)
        torch.default_generator.manual_seed(config.seed)  # which draws them, on the CPU
        shape = self.preprocessing.shape(frequencies=True)
        network = registry.build(config.model, shape, objective.outputs, regression=objective.task == "regression")
        every = max(len(self.train) // _FIRST_ROWS, 1)
        network.initialise({name: tensor[::every] for name, tensor in self.train.inputs.items()})
        return network

    def write_fitted(self, folder: Path) -> None:
        """Write `preprocessing.json` and, for text, `tokenizer.json`: a trained network needs them."""
        write_atomic(folder / PREPROCESSING, documents.encode(self.preprocessing.fitted))
        if self.preprocessing.tokenizer is not None:
            write_atomic(folder / TOKENIZER, self.preprocessing.tokenizer.content)


def make(dataset: Dataset, config: RunConfig, stream: ImageStream | None = None) -> TrainingData:
    """Fit on the training part of `dataset`, and prepare both parts. If there is a `stream`, it gives the images."""
    groups, target = dataset.part("train")
    preprocessing, groups = pipeline.fit(dataset.schema, groups, config.preprocessing)
    outputs = dataset.schema.outputs
    objective = objectives.fit(
        outputs.task,
        target,
        outputs.classes,
        config.objective.class_weights,
        clamp=chosen(config.objective.clamp),
    )

    def prepared(name: PartName, rows: Groups, values: Values) -> PreparedRows:
        def encoded(inputs: Inputs) -> Tensor:
            return objective.encode(values, inputs.get(WINDOW))

        return batches.make(preprocessing, rows, encoded, stream, dataset.split.rows(name))

    return TrainingData(
        preprocessing,
        objective.state(),
        train=prepared("train", groups, target),
        validation=prepared("validation", *dataset.part("validation")),
    )


def save(data: TrainingData, folder: Path) -> None:
    """Write everything into `folder`, one file per array. Raises OSError if the disk has no room.

    Images that come from a stream cannot be saved.
    """
    data.write_fitted(folder)
    write_atomic(folder / OBJECTIVE, documents.encode(data.objective))
    for name in ("train", "validation"):
        part: PreparedRows = getattr(data, name)
        assert part.stream is None
        for array, tensor in {_TARGETS: part.targets, **{_INPUT + key: x for key, x in part.inputs.items()}}.items():
            path = folder / f"{name}.{array}.npy"
            try:
                np.save(path, tensor.numpy(), allow_pickle=False)
            except OSError as error:  # NumPy says neither where nor why
                raise OSError(f"{path} cannot be written; is the disk full? ({error})") from error


def load(folder: Path, schema: Schema) -> TrainingData:
    """Map what `save` wrote into memory: pages are read on use and shared by all processes."""
    preprocessing = pipeline.load(folder / PREPROCESSING, schema, folder / TOKENIZER)
    objective = documents.read(folder / OBJECTIVE, ObjectiveState)
    return TrainingData(preprocessing, objective, _part(folder, "train"), _part(folder, "validation"))


def _part(folder: Path, name: str) -> PreparedRows:
    prefix = f"{name}.{_INPUT}"
    files = sorted(folder.glob(f"{prefix}*.npy"))
    inputs = {file.stem.removeprefix(prefix): _mapped(file) for file in files}
    return PreparedRows(inputs, _mapped(folder / f"{name}.{_TARGETS}.npy"), spans=batches.spans(inputs))


def _mapped(path: Path) -> Tensor:
    # copy on write, since tensors cannot be read-only; nothing writes, so nothing is copied
    return torch.from_numpy(np.load(path, mmap_mode="c", allow_pickle=False))
