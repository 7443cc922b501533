"""A pack: several trainings that make their steps together.

The trainings may be at different steps of their epochs, and their training parts may differ by a few rows. Filler rows,
which do not count, complete a batch that is too short.
"""

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from dle_training.fitting.batches import PreparedRows
from dle_training.fitting.loop import Training
from dle_training.packed.network import BatchSizes, PackedNetwork, ParameterLayout
from dle_training.packed.objective import PackedObjective
from dle_training.packed.optimizer import PACKED


class PackedTraining:
    """A training in a pack: its rows begin at `first` in the table of all rows, and its batches have up to W rows.

    `counts` (steps,) int64 holds the number of rows in each batch of an epoch.
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
        """The current epoch's batches as indices into the table (steps, W); `first` fills shorter batches."""
        indices = torch.full((len(self.counts), self._width), self._first)
        real = torch.arange(self._width) < self.counts.unsqueeze(1)
        return indices.masked_scatter_(real, self.training.draw_order() + self._first)

    def rates(self) -> Tensor:
        """The learning rate of each step of the current epoch (steps,)."""
        return torch.tensor([self.training.learning_rate(step) for step in range(len(self.counts))])


class Pack:
    """M trainings that continue together from their current steps; `rows` is the table of all trainings' rows.

    The tensors of their states become views of the pack's tensors until another pack takes the trainings over.
    """

    def __init__(self, packed: Sequence[PackedTraining], rows: PreparedRows) -> None:
        self._packed, self._rows = packed, rows
        trainings = [each.training for each in packed]
        states = [training.state for training in trainings]
        self._device = states[0].device
        networks, layout = (
            [training.inputs.network for training in trainings],
            ParameterLayout(trainings[0].inputs.network),
        )
        self._network = PackedNetwork(networks, layout, [state.generators[self._device.type] for state in states])
        optimizer = PACKED[trainings[0].inputs.config.optimizer.name]
        self._optimizer = optimizer([state.optimizer for state in states], layout)
        self._objective = PackedObjective([training.inputs.objective for training in trainings])
        self._loss_sums = torch.stack([state.loss_sum for state in states])  # (M,)
        for state, loss_sum in zip(states, self._loss_sums, strict=True):
            state.loss_sum = loss_sum

    def steps(self) -> Iterator[None]:
        """Make the steps until the first member ends its epoch; the caller counts each step in `progress`."""
        # everything that the steps need is on the device before the first step
        indices = self._ahead([each.order() for each in self._packed])  # (steps, M, W)
        rates = self._ahead([each.rates() for each in self._packed]).unsqueeze(2)  # (steps, M, 1)
        counts = self._ahead([each.counts for each in self._packed])  # (steps, M)
        numbers = counts.unsqueeze(2).float()
        share = (torch.arange(indices.shape[2], device=self._device) < numbers) / numbers  # (steps, M, W)
        for step, listed in enumerate(counts.tolist()):
            size = max(listed)
            sizes = BatchSizes(share[step, :, :size], listed, numbers[step])
            self._step(indices[step, :, :size], sizes, rates[step])
            yield

    def _ahead(self, tensors: Sequence[Tensor]) -> Tensor:
        """Stack the members' tensors (steps in an epoch, …) for the steps that all members have left: (steps, M, …)."""
        count = min(len(each.counts) - each.step for each in self._packed)
        ahead = [tensor[each.step :][:count] for each, tensor in zip(self._packed, tensors, strict=True)]
        return torch.stack(ahead, dim=1).to(self._device)

    def _step(self, indices: Tensor, sizes: BatchSizes, rates: Tensor) -> None:
        """Make a step of each member on the rows `indices` (M, B), with learning rates `rates` (M, 1)."""
        batch = self._rows.take(indices.flatten())
        inputs = {name: tensor.view(*indices.shape, -1) for name, tensor in batch.inputs.items()}
        targets = batch.targets.view(*indices.shape, *batch.targets.shape[1:])
        losses = self._objective.losses(self._network(inputs, sizes), targets)
        means = (losses * sizes.share).sum(dim=1)  # (M,)
        # no member's loss depends on another member's weights, so the sum has the gradient of each
        (gradients,) = torch.autograd.grad(means.sum(), self._network.weights)
        with torch.no_grad():
            self._optimizer.step(self._network.weights, gradients, rates)
        self._loss_sums.add_(means.detach() * sizes.numbers[:, 0])
