"""Early stopping: training ends after the last epoch, or when the metric has not improved for `patience` epochs."""


def is_over(epoch: int, best_epoch: int, *, epochs: int, patience: int) -> bool:
    """Whether training ends after `epoch` (from 1), when `best_epoch` has the best validation score so far.

    `epochs` is the maximum number of epochs. Training stops after `patience` epochs without a better score; with 0 it
    never stops early.
    """
    return epoch >= epochs or (patience > 0 and epoch >= best_epoch + patience)
