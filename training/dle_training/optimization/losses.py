"""The loss functions that training minimises, one entry for each."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional as F

from dle_bundle.schema import Task

Reduction = Literal["none", "mean"]


@dataclass(frozen=True, slots=True)
class Loss:
    """A loss function and the tasks that use it.

    `compute(outputs, targets, reduction)` takes the network's outputs (…, K) and encoded targets (…), or (…, K) for a
    horizon of K values. It returns the loss of each row and value with "none", and their mean with "mean". A value of a
    horizon may be NaN, but not all of them: the loss of such a row is the mean over its other values.
    """

    name: str
    description: str
    tasks: tuple[Task, ...]
    compute: Callable[[Tensor, Tensor, Reduction], Tensor]


def _binary_cross_entropy(outputs: Tensor, targets: Tensor, reduction: Reduction) -> Tensor:
    return F.binary_cross_entropy_with_logits(outputs[..., 0], targets.to(outputs.dtype), reduction=reduction)


def _cross_entropy(outputs: Tensor, targets: Tensor, reduction: Reduction) -> Tensor:
    losses = F.cross_entropy(outputs.flatten(0, -2), targets.flatten(), reduction=reduction)
    return losses if reduction == "mean" else losses.view_as(targets)


def _mean_squared_error(outputs: Tensor, targets: Tensor, reduction: Reduction) -> Tensor:
    if outputs.dim() > targets.dim():
        return F.mse_loss(outputs.view_as(targets), targets, reduction=reduction)
    # steps of a horizon without a target have neither error nor gradient; those with one share the weight of the row
    known = ~torch.isnan(targets)
    filled = torch.where(known, targets, outputs.detach())
    errors = F.mse_loss(outputs, filled, reduction="none") / known.to(outputs.dtype).mean(dim=-1, keepdim=True)
    return errors.mean() if reduction == "mean" else errors


LOSSES = {
    loss.name: loss
    for loss in (
        Loss(
            "binary_cross_entropy",
            "Cross-entropy of one logit, which belongs to the second of two classes.",
            ("binary",),
            _binary_cross_entropy,
        ),
        Loss("cross_entropy", "Cross-entropy of one logit per class.", ("multiclass",), _cross_entropy),
        Loss(
            "mse",
            "Mean squared error of the target, which is standardised by the training part.",
            ("regression",),
            _mean_squared_error,
        ),
    )
}


def of(task: Task) -> Loss:
    """The loss of a task."""
    return next(loss for loss in LOSSES.values() if task in loss.tasks)
