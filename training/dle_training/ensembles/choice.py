"""The choice of an ensemble among candidates, by the loss of their mean answer on rows that did not train them.

One candidate after another joins, each time the one that lowers the loss of the mean most (Caruana et al., "Ensemble
Selection from Libraries of Models", 2004, without repetition). The mean of unlike members is better than its best one.
"""

from collections.abc import Callable

import torch
from torch import Tensor

LEAST_GAIN = 1e-6
"""A candidate joins only if the loss falls by more than this."""

Losses = Callable[[Tensor], Tensor]
"""The mean loss (M,) of each of the answers (M, N)."""


def greedy(answers: Tensor, losses: Losses, most: int) -> tuple[list[int], float]:
    """Return the places of at most `most` chosen candidates, in the order in which they joined, and their loss.

    `answers` (M, N) holds what the loss needs of each candidate's answer to each row, such as the probability of the
    true class, so that the mean of these is that of the mean answer.
    """
    first = losses(answers)
    place = int(first.argmin())
    best, chosen, total = float(first[place]), [place], answers[place].clone()
    while len(chosen) < min(most, len(answers)):
        joined = losses((total + answers) / (len(chosen) + 1))
        joined[torch.tensor(chosen, device=joined.device)] = torch.inf
        place = int(joined.argmin())
        if not float(joined[place]) < best - LEAST_GAIN:
            break
        best = float(joined[place])
        chosen.append(place)
        total += answers[place]
    return chosen, best
