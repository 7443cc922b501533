"""Splits: by chance, by class, by a column, by groups, by time, and when there are too few rows."""

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from dle_bundle.errors import InputError
from dle_training.config.run_config import DataConfig, SplitConfig
from dle_training.data.splits import blocks, split
from dle_training.data.splits.split import Split, SplitRule, Strata

CONFIG = SplitConfig()


def strata(*sizes: int) -> Strata:
    return Strata(np.repeat(np.arange(len(sizes)), sizes), tuple(f"c{index}" for index in range(len(sizes))))


def by_column(values: list[Any], classes: Strata | None = None, seed: int = 0) -> Split:
    table = pa.table({"part": values})
    return split.make(table, np.arange(len(values)), "column:part", CONFIG, seed, classes)


def chance(count: int, by: str = "random", classes: Strata | None = None, seed: int = 0) -> Split:
    return split.make(pa.table({"a": range(count)}), np.arange(count), by, CONFIG, seed, classes)


def blocked(way: str, values: list[Any], classes: Strata | None = None, seed: int = 0, **data: Any) -> Split:
    """Split by `group:` or `time:` of these values; None in `classes.places` is no class."""
    table = pa.table({"key": values})
    known = np.ones(len(values), dtype=bool)
    found = blocks.read(table, f"{way}key", "y", known, DataConfig(**data))
    return split.make(table, np.arange(len(values)), f"{way}key", CONFIG, seed, classes, found)


def test_sizes() -> None:
    assert chance(1000).sizes() == {"train": 700, "validation": 150, "test": 150}
    assert chance(3).sizes() == {"train": 1, "validation": 1, "test": 1}


def test_the_seed_decides() -> None:
    assert chance(100).train.tolist() == chance(100).train.tolist()
    assert chance(100).train.tolist() != chance(100, seed=1).train.tolist()


def test_every_class_is_in_every_part() -> None:
    classes = strata(1000, 10, 3)
    parts = chance(1013, "stratified", classes)
    counts = {part: np.bincount(classes.places[getattr(parts, part)], minlength=3).tolist() for part in split.PARTS}
    assert counts == {"train": [700, 6, 1], "validation": [150, 2, 1], "test": [150, 2, 1]}


def test_classes_that_are_too_small_are_named() -> None:
    with pytest.raises(InputError, match="fewer rows than the 3 parts") as caught:
        chance(15, "stratified", strata(10, 2, 1, 2))
    assert caught.value.details == ("'c1': 2 rows", "'c2': 1 row", "'c3': 2 rows")


def test_too_few_rows() -> None:
    with pytest.raises(InputError, match="2 rows with a target, too few"):
        chance(2)


def test_a_random_split_that_misses_a_class() -> None:
    classes = strata(99, 1)
    seed = next(seed for seed in range(100) if 99 not in chance(100, seed=seed).train)
    with pytest.raises(InputError, match="without a row in the training part") as caught:
        chance(100, "random", classes, seed)
    assert caught.value.details == ("'c1': 1 row",)


def test_a_column_with_all_parts() -> None:
    parts = by_column(["train", "TEST", " Validation ", "train"])
    assert (parts.train.tolist(), parts.validation.tolist(), parts.test.tolist()) == ([0, 3], [2], [1])


def test_validation_is_taken_from_train_by_class() -> None:
    classes = strata(200, 20, 1)
    parts = by_column(["train"] * 221 + ["test"], Strata(np.append(classes.places, 0), classes.names))
    assert parts.test.tolist() == [221]
    assert np.bincount(classes.places[parts.validation], minlength=3).tolist() == [30, 3, 0]


def test_validation_stands_in_for_a_test_part() -> None:
    values = ["train"] * 20 + ["validation"] * 3
    parts = by_column(values)
    assert parts.test.tolist() == [20, 21, 22]
    assert parts.sizes() == {"train": 17, "validation": 3, "test": 3}
    for name in ("split", "part"):
        chosen = split.choose(pa.table({name: values}), SplitConfig(by="column:part" if name == "part" else None), True)
        assert (chosen.note or "").startswith("no test part is given")


def test_test_rows_without_a_target_are_not_stood_in_for() -> None:
    given = pa.table({"part": ["train", "train", "validation", "test"]})
    with pytest.raises(InputError, match="no test row"):
        split.make(given, np.arange(3), "column:part", CONFIG, 0, None)
    assert split.choose(given, SplitConfig(by="column:part"), False).note is None


