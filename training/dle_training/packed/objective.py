"""The loss of each row in the batches of M members; `Objective.loss` is its mean over one member's batch."""

from collections.abc import Sequence

import torch
from torch import Tensor

from dle_training.optimization import losses
from dle_training.optimization.objectives import Classification, Objective


class PackedObjective:
    """Objectives of one task; their class weights may differ."""

    def __init__(self, members: Sequence[Objective]) -> None:
        self._task = members[0].task
        weights = [each.weights for each in members if isinstance(each, Classification) and each.weights is not None]
        self._weights = torch.stack(weights) if weights else None  # (M, classes)

    def losses(self, logits: Tensor, targets: Tensor) -> Tensor:
        """(M, B, K), (M, B) or (M, B, horizon) → (M, B)."""
        each = losses.of(self._task).compute(logits, targets, "none")
        if self._weights is not None:
            return each * self._weights.gather(1, targets)
        return each.mean(dim=2) if each.dim() == 3 else each
