"""One training by several processes: each computes its share of every batch, and all take the same step.

All hold the same data, draw the same order of rows and begin with the same weights. Gradients are averaged over the
rows of the whole batch, so a step is the one that a single process would take, up to the rounding of sums. Not alike
is what depends on the process: each draws its own dropout, and batch normalisation works with the statistics of its
share.
"""

from torch import Tensor, nn

from dle_training.fitting.interruption import Interruption
from dle_training.fitting.state import TrainingState


class Replicas:
    """The processes of one training; this class is the only one of its training, and so has nothing to exchange.

    Every process calls these methods in the same order, from the thread that trains.
    """

    def begin(self, state: TrainingState) -> None:
        """Before the first step: have the generators, which are alike, draw otherwise in each process.

        Raises WorkError where the processes would not go on from the same step.
        """

    def interruption(self) -> Interruption:
        """What is asked for after a step whether to stop; the answer is the same in all processes."""
        return Interruption()

    def share(self, rows: slice) -> slice:
        """The part of a batch that this process computes."""
        return rows

    def combine(self, network: nn.Module, loss: Tensor, rows: int) -> Tensor:
        """Make the gradients of the mean loss over `rows` rows those over the whole batch; its loss, a scalar."""
        return loss

    def agree(self, loss: float, score: float) -> tuple[float, float]:
        """What validation found, for all to decide by."""
        return loss, score


ALONE = Replicas()