@pytest.mark.parametrize(
    ("values", "message", "details"),
    [
        (["train", "test", "dev", "dev", None], "2 other value", ("dev: 2 rows", "(missing): 1 row")),
        (["train", "train"], "no test row", ()),
        (["test", "validation"], "no train row", ()),
        (["train", "test"], "1 training row, too few", ()),
    ],
)
def test_columns_that_do_not_split(values: list[Any], message: str, details: tuple[str, ...]) -> None:
    with pytest.raises(InputError, match=message) as caught:
        by_column(values)
    assert caught.value.details == details


def test_a_class_that_is_only_tested() -> None:
    with pytest.raises(InputError, match="without a row in the training part"):
        by_column(["train", "train", "test"], Strata(np.array([0, 0, 1]), ("a", "b")))


def test_groups_are_not_divided() -> None:
    sizes = [60, 40, *[10] * 40, *[1] * 100]
    values = [f"g{index}" for index, size in enumerate(sizes) for _ in range(size)]
    parts = blocked("group:", values)
    assert parts.sizes() == {"train": 420, "validation": 90, "test": 90}
    keys = [key for part in split.PARTS for key in {values[row] for row in getattr(parts, part)}]
    assert len(keys) == len(sizes)
    assert parts.equals(blocked("group:", values))
    assert not parts.equals(blocked("group:", values, seed=1))


def test_large_groups_are_not_all_in_one_part() -> None:
    values = [index for index, size in enumerate([30] * 3 + [5] * 102) for _ in range(size)]
    assert {
        part for seed in range(40) for part in split.PARTS if 0 in getattr(blocked("group:", values, seed=seed), part)
    }
    placed = {blocked("group:", values, seed=seed).sizes()["train"] for seed in range(5)}
    assert placed == {420}


