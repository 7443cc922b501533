"""Which rows train, validate and test.

The parts are disjoint and together hold every row that has a target. Stratified parts hold rows of each class:
if 15 % of three rows were rounded to zero, the class could not be scored. Rows that are not independent are split in
blocks: by group, or by time.
"""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from dle_bundle import files
from dle_bundle.errors import InputError, counted, nearest
from dle_bundle.schema import Label
from dle_bundle.tables import columns
from dle_bundle.tables.folders import PARTS as PARTS
from dle_bundle.values import dates
from dle_bundle.values.missing import NA_VALUES
from dle_training.config.run_config import SplitConfig
from dle_training.data.columns.kinds import Reading
from dle_training.data.splits import blocks as blocking
from dle_training.data.splits.blocks import GROUP, TIME, Blocks, RowNumbers
from dle_training.settings.proposals import option, setting

COLUMN = "column:"
_APART = {
    COLUMN: "says which rows train, validate and test",
    GROUP: "says which rows belong together in the split",
    TIME: "says in which order rows are split",
}
_OWN_COLUMN = "split"
_LISTED = 10


@dataclass(frozen=True, slots=True)
class Split:
    """Rows of the source table, each part ascending."""

    train: RowNumbers
    validation: RowNumbers
    test: RowNumbers

    def rows(self, part: str) -> RowNumbers:
        """The rows of `train`, `validation` or `test`."""
        return {"train": self.train, "validation": self.validation, "test": self.test}[part]

    def sizes(self) -> dict[str, int]:
        """Rows of each part."""
        return {part: len(self.rows(part)) for part in PARTS}

    def equals(self, other: "Split") -> bool:
        """Whether both hold the same rows in the same parts."""
        return all(np.array_equal(self.rows(part), other.rows(part)) for part in PARTS)

    def save(self, path: Path) -> None:
        """Write `split.npz`."""
        with files.atomic_path(path) as temporary:
            np.savez_compressed(temporary, train=self.train, validation=self.validation, test=self.test)


@dataclass(frozen=True, slots=True)
class SplitRule:
    """How rows are split: `random`, `stratified`, or `column:`, `group:` or `time:` before a name.

    `note` explains a choice that the data made.
    """

    name: str
    note: str | None = None


@dataclass(frozen=True, slots=True)
class Strata:
    """The class of each row as an index (N,) into `names`, so that each part gets its share of each class."""

    places: RowNumbers
    names: tuple[Label, ...]


def load(path: Path) -> Split:
    """Read `split.npz`; raises InputError when it is absent or something else."""
    try:
        with np.load(path, allow_pickle=False) as arrays:
            return Split(*(arrays[part].astype(np.int64) for part in PARTS))
    except (OSError, EOFError, ValueError, KeyError) as error:
        raise InputError(f"{path}: no readable split: {error}") from error


def choose(table: pa.Table, config: SplitConfig, classification: bool) -> SplitRule:
    """Choose the split rule: from the configuration if it names one, otherwise from the data.

    Raises InputError if the column does not exist, or if stratification is asked for without classes.
    """
    if config.by is None:
        if is_given(table, _OWN_COLUMN):
            return SplitRule(f"{COLUMN}{_OWN_COLUMN}", _standing_in(table, _OWN_COLUMN) or _given_parts(table))
        return SplitRule("stratified" if classification else "random")
    name = column_name(config.by)
    if name is not None and name not in table.column_names:
        raise InputError(f"split.by: no column {name!r}{nearest(name, table.column_names)}")
    if config.by == "stratified" and not classification:
        cure = setting("split.by", "random")
        raise InputError(f"split.by=stratified needs classes, and this is a regression; set {cure}")
    return SplitRule(config.by, _standing_in(table, name) if name and config.by.startswith(COLUMN) else None)


def later_rows(
    by: str, config: SplitConfig, readings: Mapping[str, Reading], target: npt.NDArray[Any], *, classes: bool
) -> str | None:
    """Return a note that names a split by time, if the inputs hold dates and nobody asked for a random split.

    `readings` are those of the inputs by name, and `target` (N,) or (N, horizon) has the labels, if there are
    `classes`, or the values of the same rows. A split by time needs a date in every row, another input, and training
    rows of every class.
    """
    if config.by is not None or by not in ("random", "stratified") or len(readings) < 2:
        return None
    for name, reading in readings.items():
        if reading.kind != "datetime" or reading.missing.any() or not dates.has_year(reading.date_format):
            continue
        ranks = np.unique(reading.values, return_inverse=True)[1]
        if ranks.max() + 1 < len(PARTS):
            continue
        training = _cut_in_time(ranks, _fractions(config)) == 0
        if not classes or set(target[training].tolist()) == set(target.tolist()):
            return (
                f"{name}: holds dates, but the split is {by}; if the model will predict later rows, test it on the "
                f"latest rows: {option('split.by', TIME + name)}"
            )
    return None


def column_name(by: str) -> str | None:
    """Return NAME in `column:NAME`, `group:NAME` or `time:NAME`."""
    return by.partition(":")[2] or None


