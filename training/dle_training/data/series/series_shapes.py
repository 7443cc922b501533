"""Shapes of series: the names of the channels, and how many steps a request may have."""

from collections.abc import Sequence

import msgspec
import numpy as np
import pyarrow as pa

from dle_bundle.schema import Field, SequenceShape, SeriesLayout
from dle_bundle.tables import series_columns
from dle_bundle.tables.arrays import SEQUENCE
from dle_bundle.tables.columns import Column
from dle_bundle.tables.forecast_tables import KNOWN
from dle_bundle.values.numbers import NumberFormat

LEAST_MOST_STEPS = 4_096
"""The smallest limit on the steps of a request; the limit is otherwise twice the longest series in the source."""


def shaped(fields: Sequence[Field], table: pa.Table, layout: SeriesLayout | None) -> tuple[Field, ...]:
    """Add shapes to the fields that are series; channels of a long table keep the names of its columns."""
    return tuple(_shaped(field, table, layout) if field.kind == "sequence" else field for field in fields)


def _shaped(field: Field, table: pa.Table, layout: SeriesLayout | None) -> Field:
    column = table.column(field.name)
    if layout is not None and layout.known and field.name == KNOWN:
        return msgspec.structs.replace(field, sequence=_known(column, layout))
    window, formats = None, dict[str, NumberFormat]()
    if layout is not None and field.name == SEQUENCE:
        names, window, formats = layout.names(layout.channels), layout.window, layout.number_formats
    else:
        width = series_columns.width(column)
        names = (field.name,) if width == 1 else tuple(f"{field.name}{index}" for index in range(width))
    longest = series_columns.longest(column)
    shape = SequenceShape(
        channels=names, max_steps=max(LEAST_MOST_STEPS, 2 * longest), window=window, number_formats=formats
    )
    return msgspec.structs.replace(field, sequence=shape)


def _known(column: Column, layout: SeriesLayout) -> SequenceShape:
    """The shape of the values that are known for the steps of a forecast."""
    steps, values = series_columns.longest(column), column.combine_chunks().flatten().flatten()
    return SequenceShape(
        channels=layout.names(layout.known),
        max_steps=steps,
        observed_steps=(steps, steps),
        ahead=steps,
        complete=not bool(np.isnan(np.asarray(values)).any()),
        number_formats={name: layout.number_formats[name] for name in layout.known if name in layout.number_formats},
    )
