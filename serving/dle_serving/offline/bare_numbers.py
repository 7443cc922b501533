"""Counts the numbers without a unit in columns that had one in training, such as 0.05 in a column of percent.

They are read in the unit of the column. A workbook or a program may mean another one: 5 % is 0.05 in its cells.
"""

from collections import Counter

import numpy as np
import pyarrow as pa
from msgspec.structs import replace

from dle_bundle.errors import counted
from dle_bundle.schema import Schema
from dle_bundle.tables import columns


class BareNumbers:
    """Counts numbers without a unit part by part. A zero needs no unit, so it does not count."""

    def __init__(self, schema: Schema) -> None:
        self._schema = schema
        self._bare: Counter[str] = Counter()
        self._all: Counter[str] = Counter()
        self._with_unit: set[str] = set()
        self._examples: dict[str, float] = {}

    def add(self, table: pa.Table) -> None:
        """Count the rows of one part."""
        for field in self._schema.numeric:
            if field.unit is None or field.number_format is None or field.name not in table.column_names:
                continue
            column, missing = table.column(field.name), self._schema.missing(field)
            values, _ = columns.numbers(column, missing, field.number_format)
            bare, _ = columns.numbers(column, missing, replace(field.number_format, unit="", other_units=()))
            bare = bare[~np.isnan(bare) & (bare != 0)]
            self._all[field.name] += int((~np.isnan(values)).sum())
            self._bare[field.name] += len(bare)
            if np.count_nonzero(~np.isnan(values) & (values != 0)) > len(bare):
                self._with_unit.add(field.name)
            if len(bare):
                self._examples.setdefault(field.name, float(bare[0]))

    def without_unit(self) -> frozenset[str]:
        """The columns without a unit at any number."""
        return frozenset(self._all) - self._with_unit

    def notes(self) -> tuple[str, ...]:
        """One note for each column with such numbers."""
        units = {field.name: field.unit for field in self._schema.numeric}
        return tuple(
            f"{name}: {rows:,} of {counted(self._all[name], 'number')} {'has' if rows == 1 else 'have'} no unit; the "
            f"unit of training is taken, so {self._examples[name]:.15g} is {self._examples[name]:.15g} {units[name]}"
            for name, rows in self._bare.items()
            if rows
        )
