"""What a cross-validation found: the scores of the folds, their mean and their spread."""

import msgspec


class CrossValidation(msgspec.Struct, frozen=True, kw_only=True):
    """The scores of each fold on its validation rows, by name, their mean and their standard deviation (n − 1).

    Null where a score has no meaning in every fold.
    """

    folds: int
    mean: dict[str, float | None]
    sd: dict[str, float | None]
    scores: tuple[dict[str, float | None], ...]
