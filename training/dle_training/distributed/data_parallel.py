"""The processes of one training as workers of PyTorch's process group, with DistributedDataParallel."""

from collections.abc import Callable

import torch
from torch import Tensor, distributed, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.parallel import DistributedDataParallel

from dle_bundle.errors import WorkError
from dle_training.fitting.interruption import Interruption
from dle_training.fitting.replicas import Replicas
from dle_training.fitting.state import TrainingState
from dle_training.models._base import Network
from dle_training.preprocessing.shape import Inputs

_LEAST_ROWS = 2
"""Rows in a share at least, since batch normalisation cannot compute a variance from one row."""


class DataParallelReplicas(Replicas):
    """The processes of PyTorch's default process group, which all use the same type of device.

    DistributedDataParallel averages the gradients. It would also copy the first process's buffers to the others before
    each step; `merge_statistics` instead averages the running statistics once an epoch, since training steps do not
    read them.

    `stop` is called after each step and says whether this process was asked to stop; when one was, all stop.
    """

    def __init__(self, stop: Callable[[], bool]) -> None:
        self._stop = stop
        self._rank, self._count = distributed.get_rank(), distributed.get_world_size()
        self._interruption = Interruption()
        self._message: nn.Parameter

    def begin(self, state: TrainingState) -> nn.Module:
        self._check_place(state)
        if self._rank > 0:
            for generator in state.generators.values():
                # from the state, not from the seed: a resumed training is past the seed
                drawn = torch.randint(1 << 62, (), generator=generator, device=generator.device)
                generator.manual_seed(int(drawn) + self._rank)
        self._message = nn.Parameter(torch.zeros(2, device=state.device))
        parallel = DistributedDataParallel(_WithMessage(state.network, self._message))
        parallel.broadcast_buffers = False  # the argument of this name is deprecated in torch 2.13, its successor new
        return parallel

    def interruption(self) -> Interruption:
        return self._interruption

    def share(self, batch: slice) -> slice:
        """Consecutive rows, one more in some shares than in others; all rows, in all processes, of a tiny batch."""
        size = _rows(batch)
        if size < _LEAST_ROWS * self._count:
            return batch
        start, stop = (batch.start + size * rank // self._count for rank in (self._rank, self._rank + 1))
        return slice(start, stop)

    def backward(self, loss: Tensor, batch: slice) -> Tensor:
        share = self.share(batch)
        if share != batch:  # the processes' gradients are averaged, and shares may differ by a row
            loss = loss * (_rows(share) * self._count / _rows(batch))
        sent = torch.stack([loss.detach(), loss.new_tensor(self._stop())])
        self._message.grad = None
        (loss + self._message @ sent).backward()  # type: ignore[no-untyped-call]
        assert self._message.grad is not None
        whole, stop = self._message.grad
        self._interruption.requested = bool(stop)
        return whole

    def merge_statistics(self, network: Network) -> None:
        for norm in network.modules():
            if isinstance(norm, _BatchNorm) and norm.training:
                for statistic in (norm.running_mean, norm.running_var):
                    assert statistic is not None
                    distributed.all_reduce(statistic)
                    statistic /= self._count

    def agree(self, loss: float, score: float) -> tuple[float, float]:
        """The other processes' figures may differ in the last digit, and then their decisions would."""
        found = [loss, score]
        distributed.broadcast_object_list(found, src=0)
        loss, score = found
        return loss, score

    def _check_place(self, state: TrainingState) -> None:
        place = (state.progress.epoch, state.progress.step, state.progress.best_epoch)
        places = [place] * self._count
        distributed.all_gather_object(places, place)
        if len(set(places)) > 1:
            raise WorkError(
                "the workers do not see the same checkpoint of the run",
                ["a network file system may show it late: continue with dle-train --resume"],
            )


class _WithMessage(nn.Module):
    """A network with a parameter whose gradient is a message to the other processes.

    A step has to exchange two more numbers, the loss and the stop flag. A message of their own would cost as much time
    as the gradients of a small network; as the gradient of `message` they travel in the same one. The parameter stays
    zero: no optimizer knows it.
    """

    def __init__(self, network: Network, message: nn.Parameter) -> None:
        super().__init__()
        self.network = network
        self.message = message

    def forward(self, inputs: Inputs) -> Tensor:
        output: Tensor = self.network(inputs)
        return output


def _rows(batch: slice) -> int:
    rows: int = batch.stop - batch.start
    return rows
