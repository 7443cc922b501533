"""Folds of cross-validation: over rows, classes, groups, time and windows; and when there are too many."""

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet
import pytest

from dle_bundle.errors import InputError
from dle_bundle.groups import empty
from dle_bundle.schema import Outputs, Schema
from dle_training.config import run_config
from dle_training.data import dataset as datasets
from dle_training.data import folds
from dle_training.data.dataset import Dataset
from dle_training.data.splits.blocks import Blocks
from dle_training.data.splits.split import Split

NUMBERS = Outputs(target="y", task="regression")


def dataset(target: Any, blocks: Blocks | None = None, tested: int = 0) -> Dataset:
    """Rows without inputs, of which the last `tested` test and some others validate; texts are classes."""
    values = np.array(target)
    classes = tuple(map(str, np.unique(values))) if values.dtype.kind == "U" else None
    outputs = NUMBERS if classes is None else Outputs(target="y", task="multiclass", classes=classes)
    rows = np.random.default_rng(0).permutation(len(values) - tested)
    third = len(rows) // 3
    return Dataset(
        source="nowhere",
        digest="",
        schema=Schema(inputs=(), outputs=outputs),
        groups=empty(len(values)),
        target=values if classes is None else values.astype(object),
        split=Split(np.sort(rows[third:]), np.sort(rows[:third]), np.arange(len(rows), len(values))),
        split_by="random",
        dropped={},
        notes=(),
        blocks=blocks,
    )


def groups(*numbers: int) -> Blocks:
    return Blocks(np.array(numbers), np.array(numbers), in_time=False)


def times(first: npt.NDArray[np.int64], horizon: int = 1) -> Blocks:
    return Blocks(first, first + horizon - 1, in_time=True)


def refusal(data: Dataset, count: int) -> tuple[str, ...]:
    with pytest.raises(InputError) as caught:
        folds.make(data, count, 0)
    return (caught.value.message, *caught.value.details)


def check(data: Dataset, made: tuple[Split, ...]) -> None:
    """Each row that does not test validates once and trains in all other folds."""
    rows = sorted([*data.split.train, *data.split.validation])
    assert sorted(row for fold in made for row in fold.validation) == rows
    for fold in made:
        assert sorted([*fold.train, *fold.validation]) == rows
        assert fold.test.tolist() == data.split.test.tolist()


def test_a_regression() -> None:
    data = dataset(np.arange(23.0), tested=3)
    made = folds.make(data, 4, 0)
    check(data, made)
    assert [len(fold.validation) for fold in made] == [5] * 4
    again, other = folds.make(data, 4, 0), folds.make(data, 4, 1)
    assert all(one.equals(same) for one, same in zip(made, again, strict=True))
    assert not made[0].equals(other[0])


def test_classes_have_even_shares() -> None:
    data = dataset(["a"] * 80 + ["b"] * 20)
    made = folds.make(data, 5, 0)
    check(data, made)
    assert [np.count_nonzero(data.target[fold.validation] == "b") for fold in made] == [4] * 5


def test_groups_are_not_divided() -> None:
    numbers = [row // 4 for row in range(80)]
    for target in (np.arange(80.0), ["ab"[number % 2] for number in numbers]):
        data = dataset(target, groups(*numbers))
        made = folds.make(data, 5, 3)
        check(data, made)
        held_out = [{numbers[row] for row in fold.validation} for fold in made]
        assert sum(map(len, held_out)) == 20
        assert [len(fold.validation) for fold in made] == [16] * 5


def test_what_trains_is_earlier() -> None:
    first = np.random.default_rng(1).permutation(np.repeat(np.arange(24), 5))
    data = dataset(np.arange(120.0), times(first))
    made = folds.make(data, 5, 0)
    for number, fold in enumerate(made, start=1):
        assert sorted(set(first[fold.train])) == list(range(4 * number))
        assert sorted(set(first[fold.validation])) == list(range(4 * number, 4 * number + 4))


def test_windows_do_not_reach_into_the_next_block() -> None:
    data = dataset(np.zeros((60, 3)), times(np.arange(60), horizon=3))
    made = folds.make(data, 2, 0)
    assert [fold.train.tolist() for fold in made] == [list(range(18)), list(range(38))]
    assert [fold.validation.tolist() for fold in made] == [list(range(20, 38)), list(range(40, 60))]


def test_a_dataset_of_its_own() -> None:
    data = dataset(np.arange(10.0))
    fold = folds.make(data, 2, 0)[0]
    other = data.with_split(fold)
    assert other.part("validation")[1].tolist() == fold.validation.tolist()
    assert other.schema is data.schema


@pytest.mark.parametrize(
    ("data", "count", "expected"),
    [
        (dataset(np.arange(4.0)), 1, ("cross-validation needs at least 2 folds, found 1",)),
        (dataset(np.arange(4.0)), 5, ("too little data for 5 folds; at most 4 are possible", "4 rows")),
        (
            dataset(["a"] * 9 + ["b"] * 3 + ["c"] * 4),
            5,
            ("too little data for 5 folds; at most 3 are possible", "'b': 3 rows", "'c': 4 rows"),
        ),
        (
            dataset(["a"] * 9 + ["b"]),
            2,
            ("too little data for 2 folds; cross-validation is not possible", "'b': 1 row"),
        ),
        (
            dataset(np.arange(6.0), groups(0, 0, 1, 1, 2, 2)),
            4,
            ("too little data for 4 folds; at most 3 are possible", "3 groups"),
        ),
        (
            dataset(["a"] * 6 + ["b"] * 6, groups(0, 0, 1, 1, 2, 2, 3, 3, 3, 4, 4, 4)),
            3,
            ("too little data for 3 folds; at most 2 are possible", "'b': 2 groups"),
        ),
        (
            dataset(np.arange(60.0), times(np.repeat([0, 1, 2], 20))),
            3,
            (
                "too little data for 3 folds; at most 2 are possible",
                "3 different times, but 4 blocks of rows are needed",
            ),
        ),
        (
            dataset(["a"] * 20 + ["b", "a"] * 20, times(np.arange(60))),
            3,
            ("too little data for 3 folds; cross-validation is not possible", "fold 1: no training row of 'b'"),
        ),
        (
            dataset(np.arange(60.0), times(np.arange(60))),
            6,
            ("too little data for 6 folds; at most 5 are possible", "fold 1: 9 training rows, 8 to validate"),
        ),
    ],
)
def test_too_many_folds(data: Dataset, count: int, expected: tuple[str, ...]) -> None:
    assert refusal(data, count) == expected


def test_a_forecast_of_a_file(tmp_path: Path) -> None:
    hours = 120
    table = pa.table({"hour": range(hours), "load": [float(hour % 24) for hour in range(hours)]})
    pyarrow.parquet.write_table(table, tmp_path / "a.parquet")
    assignments = ["data.time=hour", "data.window=6", "data.horizon=2", "data.target=load"]
    data = datasets.load(run_config.load(None, assignments, {"data.source": str(tmp_path / "a.parquet")}))
    assert data.blocks is not None
    made = folds.make(data, 3, 0)
    for fold in made:
        assert data.blocks.last[fold.train].max() < data.blocks.first[fold.validation].min()
        assert data.blocks.last[fold.validation].max() < data.blocks.first[fold.test].min()
    assert len({row for fold in made for row in fold.validation}) == sum(len(fold.validation) for fold in made)
