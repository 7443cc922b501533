"""Distillation: one network learns the answers of an ensemble, and can take its place.

It learns from the ensemble's answers to the training rows and to rows with shuffled columns, without their targets
(Bucilă et al., "Model Compression", 2006), and begins with the weights of a member. The weights of the epoch that
agrees best with the ensemble on validation rows are kept.

With folds, the answer to a training row is that of the copies that did not train on it. A score of the network needs
answers to rows whose targets it has not met, not even through the ensemble. So one more network is trained for each
fold: it learns only from the copies that did not train on the fold, and answers the rows of the fold.
"""

import copy
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy.typing as npt
import torch
from msgspec.structs import replace as change
from safetensors.torch import load, save
from torch import Tensor
from torch.nn import functional as F

from dle_bundle.files import write_atomic
from dle_training.config import devices
from dle_training.config.run_config import RunConfig
from dle_training.ensembles import folds
from dle_training.ensembles.loop import validation_rows
from dle_training.fitting import loop
from dle_training.fitting.batches import PreparedRows
from dle_training.fitting.listeners import Listener
from dle_training.fitting.loop import FitInputs
from dle_training.fitting.tensors import TrainingData
from dle_training.models._base import Network
from dle_training.models.pack import Ensemble
from dle_training.optimization import objectives
from dle_training.optimization.objectives import Objective
from dle_training.preprocessing.shape import Inputs
from dle_training.settings.base import chosen

_STEPS, _LEAST_EPOCHS, _LEAST_BATCH = 1_500, 4, 256
"""Soft answers have little noise, so few steps of large batches are enough."""
_ANSWERS = "answers.safetensors"
"""The ensemble's answers, kept until the training ends: computed again elsewhere, they would differ by rounding."""


class Students(Network):
    """Networks that learn the answers of an ensemble. The last one can take its place; each other one answers a fold.

    Shape: as `Members`; {"dense": (N, P), "codes": (N, E)} → (N, S, K) for S networks.

    Example:
        >>> from dle_training.models.pack import PackConfig
        >>> from dle_training.preprocessing.shape import InputShape
        >>> settings = PackConfig(width=16, cosines=(4, 4), members=1, blocks=(1,), folds=1)
        >>> students = Students(Ensemble(settings, InputShape(dense=3, quantiles=2), outputs=1, dropout=0.0))
        >>> students({"dense": torch.zeros(5, 3)}).shape
        torch.Size([5, 1, 1])
    """

    def __init__(self, networks: Ensemble) -> None:
        super().__init__()
        self.networks = networks

    def forward(self, inputs: Inputs) -> Tensor:
        return torch.cat([members(inputs) for members in self.networks.running]).transpose(0, 1)

    def before_evaluation(self) -> None:
        self.networks.before_evaluation()

    def last(self) -> Ensemble:
        """The network that can take the place of the ensemble."""
        alone = copy.deepcopy(self.networks)
        alone.settings = change(alone.settings, folds=1)
        alone.keep([len(alone) - 1])
        return alone


class _Agreement(Objective):
    """The loss of students against the answers (N, S, K) of an ensemble; a student does not learn rows with NaN."""

    def __init__(self, own: Objective) -> None:
        super().__init__()
        self.task, self.outputs = own.task, own.outputs

    def actual(self, targets: Tensor, window: Tensor | None = None) -> npt.NDArray[Any]:
        return targets.cpu().numpy()

    def link(self, logits: Tensor, window: Tensor | None = None) -> Tensor:
        return logits

    def loss(self, logits: Tensor, targets: Tensor) -> Tensor:
        known = ~torch.isnan(targets[..., 0])  # (N, S)
        answers = torch.where(known.unsqueeze(2), targets, torch.zeros_like(targets))
        if self.task == "regression":
            each = F.mse_loss(logits, answers, reduction="none").squeeze(2)
        elif self.task == "binary":
            each = F.binary_cross_entropy_with_logits(logits, answers, reduction="none").squeeze(2)
        else:
            each = -(answers * F.log_softmax(logits, dim=2)).sum(dim=2)
        return ((each * known).sum(dim=0) / known.sum(dim=0).clamp(min=1)).sum()


