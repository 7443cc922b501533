"""Counts the numbers and dates outside of the range that training saw, and finds fractions in columns of percent.

Such a value is no fault, and the model answers it. A few of them are normal in new data. Many, or some that are far
away, mean another unit, another decimal mark, or that the model must guess beyond what it knows.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from dle_bundle.drift.features import table_columns
from dle_bundle.errors import counted
from dle_bundle.groups import Groups
from dle_bundle.schema import Field, Schema
from dle_bundle.values.dates import epoch_seconds, iso

MANY = 1 / 3
"""If this share of the values is outside of the range, a warning says so."""
_FAR = {"numeric": 3, "datetime": 1}
"""A value is far away if its distance from the range is more than so many times the width of the range.

The largest new number of a skewed column, such as incomes, is often twice the largest one of training.
"""
_EXAMPLES = 3
_PERCENT = "%"


@dataclass(frozen=True, slots=True)
class OutOfRange:
    """The `rows` with a value outside of the range of training in one column, among `of` rows with a value.

    `examples` are the values that are farthest outside, and `seen` the ends of the range: numbers, or ISO 8601 text.
    `warning` says why the values are unusual; None if they are not.
    """

    column: str
    rows: int
    of: int
    examples: tuple[float | str, ...]
    seen: tuple[float | str, float | str]
    unit: str | None
    warning: str | None

    @property
    def in_words(self) -> str:
        """The rows, the examples and the range."""
        return f"{counted(self.rows, 'row')}, such as {_listed(self.examples)}; training saw {_span(self)}"


class ValuesOutOfRange:
    """Counts numbers and dates outside of their ranges part by part."""

    def __init__(self, schema: Schema) -> None:
        self._schema = schema
        self._columns: dict[str, _Column] = {}

    def add(self, groups: Groups) -> None:
        """Count the rows of one part."""
        for feature in table_columns(groups, self._schema):
            if feature.field.observed_range is not None:
                column = self._columns.setdefault(feature.name, _Column(feature.field, feature.field.observed_range))
                column.add(feature.values[~np.isnan(feature.values)])

    def found(self, without_unit: frozenset[str]) -> tuple[OutOfRange, ...]:
        """The columns with such values, the most affected first.

        `without_unit` are the columns without a unit at any number. One of percent between 0 and 1 is listed too, even
        if all of its values are in the range.
        """
        found = [column.found(column.field.name in without_unit) for column in self._columns.values()]
        return tuple(sorted((each for each in found if each.rows or each.warning), key=lambda each: -each.rows))


class _Column:
    """Counts the values of one column."""

    def __init__(self, field: Field, seen: tuple[float | str, float | str]) -> None:
        self.field = field
        self._seen = seen
        self._low, self._high = (float(epoch_seconds(end)) if isinstance(end, str) else end for end in seen)
        self._rows = self._of = 0
        self._least, self._most = np.inf, -np.inf
        self._farthest: list[float] = []

    def add(self, values: npt.NDArray[np.float64]) -> None:
        if not len(values):
            return
        self._of += len(values)
        self._least, self._most = min(self._least, float(values.min())), max(self._most, float(values.max()))
        outside = values[(values < self._low) | (values > self._high)]
        self._rows += len(outside)
        distinct = np.unique(outside).tolist()
        kept = {*distinct[:_EXAMPLES], *distinct[-_EXAMPLES:], *self._farthest}
        self._farthest = sorted(kept, key=self._distance, reverse=True)[:_EXAMPLES]

    def found(self, without_unit: bool) -> OutOfRange:
        examples = tuple(map(self._written, self._farthest))
        name, unit = self.field.name, self.field.unit
        found = OutOfRange(name, self._rows, self._of, examples, self._seen, unit, None)
        if without_unit and unit == _PERCENT and self._least >= 0 and 0 < self._most <= 1 < self._high:
            warning = (
                f"{name}: all values are from {_text(self._least)} to {_text(self._most)}, and training saw "
                f"{_span(found)}; if they are fractions, such as 0.05 for 5 %, multiply them by 100"
            )
        elif self._is_unusual():
            what = "the unit" if self.field.kind == "numeric" else "how dates are written"
            are = "is" if self._rows == 1 else "are"
            warning = (
                f"{name}: {self._rows:,} of {counted(self._of, 'value')} {are} outside of what training saw, "
                f"{_span(found)}, such as {_listed(examples)}, so the predictions may be wrong; check {what}"
            )
        else:
            return found
        return OutOfRange(name, self._rows, self._of, examples, self._seen, unit, warning)

    def _is_unusual(self) -> bool:
        """Whether the values outside are many, or some are far away.

        Dates after the range are normal, however many.
        """
        if not self._rows:
            return False
        many = self.field.kind == "numeric" and self._rows >= MANY * self._of
        return many or self._distance(self._farthest[0]) > _FAR[self.field.kind] * (self._high - self._low)

    def _distance(self, value: float) -> float:
        return max(self._low - value, value - self._high)

    def _written(self, value: float) -> float | str:
        return value if self.field.kind == "numeric" else iso(value)


def _span(found: OutOfRange) -> str:
    low, high = map(_text, found.seen)
    return f"{low} to {high}{f' {found.unit}' if found.unit else ''}"


def _listed(values: tuple[float | str, ...]) -> str:
    return ", ".join(map(_text, values))


def _text(value: float | str) -> str:
    """The value with six digits; a whole number with all of them."""
    if isinstance(value, str):
        return value
    return f"{value:.15g}" if value.is_integer() else f"{value:.6g}"
