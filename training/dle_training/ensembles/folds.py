"""Folds inside a pack: each member has a copy for each fold, which trains on the other folds and answers its own.

All rows outside the test part train and validate then. On small tables, one validation part is too little to choose by.
The input `fold` (N,) says which fold a row belongs to; without folds there is no such input.
"""

from dataclasses import replace

import torch
from torch import Tensor

from dle_training.fitting import batches
from dle_training.fitting.batches import PreparedRows
from dle_training.fitting.loop import FitInputs
from dle_training.models.pack import Ensemble, Members
from dle_training.preprocessing.shape import Inputs

FOLD = "fold"


def inside(inputs: FitInputs, pack: Ensemble) -> FitInputs:
    """Return the inputs with all rows in both parts, and their folds; unchanged if the pack has none."""
    if pack.copies == 1:
        return inputs
    rows = with_folds(batches.together(inputs.train, inputs.validation), pack.copies, inputs.config.seed)
    return replace(inputs, train=rows, validation=rows)


def with_folds(rows: PreparedRows, count: int, seed: int) -> PreparedRows:
    """Return the rows with their folds: drawn by the seed, of equal size, with the same share of each class."""
    return replace(rows, inputs=rows.inputs | {FOLD: draw(rows.targets, count, seed)})


def draw(targets: Tensor, count: int, seed: int) -> Tensor:
    """Return the fold (N,) of each row with these targets (N,), which are class indices int64, or values."""
    generator = torch.Generator().manual_seed(seed)
    classes = targets if not targets.is_floating_point() else torch.zeros(len(targets), dtype=torch.int64)
    order = torch.randperm(len(targets), generator=generator)
    order = order[classes[order].argsort(stable=True)]  # class by class
    fold = torch.empty(len(targets), dtype=torch.int64)
    fold[order] = torch.arange(len(targets)) % count
    return fold


def shares(inputs: Inputs, members: Members) -> Tensor:
    """The share (M, B) or (M, 1) of each row of a batch in each member's loss: 0 for the rows of its own fold."""
    if FOLD not in inputs:
        rows = next(iter(inputs.values())).shape[0]
        return torch.full((len(members), 1), 1 / rows, device=members.fold.device)
    trains = (inputs[FOLD] != members.fold.unsqueeze(1)).float()
    return trains / trains.sum(dim=1, keepdim=True).clamp(min=1)


def of_own_copy(outputs: Tensor, inputs: Inputs, copies: int) -> Tensor:
    """(M, N, K) → (M / copies, N, K): for each row and member, the output of the copy that did not train on the row."""
    if copies == 1:
        return outputs
    count, rows, width = outputs.shape
    each = outputs.view(count // copies, copies, rows, width)
    places = inputs[FOLD].view(1, 1, rows, 1).expand(count // copies, 1, rows, width)
    return each.gather(1, places).squeeze(1)
