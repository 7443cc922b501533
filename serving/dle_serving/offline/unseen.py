"""Counts the values that a model has not seen in training: categories that are none of those in the schema.

Such a value is no fault, and the model answers it as "unseen". Many of them mean that the file spells its categories
in another way than the training data did, and the answers are then of little use.
"""

from collections import Counter
from dataclasses import dataclass

from dle_bundle.groups import Groups
from dle_bundle.schema import Schema

_EXAMPLES = 3
_KEPT = 10_000
"""Maximum number of different unseen values of a column that are counted one by one."""
MANY = 0.1
"""A share of the rows from which unseen values deserve a warning."""


@dataclass(frozen=True, slots=True)
class Unseen:
    """The `rows` with an unseen category in one column, and its most frequent unseen values."""

    column: str
    rows: int
    examples: tuple[str, ...]


class UnseenCategories:
    """Counts unseen categories part by part."""

    def __init__(self, schema: Schema) -> None:
        self._known = [(field.name, frozenset((*(field.categories or ()), ""))) for field in schema.categorical]
        self._rows: Counter[str] = Counter()
        self._values: dict[str, Counter[str]] = {name: Counter() for name, _ in self._known}

    def add(self, groups: Groups) -> None:
        """Count the rows of one part."""
        for index, (name, known) in enumerate(self._known):
            new = [text for text in groups.categorical[:, index].tolist() if text not in known]
            self._rows[name] += len(new)
            counted = self._values[name]
            counted.update(new if len(counted) < _KEPT else (text for text in new if text in counted))

    def found(self) -> tuple[Unseen, ...]:
        """The columns with unseen categories, the most affected first."""
        return tuple(
            Unseen(name, rows, tuple(text for text, _ in self._values[name].most_common(_EXAMPLES)))
            for name, rows in self._rows.most_common()
            if rows
        )
