"""Splits: by chance, by class, by a column, and when there are too few rows."""

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from dle_bundle.errors import InputError
from dle_training.config import SplitConfig
from dle_training.data import split
from dle_training.data.split import Choice, Split, Strata

CONFIG = SplitConfig()


def strata(*sizes: int) -> Strata:
    return Strata(np.repeat(np.arange(len(sizes)), sizes), tuple(f"c{index}" for index in range(len(sizes))))


def by_column(values: list[Any], classes: Strata | None = None, seed: int = 0) -> Split:
    table = pa.table({"part": values})
    return split.make(table, np.arange(len(values)), "column:part", CONFIG, seed, classes)


def chance(count: int, by: str = "random", classes: Strata | None = None, seed: int = 0) -> Split:
    return split.make(pa.table({"a": range(count)}), np.arange(count), by, CONFIG, seed, classes)


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
    assert caught.value.details == ("'c1': 2 row(s)", "'c2': 1 row(s)", "'c3': 2 row(s)")


def test_too_few_rows() -> None:
    with pytest.raises(InputError, match="2 row\\(s\\) with a target are too few"):
        chance(2)


def test_a_random_split_that_misses_a_class() -> None:
    classes = strata(99, 1)
    seed = next(seed for seed in range(100) if 99 not in chance(100, seed=seed).train)
    with pytest.raises(InputError, match="without a row in the training part") as caught:
        chance(100, "random", classes, seed)
    assert caught.value.details == ("'c1': 1 row(s)",)


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
        (["train", "test", "dev", "dev", None], "2 other value", ("dev: 2 rows", "(missing): 1 rows")),
        (["train", "train"], "no test row", ()),
        (["test", "validation"], "no train row", ()),
        (["train", "test"], r"1 training row\(s\) are too few", ()),
    ],
)
def test_columns_that_do_not_split(values: list[Any], message: str, details: tuple[str, ...]) -> None:
    with pytest.raises(InputError, match=message) as caught:
        by_column(values)
    assert caught.value.details == details


def test_a_class_that_is_only_tested() -> None:
    with pytest.raises(InputError, match="without a row in the training part"):
        by_column(["train", "train", "test"], Strata(np.array([0, 0, 1]), ("a", "b")))


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
    assert split.choose(GIVEN, SplitConfig(by="random"), True) == Choice("random")
    plain = pa.table({"split": ["train", "other"], "b": ["x", "y"]})
    assert split.choose(plain, CONFIG, True) == Choice("stratified")
    assert split.choose(plain, CONFIG, False) == Choice("random")


def test_a_split_column_is_no_feature() -> None:
    assert list(split.apart(GIVEN, CONFIG)) == ["split"]
    assert list(split.apart(GIVEN, SplitConfig(by="random"))) == ["split"]
    assert list(split.apart(GIVEN, SplitConfig(by="column:a"))) == ["a", "split"]
    assert not split.apart(pa.table({"split": [1, 2]}), CONFIG)


@pytest.mark.parametrize(
    ("by", "message"),
    [("column:splt", "no column 'splt' \\(did you mean 'split'\\?\\)"), ("stratified", "split.by=random")],
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
