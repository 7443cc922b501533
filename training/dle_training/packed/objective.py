"""The loss of each row of M members' batches: what `Objective.loss` is the mean of."""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from dle_training.optimization.objectives import Classification, Objective


class PackedObjective:
    """Objectives of one task, whose class weights may differ."""

    def __init__(self, members: Sequence[Objective]) -> None:
        self._task = members[0].task
        weights = [each.weights for each in members if isinstance(each, Classification) and each.weights is not None]
        self._weights = torch.stack(weights) if weights else None  # (M, classes)

    def losses(self, logits: Tensor, targets: Tensor) -> Tensor:
        """(M, B, K), (M, B) or (M, B, horizon) → (M, B)."""
        if self._task == "regression":
            return (logits - targets.view_as(logits)).square().mean(dim=2)
        if self._task == "binary":
            losses = F.binary_cross_entropy_with_logits(logits[..., 0], targets.to(logits.dtype), reduction="none")
        else:
            losses = F.cross_entropy(logits.flatten(0, 1), targets.flatten(), reduction="none").view_as(targets)
        return losses if self._weights is None else losses * self._weights.gather(1, targets)
