"""One training in several processes: each computes its share of every batch, and all take the same step."""

from torch import Tensor, nn

from dle_training.fitting.interruption import Interruption
from dle_training.fitting.state import TrainingState
from dle_training.models._base import Network


class Replicas:
    """The processes of one training. This class is a training in one process, which has nothing to exchange.

    All processes hold the same data and the same weights, and draw the same order of rows. The gradient of a step is
    the mean over the rows of the whole batch, so the step equals that of a single process up to the rounding of sums.
    Two things differ between the processes: each draws its own dropout and augmentation, and batch normalisation
    normalises a share by the statistics of that share.

    Threads:
        The thread that trains calls every method. All processes call the same methods in the same order, since a call
        waits until the others have made it.

    Ownership:
        The training owns the network, the optimizer and the state; they outlive this object and never hold a part of
        it. A checkpoint is therefore the same for any number of processes. Each process has a checkpoint folder of its
        own.

    Failures:
        When a process ends early, the pending or the next call of the others raises RuntimeError. The object cannot be
        used after that: start all processes again from the last checkpoint.
    """

    def begin(self, state: TrainingState) -> nn.Module:
        """Prepare for the first step, and return the module that computes the network's output in training steps.

        Also gives the random generators of each process a state of its own. Raises WorkError when the processes do not
        start from the same step.
        """
        return state.network

    def interruption(self) -> Interruption:
        """The flag that the loop reads after each step: it is set in all processes after the same step, or in none."""
        return Interruption()

    def share(self, batch: slice) -> slice:
        """The rows of a batch that this process computes."""
        return batch

    def backward(self, loss: Tensor, batch: slice) -> Tensor:
        """Compute the gradients of the mean loss over the rows of `batch`, and return that loss, a detached scalar.

        `loss` is the mean over the rows of this process's share.
        """
        loss.backward()  # type: ignore[no-untyped-call]
        return loss.detach()

    def merge_statistics(self, network: Network) -> None:
        """After the last step of an epoch: make the running statistics of batch normalisation the same everywhere."""

    def agree(self, loss: float, score: float) -> tuple[float, float]:
        """The validation loss and score of the first process, by which all processes decide."""
        return loss, score


ALONE = Replicas()
