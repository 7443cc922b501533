"""For any sizes of classes and groups, any times and any fractions: parts are disjoint, complete and repeatable.

So are the folds of cross-validation, or InputError says that there are too many.
"""

from contextlib import suppress

import numpy as np
import pyarrow as pa
from hypothesis import given
from hypothesis import strategies as st

from dle_bundle.errors import InputError
from dle_bundle.groups import empty
from dle_bundle.schema import Outputs, Schema
from dle_training.config.run_config import SplitConfig
from dle_training.data import folds
from dle_training.data.dataset import Dataset
from dle_training.data.splits import split
from dle_training.data.splits.blocks import Blocks
from dle_training.data.splits.split import Split, Strata

KEYS = st.lists(st.integers(0, 12), min_size=3, max_size=60).filter(lambda keys: len(set(keys)) >= 3)
FRACTIONS = st.tuples(st.floats(0.01, 0.49), st.floats(0.01, 0.49))


def check(parts: Split, rows: np.ndarray[tuple[int], np.dtype[np.int64]]) -> None:
    joined = np.concatenate([parts.train, parts.validation, parts.test])
    assert sorted(joined.tolist()) == rows.tolist()
    for part in (parts.train, parts.validation, parts.test):
        assert len(part)
        assert part.dtype == np.int64
        assert (np.diff(part) > 0).all()


def same(one: Split, other: Split) -> bool:
    return all(np.array_equal(getattr(one, part), getattr(other, part)) for part in split.PARTS)


@given(
    sizes=st.lists(st.integers(3, 60), min_size=1, max_size=8),
    gaps=st.integers(1, 3),
    fractions=FRACTIONS,
    seed=st.integers(0, 2**32 - 1),
)
def test_stratified(sizes: list[int], gaps: int, fractions: tuple[float, float], seed: int) -> None:
    classes = Strata(np.repeat(np.arange(len(sizes)), sizes), tuple(map(str, sizes)))
    rows = np.arange(sum(sizes)) * gaps
    config = SplitConfig(validation=fractions[0], test=fractions[1])
    table = pa.table({"a": range(sum(sizes) * gaps)})
    parts = split.make(table, rows, "stratified", config, seed, classes)
    check(parts, rows)
    for part in (parts.train, parts.validation, parts.test):
        assert set(classes.places[part // gaps]) == set(range(len(sizes)))
    assert same(parts, split.make(table, rows, "stratified", config, seed, classes))


@given(count=st.integers(3, 300), fractions=FRACTIONS, seed=st.integers(0, 2**32 - 1))
def test_random(count: int, fractions: tuple[float, float], seed: int) -> None:
    config = SplitConfig(validation=fractions[0], test=fractions[1])
    table, rows = pa.table({"a": range(count)}), np.arange(count)
    parts = split.make(table, rows, "random", config, seed, None)
    check(parts, rows)
    assert same(parts, split.make(table, rows, "random", config, seed, None))


@given(
    values=st.lists(st.sampled_from(["train", "Train ", "VALIDATION", "test"]), max_size=50),
    seed=st.integers(0, 2**32 - 1),
)
def test_given(values: list[str], seed: int) -> None:
    values = ["train", "train", "test", *values]
    parts = split.make(pa.table({"s": values}), np.arange(len(values)), "column:s", SplitConfig(), seed, None)
    check(parts, np.arange(len(values)))
    assert parts.test.tolist() == [row for row, value in enumerate(values) if value == "test"]


def blocks(keys: list[int], *, in_time: bool) -> Blocks:
    return Blocks(np.array(keys), np.array(keys), in_time)


@given(keys=KEYS, classes=st.integers(1, 3), fractions=FRACTIONS, seed=st.integers(0, 2**32 - 1))
def test_groups(keys: list[int], classes: int, fractions: tuple[float, float], seed: int) -> None:
    """No group is in two parts; where there is one class, as in regression, three groups are enough."""
    strata = Strata(np.arange(len(keys)) % classes, tuple(map(str, range(classes))))
    rows, config = np.arange(len(keys)), SplitConfig(validation=fractions[0], test=fractions[1])
    table = pa.table({"k": keys})
    found = blocks(keys, in_time=False)
    try:
        parts = split.make(table, rows, "group:k", config, seed, strata, found)
    except InputError:
        assert classes > 1
        return
    check(parts, rows)
    held = [{keys[row] for row in part} for part in (parts.train, parts.validation, parts.test)]
    assert sum(map(len, held)) == len(set(keys))
    assert set(strata.places[parts.train]) == set(strata.places)
    assert same(parts, split.make(table, rows, "group:k", config, seed, strata, found))


@given(keys=KEYS, fractions=FRACTIONS)
def test_time(keys: list[int], fractions: tuple[float, float]) -> None:
    """Time never goes back from part to part, and equal times are in one part."""
    rows, config = np.arange(len(keys)), SplitConfig(validation=fractions[0], test=fractions[1])
    parts = split.make(pa.table({"k": keys}), rows, "time:k", config, 0, None, blocks(keys, in_time=True))
    check(parts, rows)
    moments = np.array(keys)
    assert moments[parts.train].max() < moments[parts.validation].min()
    assert moments[parts.validation].max() < moments[parts.test].min()


@given(
    keys=KEYS,
    way=st.sampled_from(["rows", "group", "time"]),
    classes=st.integers(0, 3),
    tested=st.integers(0, 5),
    count=st.integers(2, 6),
    seed=st.integers(0, 2**32 - 1),
)
def test_folds(keys: list[int], way: str, classes: int, tested: int, count: int, seed: int) -> None:
    """Each row that does not test validates once; in time, each but those of the first block."""
    labels = tuple("abc"[:classes]) or None
    size = len(keys)
    target = np.arange(float(size)) if labels is None else np.array(labels, dtype=object)[np.arange(size) % classes]
    outputs = Outputs(target="y", task="regression" if labels is None else "multiclass", classes=labels)
    rows = np.arange(max(size - tested, 2))
    data = Dataset(
        source="nowhere",
        digest="",
        schema=Schema(inputs=(), outputs=outputs),
        groups=empty(size),
        target=target,
        split=Split(rows[::2], rows[1::2], np.arange(len(rows), size)),
        split_by=way,
        dropped={},
        notes=(),
        blocks=None if way == "rows" else blocks(keys, in_time=way == "time"),
    )
    made: tuple[Split, ...] = ()
    with suppress(InputError):
        made = folds.make(data, count, seed)
    if not made:
        units = {"rows": len(rows), "group": len(set(keys[: len(rows)])), "time": len(set(keys[: len(rows)])) - 1}
        # in time the first fold may have too few rows to train on, but not if the first moment alone has enough
        first = keys[: len(rows)].count(min(keys[: len(rows)]))
        assert labels is not None or units[way] < count or (way == "time" and first < 10)
        return
    assert len(made) == count
    moments = np.array(keys)
    held_out = sorted(row for fold in made for row in fold.validation.tolist())
    assert held_out == sorted(set(rows.tolist()) - (set(made[0].train.tolist()) if way == "time" else set()))
    for fold in made:
        assert len(fold.train)
        assert len(fold.validation)
        assert not set(fold.train) & set(fold.validation)
        assert fold.test.tolist() == data.split.test.tolist()
        if labels is not None:
            assert set(data.target[fold.train]) == set(labels)
        if way == "group":
            assert not set(moments[fold.train]) & set(moments[fold.validation])
        if way == "time":
            assert moments[fold.train].max() < moments[fold.validation].min()
