"""Columns that identify customers, patients or machines whose rows repeat, such as those of monthly files.

A random split puts rows of one customer into training and test, so the score is that of known customers. Only the user
knows whether the model will meet others.
"""

import re
from collections.abc import Callable, Mapping
from functools import cache
from typing import Any

import numpy as np
import numpy.typing as npt

from dle_training.config.run_config import RunConfig
from dle_training.data.columns.kinds import Reading
from dle_training.data.splits.blocks import GROUP
from dle_training.settings.proposals import option, setting

_LEAST = 20
"""Fewer distinct values are categories."""
_ROWS_EACH = 2
_LARGEST = 0.2
"""The largest share of the rows that one entity has."""
_EVEN = 0.5
"""A column without a telling name has entities of about as many rows each: the spread of their rows over the mean."""
_CONSTANT, _BY_CHANCE, _ENOUGH_CONSTANT = 0.95, 0.5, 2
"""Columns count as constant within entities if they are so in this share, and in less than that one by chance; so many
of them make an identifier."""
_PAIRS = 10
"""Rows of the same entity and date that chance would give at least, where there are none."""
_SPARSE = 30
"""The mean gap between numbers that are codes."""
_MOSTLY = 0.9
_MOST_ROWS = 20_000
"""Of a larger table, some entities with about so many rows are compared with other columns."""
_IDS = frozenset({"id", "ids", "uuid", "guid"})
_ENTITIES = frozenset({
    "account", "client", "customer", "device", "employee", "household", "machine", "member", "participant", "patient",
    "person", "player", "respondent", "sensor", "student", "subject", "unit", "user", "worker",
})  # fmt: skip
_BESIDE = frozenset({"code", "key", "name", "no", "nr", "num", "number"})
Places = npt.NDArray[np.int64]


def notes(readings: Mapping[str, Reading], target: npt.NDArray[Any], by: str, config: RunConfig) -> list[str]:
    """Return a note on each input that identifies entities, if the split is random and nobody asked for it.

    `readings` are those of the inputs by name, and `target` (N,) has the labels or values of the same rows.
    """
    if config.split.by is not None or by not in ("random", "stratified"):
        return []
    found = []

    @cache
    def codes(name: str) -> Places:
        return readings[name].codes

    for name, reading in readings.items():
        if reading.kind != "categorical" and not (reading.kind == "numeric" and reading.whole):
            continue
        places = codes(name)
        counts = np.bincount(places)
        few = len(counts) < _LEAST or len(places) < _ROWS_EACH * len(counts) or counts.max() > _LARGEST * len(places)
        if few or not (_named(name) or _repeats(name, codes, readings, target)):
            continue
        others = f"if the model will meet new values, test it on such values: {option('split.by', GROUP + name)}"
        if reading.missing.any():
            others = "a split by group keeps them apart, but needs a value in every row"
        known = counts[np.unique(places[~reading.missing])]
        found.append(
            f"{name}: looks like an identifier whose values repeat ({len(known):,} values, about "
            f"{known.mean():.0f} rows each), and training and test share them; {others}; to leave the "
            f"column out, set {setting('data.drop', [*config.data.drop, name])}"
        )
    return found


def _named(name: str) -> bool:
    """Whether the column is named like an identifier: `user_id`, `patient`, `machine no`, but not `user age`."""
    words = set(re.findall("[a-z]+", re.sub("(?<=[a-z])(?=[A-Z])", " ", name).lower()))
    return not _IDS.isdisjoint(words) or (not _ENTITIES.isdisjoint(words) and words <= _ENTITIES | _BESIDE)


def _repeats(
    name: str, codes: Callable[[str], Places], readings: Mapping[str, Reading], target: npt.NDArray[Any]
) -> bool:
    """Whether the values of a column look like entities, whatever it is called; `codes` are those of a column (N,).

    The entities have about as many rows each. Either no date occurs twice for one of them, or the values look like
    codes, and other columns are the same in all rows of an entity.
    """
    places = codes(name)
    counts = np.bincount(places)
    distinct = np.unique(readings[name].values[np.unique(places, return_index=True)[1]])
    if counts.std() > _EVEN * counts.mean() or _are_in_order(distinct):
        return False
    rows = _of_some(places, counts)
    others = [other for other in readings if other != name]
    if any(_is_key(places[rows], codes(other)[rows]) for other in others if readings[other].kind == "datetime"):
        return True
    if distinct.dtype == object and sum(any(map(str.isdigit, text)) for text in distinct) < _MOSTLY * len(distinct):
        return False
    labels = np.asarray(np.unique(target[rows], return_inverse=True)[1], dtype=np.int64)
    starts = np.flatnonzero(np.diff(places[rows], prepend=-1))
    return sum(_is_constant(each, starts) for each in (*(codes(other)[rows] for other in others), labels)) >= (
        _ENOUGH_CONSTANT
    )


def _of_some(places: Places, counts: Places) -> Places:
    """All rows of entities taken at random, entity by entity: at most `_MOST_ROWS`, or `_LEAST` entities.

    `counts` has the number of rows of each entity.
    """
    order = np.random.default_rng(0).permutation(len(counts))
    taken = max(_LEAST, int((np.cumsum(counts[order]) <= _MOST_ROWS).sum()))
    chosen = np.zeros(len(counts), dtype=bool)
    chosen[order[:taken]] = True
    rows = np.flatnonzero(chosen[places])
    return rows[np.argsort(places[rows], kind="stable")]


def _are_in_order(distinct: npt.NDArray[Any]) -> bool:
    """Whether the values are numbers with even or narrow gaps, such as hours, days of the year and ages."""
    if distinct.dtype == object and not all(map(str.isdecimal, distinct)):
        return False
    numbers = np.sort(distinct.astype(np.float64))
    gaps = np.diff(numbers[~np.isnan(numbers)])
    return bool(gaps.mean() < _SPARSE or (gaps == gaps[0]).all())


def _is_key(places: Places, dates: Places) -> bool:
    """Whether no pair of entity and date occurs twice, though chance would give several."""
    pairs = len(np.unique(places)) * len(np.unique(dates))
    both = places * (int(dates.max()) + 1) + dates
    return len(places) ** 2 / 2 / pairs >= _PAIRS and len(np.unique(both)) == len(places)


def _is_constant(codes: Places, starts: Places) -> bool:
    """Whether a column is constant within nearly all entities with several rows, which is no chance.

    `codes` (N,) are its values, entity by entity, and `starts` the first row of each.
    """
    if _share(codes, starts) < _CONSTANT:
        return False
    return _share(np.random.default_rng(0).permutation(codes), starts) <= _BY_CHANCE


def _share(codes: Places, starts: Places) -> float:
    """The share of the entities with several rows in which all codes are equal."""
    several = np.diff(starts, append=len(codes)) > 1
    return float((np.maximum.reduceat(codes, starts) == np.minimum.reduceat(codes, starts))[several].mean())
