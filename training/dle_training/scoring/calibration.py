"""Temperature scaling: one number that makes the probabilities mean what they say.

Guo et al., "On Calibration of Modern Neural Networks" (2017): divide the logits by the temperature that minimises the
negative log-likelihood of validation data. Without class weights it changes no label. A temperature from a few rows, or
from rows that the network separates perfectly, would run to the end of its range, so ln T has a standard normal prior:
worth about one row, it decides where there is next to nothing else and vanishes in a validation part of ordinary size.
"""

import math

import numpy as np
from torch import Tensor
from torch.nn import functional as F

LOWEST, HIGHEST = 0.1, 10.0
_POINTS = 11
_PRECISION = 1e-6
"""Of ln T."""


def fit_temperature(logits: Tensor, targets: Tensor, log_weights: Tensor | None = None) -> float:
    """The temperature in [0.1, 10] for logits (N, K), K = 1 with two classes, and class indices (N,); 1 for N = 0.

    `log_weights` (K,) is what class weights added to the logits: it is taken away after the division.
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

    # likelihood and prior may each have a minimum, so that the lowest of a grid decides between them
    grid = np.linspace(math.log(LOWEST), math.log(HIGHEST), _POINTS)
    nearest = int(np.argmin([cost(point) for point in grid]))
    around = (grid[max(nearest - 1, 0)], grid[min(nearest + 1, _POINTS - 1)])
    found = minimize_scalar(cost, bounds=around, method="bounded", options={"xatol": _PRECISION})
    return math.exp(found.x)
