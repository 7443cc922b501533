"""Calibration by temperature scaling: one number that makes confidence match accuracy.

Guo et al., "On Calibration of Modern Neural Networks" (2017): divide the logits by the temperature that minimises the
negative log-likelihood of validation data. Without class weights this changes no label. With few rows, or rows that the
network separates perfectly, the temperature would run to the end of its range. So ln T has a standard normal prior. Its
weight is about that of one row, so it is negligible in a validation part of ordinary size.
"""

import math

import numpy as np
from torch import Tensor
from torch.nn import functional as F

LOWEST, HIGHEST = 0.1, 10.0
_POINTS = 11
_PRECISION = 1e-6
"""Precision of ln T."""


def fit_temperature(logits: Tensor, targets: Tensor, log_weights: Tensor | None = None) -> float:
    """The temperature in [0.1, 10] for logits (N, K), K = 1 with two classes, and class indices (N,); 1 if N = 0.

    `log_weights` (K,) are the amounts that class weights added to the logits; they are subtracted after the division.
    """
    from scipy.optimize import minimize_scalar

    binary = logits.shape[1] == 1
    added = 0.0 if log_weights is None else log_weights.double()
    actual = targets.double() if binary else targets.long()
    likelihood = F.binary_cross_entropy_with_logits if binary else F.cross_entropy

    def cost(log_temperature: float) -> float:
        scores = logits.double() / math.exp(log_temperature) - added
        losses = likelihood(scores[:, 0] if binary else scores, actual, reduction="sum")
        return losses.item() + 0.5 * log_temperature**2

    # likelihood and prior may each have a minimum, so a grid finds the lower one
    grid = np.linspace(math.log(LOWEST), math.log(HIGHEST), _POINTS)
    nearest = int(np.argmin([cost(point) for point in grid]))
    around = (grid[max(nearest - 1, 0)], grid[min(nearest + 1, _POINTS - 1)])
    found = minimize_scalar(cost, bounds=around, method="bounded", options={"xatol": _PRECISION})
    return math.exp(found.x)
