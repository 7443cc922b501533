"""A listener that writes TensorBoard scalars, one point per epoch."""

from collections.abc import Sequence
from pathlib import Path

from dle_training.fitting.listeners import EpochRecord, Listener, TrainingPlan


class TensorBoard(Listener):
    """Writes loss/train, loss/validation, validation/<metric>, learning_rate and rows_per_second into `folder`.

    TensorBoard's steps are epochs, from 1. A resumed run hides the points of epochs that it repeats.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def on_start(self, plan: TrainingPlan) -> None:
        from torch.utils.tensorboard.writer import SummaryWriter  # slow to import

        self.metric = plan.metric.name
        self.writer = SummaryWriter(str(self.folder), purge_step=len(plan.history) + 1)

    def on_epoch(self, history: Sequence[EpochRecord], best_epoch: int) -> None:
        record = history[-1]
        scalars = {
            "loss/train": record.train_loss,
            "loss/validation": record.validation_loss,
            f"validation/{self.metric}": record.metric,
            "learning_rate": record.lr,
            "rows_per_second": record.rows_per_second,
        }
        for name, value in scalars.items():
            self.writer.add_scalar(name, value, record.epoch)
        self.writer.flush()

    def on_end(self) -> None:
        self.writer.close()