def is_given(table: pa.Table, name: str) -> bool:
    """Whether the column holds only names of parts; such a column is not a feature."""
    if name not in table.column_names or not columns.is_text(table.column(name)):
        return False
    return set(_parts(table, name)) <= set(PARTS)


def may_train(table: pa.Table, by: str) -> npt.NDArray[np.bool_]:
    """Return which rows (N,) a column marks for training; all rows if the parts are drawn."""
    name = column_name(by)
    if name is None or not by.startswith(COLUMN):
        return np.ones(len(table), dtype=bool)
    return np.asarray(_parts(table, name) == "train")


def apart(table: pa.Table, config: SplitConfig) -> dict[str, str]:
    """Return the columns that describe a split, used or not, with the reason; they are not features."""
    given = {_OWN_COLUMN: _APART[COLUMN]} if is_given(table, _OWN_COLUMN) else {}
    way, colon, asked = (config.by or "").partition(":")
    return {asked: _APART[way + colon], **given} if asked else given


def _given_parts(table: pa.Table) -> str:
    if "validation" in _parts(table, _OWN_COLUMN):
        return "the parts are given"
    return "the test part is given; validation rows are cut from the train part"


def _standing_in(table: pa.Table, name: str) -> str | None:
    """Return a note if the column marks validation rows but no test rows: the former become the test part."""
    marked = set(_parts(table, name))
    if "validation" not in marked or "test" in marked:
        return None
    return (
        "no test part is given: the validation part becomes the test part; validation rows are cut from the train part"
    )


def make(
    table: pa.Table,
    rows: RowNumbers,
    by: str,
    config: SplitConfig,
    seed: int,
    strata: Strata | None,
    blocks: Blocks | None = None,
) -> Split:
    """Split the `rows` (N,) of `table`. `strata` are their classes, in classification, `blocks` those of the table.

    By a column, validation rows are cut from the train part where none are given; where no test rows are given, the
    validation rows are the test part. By group or time, no block is divided: groups are drawn so that every part gets
    about its share of the rows and of each class; the latest rows test, and those before them validate.

    Raises InputError: too few rows (of a class) or blocks, values of the split column other than the parts, a part
    without rows, a class without training rows.
    """
    places = strata.places if strata is not None else np.zeros(len(rows), dtype=np.int64)
    rng = np.random.default_rng(seed)
    name = column_name(by)
    if name is not None and not by.startswith(COLUMN):
        assert blocks is not None
        numbers = np.unique(blocks.first[rows], return_inverse=True)[1]
        _check_blocks(name, numbers, blocks.in_time)
        fractions = _fractions(config)
        part = _cut_in_time(numbers, fractions) if blocks.in_time else _allot(numbers, places, fractions, rng)
        _check_filled(name, numbers, part)
    elif name is not None:
        part = _given(table.take(pa.array(rows)), name, standing_in=_standing_in(table, name) is not None)
        train = np.flatnonzero(part == 0)
        if not (part == 1).any():
            part[train] = _cut(places[train], (config.validation,), rng)
    else:
        if by == "random":
            places = np.zeros(len(rows), dtype=np.int64)
        _check_sizes(places, strata if by == "stratified" else None)
        part = _cut(places, (config.validation, config.test), rng)
    split = Split(*(rows[part == index] for index in range(len(PARTS))))
    _check_parts(split, part, strata)
    return split


def _fractions(config: SplitConfig) -> tuple[float, float, float]:
    """The fractions of training, validation and test rows."""
    return 1 - config.validation - config.test, config.validation, config.test


def _cut_in_time(ranks: RowNumbers, fractions: tuple[float, ...]) -> npt.NDArray[np.int8]:
    """Part of each row (N,), later ones in later parts, by the ranks (N,) of their times: one at least for each."""
    begins = blocking.cuts(np.bincount(ranks), (len(ranks) * np.cumsum(fractions[:-1])).tolist())
    return np.searchsorted(begins, ranks, side="right").astype(np.int8)


def _allot(
    groups: RowNumbers, places: RowNumbers, fractions: tuple[float, ...], rng: np.random.Generator
) -> npt.NDArray[np.int8]:
    """Return the part of each row (N,), the same for all rows of a group; there must be a group for each part.

    The largest groups are placed first, so that small groups even out the shares. A group goes at random to a part with
    room for it; the chance is in proportion to the rows of its classes that the part lacks. If the part that lacks most
    were always taken, the training part would get all large groups. Two rules override chance: each class has training
    rows, and each part has a group.
    """
    sizes, classes = np.bincount(groups), np.bincount(places)
    members = np.split(np.argsort(groups, kind="stable"), np.cumsum(sizes)[:-1])
    part = np.zeros(len(groups), dtype=np.int8)
    lacking = np.outer(fractions, classes)  # (parts, classes), in rows
    to_come, trained, empty = classes.copy(), np.zeros(len(classes), dtype=bool), np.ones(len(fractions), dtype=bool)
    shuffled = rng.permutation(len(sizes))
    for place, group in enumerate(shuffled[np.argsort(-sizes[shuffled], kind="stable")].tolist()):
        own = np.bincount(places[members[group]], minlength=len(classes))
        to_come -= own
        room = lacking.sum(axis=1)
        allowed = empty if len(sizes) - place <= empty.sum() else np.ones(len(fractions), dtype=bool)
        chance = np.maximum(lacking @ (own / np.maximum(classes, 1)), 0) * (allowed & (room > sizes[group] - 0.5))
        if ((own > 0) & (to_come == 0) & ~trained).any():
            chosen = 0
        elif chance.any():
            chosen = int(rng.choice(len(fractions), p=chance / chance.sum()))
        else:
            chosen = int(np.argmax(np.where(allowed, room, -np.inf)))
        part[members[group]] = chosen
        lacking[chosen] -= own
        empty[chosen] = False
        if chosen == 0:
            trained |= own > 0
    return part


