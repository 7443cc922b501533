"""Trainings side by side: the next steps of all of them at once.

They may be at different places of their epochs, and their training parts may differ by a few rows: what a batch lacks
is filled up with rows that do not count.
"""

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from dle_training.fitting.batches import PreparedRows
from dle_training.fitting.loop import Training
from dle_training.packed.network import Layout, PackedNetwork, Rows
from dle_training.packed.objective import PackedObjective
from dle_training.packed.optimizer import PACKED


class Place:
    """A training whose rows begin at `first` in a table of all trainings' rows, and its batches of up to W rows.

    `counts` (steps,) int64 are the rows of each batch of an epoch.
    """

    def __init__(self, training: Training, first: int, width: int) -> None:
        self.training = training
        self.counts = torch.tensor([batch.stop - batch.start for batch in training.batches])
        self._first, self._width = first, width

    @property
    def step(self) -> int:
        """Steps done in the current epoch."""
        return self.training.progress.step

    def order(self) -> Tensor:
        """The current epoch's batches as indices of that table (steps, W); shorter ones are filled up with `first`."""
        indices = torch.full((len(self.counts), self._width), self._first)
        real = torch.arange(self._width) < self.counts.unsqueeze(1)
        return indices.masked_scatter_(real, self.training.draw_order() + self._first)

    def rates(self) -> Tensor:
        """The learning rate of each step of the current epoch (steps,)."""
        return torch.tensor([self.training.learning_rate(step) for step in range(len(self.counts))])


class Pack:
    """M trainings that go on together, each from where it is; `rows` is the table of all trainings' rows.

    Their states' tensors become views of the pack's, up to the next pack that they are put into.
    """

    def __init__(self, places: Sequence[Place], rows: PreparedRows) -> None:
        self._places, self._rows = places, rows
        trainings = [place.training for place in places]
        states = [training.state for training in trainings]
        self._device = states[0].device
        networks, layout = [training.inputs.network for training in trainings], Layout(trainings[0].inputs.network)
        self._network = PackedNetwork(networks, layout, [state.generators[self._device.type] for state in states])
        optimizer = PACKED[trainings[0].inputs.config.optimizer.name]
        self._optimizer = optimizer([state.optimizer for state in states], layout)
        self._objective = PackedObjective([training.inputs.objective for training in trainings])
        self._loss_sums = torch.stack([state.loss_sum for state in states])  # (M,)
        for state, loss_sum in zip(states, self._loss_sums, strict=True):
            state.loss_sum = loss_sum

    def steps(self) -> Iterator[None]:
        """Do the steps up to the nearest end of an epoch, one after another; the caller counts them in `progress`."""
        # all that the steps need to know is on the device before the first of them
        indices = self._ahead([place.order() for place in self._places])  # (steps, M, W)
        rates = self._ahead([place.rates() for place in self._places]).unsqueeze(2)  # (steps, M, 1)
        counts = self._ahead([place.counts for place in self._places])  # (steps, M)
        numbers = counts.unsqueeze(2).float()
        share = (torch.arange(indices.shape[2], device=self._device) < numbers) / numbers  # (steps, M, W)
        for step, sizes in enumerate(counts.tolist()):
            size = max(sizes)
            rows = Rows(share[step, :, :size], sizes, numbers[step])
            self._step(indices[step, :, :size], rows, rates[step])
            yield

    def _ahead(self, tensors: Sequence[Tensor]) -> Tensor:
        """Of each member's tensor (steps in an epoch, …) the steps that are before all members: (steps, M, …)."""
        count = min(len(place.counts) - place.step for place in self._places)
        ahead = [tensor[place.step :][:count] for place, tensor in zip(self._places, tensors, strict=True)]
        return torch.stack(ahead, dim=1).to(self._device)

    def _step(self, indices: Tensor, rows: Rows, rates: Tensor) -> None:
        """A step of each member on the rows `indices` (M, B), at learning rates (M, 1)."""
        batch = self._rows.take(indices.flatten())
        inputs = {name: tensor.view(*indices.shape, -1) for name, tensor in batch.inputs.items()}
        targets = batch.targets.view(*indices.shape, *batch.targets.shape[1:])
        losses = self._objective.losses(self._network(inputs, rows), targets)
        means = (losses * rows.share).sum(dim=1)  # (M,)
        # no member's loss depends on another's weights, so the gradient of the sum is that of each
        (gradients,) = torch.autograd.grad(means.sum(), self._network.weights)
        with torch.no_grad():
            self._optimizer.step(self._network.weights, gradients, rates)
        self._loss_sums.add_(means.detach() * rows.numbers[:, 0])