def test_groups_keep_the_shares_of_classes() -> None:
    values = [row // 5 for row in range(1000)]
    classes = Strata(np.array([int(value % 4 == 0) for value in values]), ("a", "b"))
    for seed in range(5):
        parts = blocked("group:", values, classes, seed)
        for part in split.PARTS:
            assert 0.2 < classes.places[getattr(parts, part)].mean() < 0.3


def test_every_part_has_a_group_and_training_every_class() -> None:
    for seed in range(20):
        assert all(blocked("group:", ["a", "b", "c"], seed=seed).sizes().values())
        rare = Strata(np.array([0] * 40 + [1] * 2), ("a", "b"))
        parts = blocked("group:", [row // 2 for row in range(42)], rare, seed)
        assert {40, 41} <= set(parts.train.tolist())


def test_too_few_groups() -> None:
    with pytest.raises(InputError, match="'key': 2 groups, too few: each of train, validation, test"):
        blocked("group:", ["a", "b", "b", "a"])
    with pytest.raises(InputError, match="3 groups, too few: training needs rows of every class") as caught:
        blocked("group:", ["a", "b", "c"], strata(1, 1, 1))
    assert "no group is left for validation and test" in caught.value.message


def test_rows_without_a_group() -> None:
    with pytest.raises(InputError, match=r"'key': no group in 12 of 14 rows") as caught:
        blocked("group:", ["a", "b", None, *[" "] * 11])
    assert caught.value.details[:2] == ("row 3: None", "row 4: ' '")
    assert caught.value.details[-1] == "and 2 more"
    with pytest.raises(InputError, match="a group column must hold text, numbers or dates"):
        blocked("group:", [[1], [2], [3]])


def test_the_latest_rows_test() -> None:
    values = np.random.default_rng(0).permutation(100)
    parts = blocked("time:", values.tolist())
    assert sorted(values[parts.train]) == list(range(70))
    assert sorted(values[parts.validation]) == list(range(70, 85))
    assert sorted(values[parts.test]) == list(range(85, 100))


def test_equal_times_are_not_divided() -> None:
    parts = blocked("time:", [1] * 50 + [2] * 30 + [3] * 20)
    assert parts.sizes() == {"train": 50, "validation": 30, "test": 20}
    parts = blocked("time:", [1] * 2 + [2] * 2 + [3] * 96)
    assert parts.sizes() == {"train": 2, "validation": 2, "test": 96}


def test_times_are_read_as_inputs_are() -> None:
    days = [f"{day:02}.03.2024" for day in (4, 2, 3, 1)]
    assert blocked("time:", days).test.tolist() == [0]
    assert blocked("time:", ["01-02-24", "02-01-24", "03-01-23"], date_formats={"key": "%d-%m-%y"}).test.tolist() == [0]
    assert blocked("time:", ["0900", "1000", "0800"], kinds={"key": "numeric"}).test.tolist() == [1]


@pytest.mark.parametrize(
    ("values", "message", "details"),
    [
        (
            ["1", "2", "3", "x", None, *"456789"],
            "a number in every row .* none in 2 of 11",
            ("row 4: 'x'", "row 5: None"),
        ),
        ([1.0, 2.0, float("inf"), 3.0], "none in 1 of 4 rows", ("row 3: inf",)),
        (
            ["2024-01-01", "NA", *[f"2024-02-{day}" for day in range(10, 20)], "soon"],
            r"a date-time \(ISO 8601\)",
            ("row 2: 'NA'", "row 13: 'soon'"),
        ),
        (["a", "b", "c"], "found a column that is categorical: row 1 'a', row 2 'b'", ()),
        ([2, 2, 1], "2 times, too few", ()),
    ],
)
def test_what_is_no_time(values: list[Any], message: str, details: tuple[str, ...]) -> None:
    with pytest.raises(InputError, match=message) as caught:
        blocked("time:", values)
    assert caught.value.details == details


def test_a_class_that_comes_late() -> None:
    with pytest.raises(InputError, match="without a row in the training part"):
        blocked("time:", list(range(20)), strata(18, 2))


def test_rows_without_a_target_need_no_block() -> None:
    table = pa.table({"key": [3, None, 2, 1]})
    known = np.array([True, False, True, True])
    found = blocks.read(table, "time:key", "y", known, DataConfig())
    assert found is not None
    assert found.first.tolist() == [2, -1, 1, 0]
    parts = split.make(table, np.flatnonzero(known), "time:key", CONFIG, 0, None, found)
    assert (parts.train.tolist(), parts.validation.tolist(), parts.test.tolist()) == ([3], [2], [0])


def test_the_target_is_no_block() -> None:
    with pytest.raises(InputError, match="'key' is the target"):
        blocks.read(pa.table({"key": [1]}), "time:key", "key", np.array([True]), DataConfig())


def test_rows_without_a_target_are_in_no_part() -> None:
    rows = np.array([1, 3, 4, 8])
    parts = split.make(pa.table({"a": range(9)}), rows, "random", CONFIG, 0, None)
    assert sorted(np.concatenate([parts.train, parts.validation, parts.test]).tolist()) == rows.tolist()
    given = pa.table({"part": ["x", "train", "x", "train", "test"]})
    kept = split.make(given, np.array([1, 3, 4]), "column:part", CONFIG, 0, None)
    assert kept.test.tolist() == [4]


GIVEN = pa.table({"split": ["Train", "test"], "a": [1, 2]})


def test_choose() -> None:
    assert split.choose(GIVEN, CONFIG, True).name == "column:split"
    assert "validation rows are cut" in (split.choose(GIVEN, CONFIG, True).note or "")
    assert split.choose(GIVEN, SplitConfig(by="random"), True) == SplitRule("random")
    plain = pa.table({"split": ["train", "other"], "b": ["x", "y"]})
    assert split.choose(plain, CONFIG, True) == SplitRule("stratified")
    assert split.choose(plain, CONFIG, False) == SplitRule("random")


def test_a_split_column_is_no_feature() -> None:
    assert list(split.apart(GIVEN, CONFIG)) == ["split"]
    assert list(split.apart(GIVEN, SplitConfig(by="random"))) == ["split"]
    assert list(split.apart(GIVEN, SplitConfig(by="column:a"))) == ["a", "split"]
    grouped = {"a": "says which rows belong together in the split", "split": "says which rows train, validate and test"}
    assert split.apart(GIVEN, SplitConfig(by="group:a")) == grouped
    assert split.apart(GIVEN, SplitConfig(by="time:a"))["a"] == "says in which order rows are split"
    assert not split.apart(pa.table({"split": [1, 2]}), CONFIG)


@pytest.mark.parametrize(
    ("by", "message"),
    [
        ("column:splt", "no column 'splt' \\(did you mean 'split'\\?\\)"),
        ("group:splt", "no column 'splt' \\(did you mean 'split'\\?\\)"),
        ("time:when", "no column 'when'"),
        ("stratified", "split.by=random"),
    ],
)
def test_no_choice(by: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        split.choose(GIVEN, SplitConfig(by=by), False)


def test_round_trip(tmp_path: Path) -> None:
    parts = chance(50)
    parts.save(tmp_path / "split.npz")
    again = split.load(tmp_path / "split.npz")
    for part in split.PARTS:
        np.testing.assert_array_equal(getattr(parts, part), getattr(again, part))


def test_no_split_file(tmp_path: Path) -> None:
    (tmp_path / "split.npz").write_bytes(b"no arrays")
    with pytest.raises(InputError, match="no readable split"):
        split.load(tmp_path / "split.npz")
