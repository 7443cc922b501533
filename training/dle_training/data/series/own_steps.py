"""Series of a long table whose own step is not the step of the table, such as a daily one among hourly ones."""

import numpy as np
from msgspec.structs import replace

from dle_bundle.errors import few
from dle_bundle.schema import SeriesLayout
from dle_bundle.tables import long_tables, time_steps
from dle_bundle.tables.long_tables import Ordered

_LEAST = 5
"""Distances between rows from which a series has a step of its own, and not only a gap."""
_NAMED = 3


def notes(ordered: Ordered, layout: SeriesLayout) -> tuple[str, ...]:
    """Return a note on series with a longer step than `layout.step`, and one on series with a shorter step."""
    step = layout.step
    if step is None or len(ordered.starts) < 2:
        return ()
    same = ordered.continued
    series = np.repeat(np.arange(len(ordered.starts)), ordered.counts)[1:][same]
    distances = time_steps.distances(ordered.times, step)[same]
    order = np.lexsort((distances, series))
    ends = np.cumsum(ordered.counts - 1)
    middles = order[np.minimum(ends - (ordered.counts + 1) // 2, len(order) - 1)]
    medians = np.where(ordered.counts > _LEAST, distances[middles], 1.0)
    names = long_tables.names(ordered, layout)
    found: list[str] = []
    for places, what in (
        (np.flatnonzero(np.rint(medians) > 1), "so most steps of their windows are missing"),
        (np.flatnonzero(np.rint(medians) < 1), "and each of their rows counts as one step"),
    ):
        listed = [
            f"{names[place]} ({time_steps.said(replace(step, size=step.size * float(medians[place])))})"
            for place in places.tolist()
        ]
        if listed:
            found.append(
                f"{layout.time}: the step of most rows is {time_steps.said(step)}, but these series have another, "
                f"{what}: {few(listed, _NAMED)}; forecast them from a file of their own"
            )
    return tuple(found)
