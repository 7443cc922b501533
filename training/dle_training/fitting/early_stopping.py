"""When training ends: the epochs are over, or the validation metric has not improved for `patience` epochs."""


def is_over(epoch: int, best_epoch: int, *, epochs: int, patience: int) -> bool:
    """Whether training ends after `epoch` (from 1), when `best_epoch` has the best validation score so far.

    `epochs` are the most that there may be. `patience` is the number of epochs without a better score after which
    training stops; with 0 it never stops early.
    """
    return epoch >= epochs or (patience > 0 and epoch >= best_epoch + patience)
