"""The processes of one training as workers of PyTorch's process group."""

from collections.abc import Callable

import torch
from torch import Tensor, distributed, nn
from torch.nn.modules.batchnorm import _BatchNorm

from dle_bundle.errors import WorkError
from dle_training.fitting.interruption import Interruption
from dle_training.fitting.replicas import Replicas
from dle_training.fitting.state import TrainingState

_LEAST_ROWS = 2
"""Of a share: batch normalisation has no variance of one row."""


class Workers(Replicas):
    """The processes of PyTorch's default process group, in each of which the network is on the same kind of device.

    `stop` is asked after each step whether this process was told to stop; when one was, all do.
    """

    def __init__(self, stop: Callable[[], bool]) -> None:
        self._stop = stop
        self._rank, self._count = distributed.get_rank(), distributed.get_world_size()
        self._interruption = Interruption()

    def begin(self, state: TrainingState) -> None:
        progress = state.progress
        place = torch.tensor([progress.epoch, progress.step, progress.best_epoch], device=state.device)
        places = [torch.empty_like(place) for _ in range(self._count)]
        distributed.all_gather(places, place)
        if any(not torch.equal(each, place) for each in places):  # a file system may be slow to show what was written
            raise WorkError(
                "the workers do not see the same checkpoint of the run",
                ["a network file system may be late to show it: go on with dle-train --resume"],
            )
        if self._rank == 0:
            return
        for generator in state.generators.values():
            # of the state, not of the seed, since a resumed training has gone on from that
            drawn = torch.randint(1 << 62, (), generator=generator, device=generator.device)
            generator.manual_seed(int(drawn) + self._rank)

    def interruption(self) -> Interruption:
        return self._interruption

    def share(self, rows: slice) -> slice:
        """Consecutive rows, as many as the others have or one more; of a batch too small for that, everyone has all."""
        size = rows.stop - rows.start
        if size < _LEAST_ROWS * self._count:
            return rows
        start, stop = (rows.start + size * rank // self._count for rank in (self._rank, self._rank + 1))
        return slice(start, stop)

    def combine(self, network: nn.Module, loss: Tensor, rows: int) -> Tensor:
        """Also averages the running statistics of batch normalisation, so that all networks stay the same."""
        weights = [weight.grad for weight in network.parameters() if weight.grad is not None]
        averaged = [*weights, *_statistics(network), loss]
        # all in one, for an exchange costs more than its bytes
        message = torch.cat([each.detach().reshape(-1) for each in averaged] + [loss.new_tensor([1, 0])])
        message *= rows
        message[-1] = self._stop()
        distributed.all_reduce(message)
        message[:-1] /= message[-2].clone()
        parts = torch.split(message[:-2], [each.numel() for each in averaged])
        for each, part in zip(averaged[:-1], parts, strict=False):
            each.copy_(part.view_as(each))
        self._interruption.requested = bool(message[-1])
        return parts[-1].view(())

    def agree(self, loss: float, score: float) -> tuple[float, float]:
        """Those of the first process: the others' may differ in the last digit, and with it a decision."""
        found = torch.tensor([loss, score], dtype=torch.float64)
        if distributed.get_backend() == distributed.Backend.NCCL:
            found = found.cuda()
        distributed.broadcast(found, src=0)
        loss, score = found.tolist()
        return loss, score


def _statistics(network: nn.Module) -> list[Tensor]:
    """The running means and variances that a step moves."""
    norms = [module for module in network.modules() if isinstance(module, _BatchNorm) and module.training]
    both = [each for norm in norms for each in (norm.running_mean, norm.running_var)]
    return [each for each in both if each is not None]
