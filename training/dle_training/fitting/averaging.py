"""The exponential moving average of a network's weights: it varies less from step to step than the weights do.

Validation, the best weights and the export use the average; the steps of the optimizer do not. The running statistics
of batch normalisation are averaged like weights, because they belong to the weights of the same steps.
"""

import copy

import torch

from dle_training.models._base import Network


class WeightAverage:
    """A copy of `network` that follows its weights with this `decay`.

    The average is the plain mean of the first 1 / (1 - decay) steps; without this, the initial weights would have most
    of the influence for as long.

    Ownership: the copy, `self.network`, belongs to this object; `network` is only read.

    Example:
        >>> from dle_training.models.families import ModelConfig
        >>> from dle_training.models.registry import build
        >>> from dle_training.preprocessing.shape import InputShape
        >>> network = build(ModelConfig(name="mlp", hidden=(), dropout=0.0), InputShape(dense=1), outputs=1)
        >>> average = WeightAverage(network, decay=0.9)
        >>> for step in (1, 2):
        ...     _ = network.head.bias.data.fill_(step)
        ...     average.follow(step)
        >>> average.network.head.bias.tolist()
        [1.5]
    """

    def __init__(self, network: Network, decay: float) -> None:
        self.network = copy.deepcopy(network)
        self._decay = decay
        self._pairs = [
            *zip(self.network.parameters(), network.parameters(), strict=True),
            *zip(self.network.buffers(), network.buffers(), strict=True),
        ]

    @torch.no_grad()
    def follow(self, steps: int) -> None:
        """Move the average towards the network's weights, which have been changed by so many steps."""
        share = max(1 - self._decay, 1 / steps)
        for average, current in self._pairs:
            if average.is_floating_point():
                average.lerp_(current, share)
            else:
                average.copy_(current)