def fit(
    ensemble: Ensemble,
    member: Ensemble,
    data: TrainingData,
    shuffled: Inputs,
    config: RunConfig,
    folder: Path,
    listeners: Sequence[Listener] = (),
) -> Students:
    """Train students of `ensemble`, or continue in `folder`. They begin as `member`, an ensemble of one member of it.

    `shuffled` are rows with shuffled columns as inputs of the network. Raises Interrupted as `loop.fit` does.
    """
    students = _begun(member)
    train, validation = _lessons(ensemble, data, shuffled, config, folder / _ANSWERS)
    size = max(chosen(config.training.batch_size), _LEAST_BATCH)
    epochs = max(-(-_STEPS // len(loop.split_batches(len(train), size))), _LEAST_EPOCHS)
    rate = chosen(config.optimizer.lr) * students.networks.running[0].lr[0].item()
    settings = change(
        config,
        optimizer=change(config.optimizer, name="adamw", lr=rate, weight_decay=0.0),
        schedule=change(config.schedule, name="cosine"),
        training=change(config.training, batch_size=size, epochs=epochs, patience=0, stop_after=None, metric="loss"),
    )
    objective = _Agreement(objectives.restore(data.objective))
    loop.fit(FitInputs(students, objective, train, validation, settings, folder, listeners))
    (folder / _ANSWERS).unlink(missing_ok=True)
    students.cpu()
    return students


def open_last(network: Ensemble, folder: Path) -> Ensemble:
    """Load what `fit` wrote into `network`, of any weights, and return the network that can take the ensemble's place.

    Raises InputError if the file is missing or belongs to another model.
    """
    students = Students(network)
    loop.load_best(students, folder)
    return students.last()


def validated(students: Students, data: TrainingData, seed: int) -> tuple[PreparedRows, Tensor]:
    """The rows that validate the distilled network, and outputs (N, K) for them.

    With folds these are the rows of both parts, each answered by the student that did not learn from its fold.
    """
    rows = validation_rows(students.networks, data, seed)
    outputs = loop.predict(students, rows)  # (N, S, K)
    if folds.FOLD not in rows.inputs:
        return rows, outputs[:, 0]
    return rows, outputs[torch.arange(len(rows)), rows.inputs[folds.FOLD]]


def _begun(member: Ensemble) -> Students:
    """Students with the weights of a member's copies, without dropout."""
    networks = copy.deepcopy(member)
    for members in networks.running:
        if networks.copies > 1:
            members.keep(torch.tensor([*range(networks.copies), 0]))
        members.dropout.zero_()
    return Students(networks)


def _lessons(
    ensemble: Ensemble, data: TrainingData, shuffled: Inputs, config: RunConfig, file: Path
) -> tuple[PreparedRows, PreparedRows]:
    """Rows to learn from and rows to validate on, whose targets (N, S, K) are answers of the ensemble."""
    rows = validation_rows(ensemble, data, config.seed)
    if file.exists():
        known = load(file.read_bytes())
    else:
        known = _answered(ensemble, data, rows, shuffled, config.device)
        write_atomic(file, save(known))
    own = {name: tensor for name, tensor in rows.inputs.items() if name != folds.FOLD}
    real = own if ensemble.copies > 1 else data.train.inputs
    every = {name: torch.cat([tensor, shuffled[name]]) for name, tensor in real.items()}
    return PreparedRows(every, known["train"]), PreparedRows(own, known["validation"])


def _answered(
    ensemble: Ensemble, data: TrainingData, rows: PreparedRows, shuffled: Inputs, device: str
) -> dict[str, Tensor]:
    """The targets of both kinds of rows; see `_lessons`."""
    ensemble.to(devices.choose(device))
    task = objectives.restore(data.objective).task
    each, _ = _answers(ensemble, rows.inputs, task)  # (N, C, K)
    varied, varied_whole = _answers(ensemble, shuffled, task)
    if ensemble.copies == 1:
        learnt, _ = _answers(ensemble, data.train.inputs, task)
        return {"train": torch.cat([learnt, varied]), "validation": each}
    fold = rows.inputs[folds.FOLD]
    held = (fold.unsqueeze(1) == torch.arange(ensemble.copies)).unsqueeze(2)  # (N, C, 1)
    nothing = torch.full_like(each, torch.nan)
    unseen = each[torch.arange(len(rows)), fold].unsqueeze(1)  # (N, 1, K)
    learnt = torch.cat([torch.where(held, nothing, each), unseen], dim=1)
    varied = torch.cat([varied, varied_whole.unsqueeze(1)], dim=1)
    validation = torch.cat([torch.where(held, each, nothing), torch.full_like(unseen, torch.nan)], dim=1)
    return {"train": torch.cat([learnt, varied]), "validation": validation}


@torch.inference_mode()
def _answers(ensemble: Ensemble, inputs: Inputs, task: str) -> tuple[Tensor, Tensor]:
    """The mean answer (N, C, K) of the members' first copies, second copies and so on, and that of all (N, K)."""
    ensemble.eval()
    device, copies = next(ensemble.parameters()).device, ensemble.copies
    by_copy, whole = [], []
    rows = PreparedRows(inputs, next(iter(inputs.values())))  # without targets
    for batch in rows.in_turn():
        outputs = torch.cat([members(batch.to(device).inputs) for members in ensemble.running])  # (M · C, n, K)
        each = [_answer(ensemble.mean(outputs[place::copies]), task) for place in range(copies)]
        by_copy.append(torch.stack(each, dim=1).cpu())
        whole.append(_answer(ensemble.mean(outputs), task).cpu())
    return torch.cat(by_copy), torch.cat(whole)


def _answer(outputs: Tensor, task: str) -> Tensor:
    """Probabilities, before calibration, or standardised values, for outputs (N, K)."""
    if task == "regression":
        return outputs
    return torch.sigmoid(outputs) if task == "binary" else torch.softmax(outputs, dim=1)
