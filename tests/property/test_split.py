"""For any sizes of classes and any fractions: the parts are disjoint, complete and repeatable."""

import numpy as np
import pyarrow as pa
from hypothesis import given
from hypothesis import strategies as st

from dle_training.config import SplitConfig
from dle_training.data import split
from dle_training.data.split import Split, Strata

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
