"""What an ensemble needs to know of its members' answers to the validation rows: one number for each row.

Of probabilities only that of the true class enters the log loss, and the mean of probabilities has the mean of them. A
regression needs the value.
"""

import torch
from torch import Tensor
from torch.nn import functional as F

from dle_training.optimization.objectives import Classification, Objective

_LEAST = 1e-12
"""A probability below this counts as this, so that one row cannot make a loss infinite."""


def of_targets(outputs: Tensor, targets: Tensor, objective: Objective) -> Tensor:
    """Return (M, N) for the outputs (M, N, K) of M members and encoded targets (N,)."""
    if objective.task == "regression":
        return outputs.squeeze(2)
    if objective.outputs == 1:
        signs = targets.to(outputs.dtype) * 2 - 1
        return torch.sigmoid(outputs.squeeze(2) * signs)
    return F.softmax(outputs, dim=2).gather(2, targets.expand(len(outputs), -1).unsqueeze(2)).squeeze(2)


def losses(answers: Tensor, targets: Tensor, objective: Objective) -> Tensor:
    """Return the mean loss (M,) of answers (M, N), as `Objective.loss` computes it from outputs.

    The loss of answers that are not all finite, because a member diverged, is infinite.
    """
    if objective.task == "regression":
        each = (answers - targets).square()
    else:
        each = -answers.clamp(min=_LEAST).log()
        if isinstance(objective, Classification) and objective.weights is not None:
            each = each * objective.weights[targets]
    return each.mean(dim=1).nan_to_num(nan=torch.inf)
