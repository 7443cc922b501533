"""The result of a cross-validation: the scores of the folds, their mean and their standard deviation."""

import msgspec

from dle_training.scoring.metrics import Scores


class CrossValidation(msgspec.Struct, frozen=True, kw_only=True):
    """The scores of each fold on its validation rows, by name, with their mean and standard deviation (n − 1).

    Mean and standard deviation are null if a score is undefined in any fold.
    """

    folds: int
    mean: Scores
    sd: dict[str, float | None]
    scores: tuple[Scores, ...]
