"""Counts the values that a model has not seen in training: categories that are none of those in the schema.

Of the steps of a long table they are the categories without a channel.

Such a value is no fault, and the model answers it as "unseen". Many of them mean that the file spells its categories
in another way than the training data did, and the answers are then of little use.
"""

from collections import Counter
from collections.abc import Collection
from dataclasses import dataclass

import pyarrow as pa

from dle_bundle.groups import Groups
from dle_bundle.schema import Schema
from dle_bundle.tables import columns

_EXAMPLES = 3
_KEPT = 10_000
"""Maximum number of different unseen values of a column that are counted one by one."""
MANY = 0.1
"""A share of the rows from which unseen values deserve a warning."""


@dataclass(frozen=True, slots=True)
class Unseen:
    """The `rows` with an unseen category in one column, among `of` rows, and its most frequent unseen values."""

    column: str
    rows: int
    of: int
    examples: tuple[str, ...]


class UnseenCategories:
    """Counts unseen categories part by part."""

    def __init__(self, schema: Schema) -> None:
        self._known = [(field.name, frozenset((*(field.categories or ()), ""))) for field in schema.categorical]
        self._channels = {} if schema.layout is None else schema.layout.categories
        self._rows: Counter[str] = Counter()
        self._all: Counter[str] = Counter()
        self._values: dict[str, Counter[str]] = {}

    def add(self, groups: Groups) -> None:
        """Count the rows of one part."""
        for index, (name, known) in enumerate(self._known):
            self._count(name, groups.categorical[:, index].tolist(), known)

    def add_steps(self, table: pa.Table) -> None:
        """Count the rows of a long table, which are the steps of its series."""
        for name, own in self._channels.items():
            if name in table.column_names:
                texts = columns.categories(table.column(name), own.na_values)
                self._count(name, texts.tolist(), frozenset((*own.values, "")))

    def _count(self, name: str, texts: list[str], known: Collection[str]) -> None:
        new = [text for text in texts if text not in known]
        self._rows[name] += len(new)
        self._all[name] += len(texts)
        counted = self._values.setdefault(name, Counter())
        counted.update(new if len(counted) < _KEPT else (text for text in new if text in counted))

    def found(self) -> tuple[Unseen, ...]:
        """The columns with unseen categories, the most affected first."""
        return tuple(
            Unseen(name, rows, self._all[name], tuple(text for text, _ in self._values[name].most_common(_EXAMPLES)))
            for name, rows in self._rows.most_common()
            if rows
        )