def _cut(strata: RowNumbers, fractions: tuple[float, ...], rng: np.random.Generator) -> npt.NDArray[np.int8]:
    """Return the part of each row: 1, 2, … for a fraction of each stratum (at least one row if possible), else 0."""
    part = np.zeros(len(strata), dtype=np.int8)
    for stratum in np.unique(strata):
        members = rng.permutation(np.flatnonzero(strata == stratum))
        sizes = [max(1, round(len(members) * fraction)) for fraction in fractions]
        while sum(sizes) >= len(members):  # at least one row remains for training
            sizes[int(np.argmax(sizes))] -= 1
        ends = np.cumsum(sizes)
        for index, (end, size) in enumerate(zip(ends, sizes, strict=True), start=1):
            part[members[end - size : end]] = index
    return part


def _parts(table: pa.Table, name: str) -> npt.NDArray[np.object_]:
    texts = columns.categories(table.column(name), NA_VALUES)
    folded = {text: text.casefold() for text in set(texts)}
    return np.array([folded[text] for text in texts], dtype=object)


def _given(table: pa.Table, name: str, *, standing_in: bool) -> npt.NDArray[np.int8]:
    texts = _parts(table, name)
    if standing_in:
        texts[texts == "validation"] = "test"
    counts = Counter(texts)
    other = {text: count for text, count in counts.items() if text not in PARTS}
    if other:
        listed = [
            f"{text or '(missing)'!s:.60}: {counted(count, 'row')}"
            for text, count in Counter(other).most_common(_LISTED)
        ]
        raise InputError(
            f"{name!r}: expected only train, validation and test in the split column, "
            f"found {counted(len(other), 'other value')}",
            listed,
        )
    absent = [part for part in ("train", "test") if part not in counts]
    if absent:
        raise InputError(f"{name!r}: the split column marks no {' and no '.join(absent)} row; set split.by to random")
    return np.array([PARTS.index(text) for text in texts], dtype=np.int8)


def _check_sizes(places: RowNumbers, strata: Strata | None) -> None:
    if len(places) < len(PARTS):
        raise InputError(f"{counted(len(places), 'row')} with a target, too few: each of {', '.join(PARTS)} needs one")
    if strata is None:
        return
    counts = np.bincount(places, minlength=len(strata.names))
    small = [
        f"{strata.names[index]!r}: {counted(counts[index], 'row')}" for index in np.flatnonzero(counts < len(PARTS))
    ]
    if small:
        raise InputError(
            f"classes with fewer rows than the {len(PARTS)} parts of a stratified split; "
            "add rows, merge or remove these classes, or give the parts in a column: "
            f"{option('split.by', 'column:NAME')}",
            [*small[:_LISTED], *([f"and {len(small) - _LISTED:,} more"] if len(small) > _LISTED else [])],
        )


def _check_blocks(name: str, numbers: RowNumbers, in_time: bool) -> None:
    count = len(np.unique(numbers))
    if count < len(PARTS):
        found = counted(count, "time" if in_time else "group")
        raise InputError(f"{name!r}: {found}, too few: each of {', '.join(PARTS)} needs one of its own")


def _check_filled(name: str, numbers: RowNumbers, part: npt.NDArray[np.int8]) -> None:
    absent = [PARTS[index] for index in range(len(PARTS)) if index not in part]
    if absent:
        raise InputError(
            f"{name!r}: {counted(len(np.unique(numbers)), 'group')}, too few: training needs rows of every class, and "
            f"no group is left for {' and '.join(absent)}"
        )


def _check_parts(split: Split, part: npt.NDArray[np.int8], strata: Strata | None) -> None:
    if not len(split.validation):
        raise InputError(f"{counted(len(split.train), 'training row')}, too few to take a validation part from")
    if strata is None:
        return
    trained = set(strata.places[part == 0].tolist())
    unknown = [
        f"{label!r}: {counted(int((strata.places == index).sum()), 'row')}"
        for index, label in enumerate(strata.names)
        if index not in trained
    ]
    if unknown:
        raise InputError("classes without a row in the training part", unknown)
