"""Columns that alone tell the target, and whole numbers that look like codes."""

from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from dle_training.config import run_config
from dle_training.data import dataset
from dle_training.data.dataset import Dataset

RNG = np.random.default_rng(5)
ROWS = 1200
X = RNG.normal(size=ROWS)
LABELS = np.where(X + RNG.normal(scale=0.8, size=ROWS) > 0, "yes", "no")
VALUES = X + RNG.normal(scale=0.8, size=ROWS)


def _loaded(folder: Path, target: npt.NDArray[np.generic], *settings: str, **columns: object) -> Dataset:
    pq.write_table(pa.table({"x": X, **columns, "y": target}), folder / "table.parquet")
    config = run_config.load(None, list(settings), {"data.source": str(folder / "table.parquet"), "data.target": "y"})
    return dataset.load(config)


def test_a_category_that_follows_from_the_target_is_warned_of(tmp_path: Path) -> None:
    status = np.where(LABELS == "yes", "approved", "declined")
    (warning,) = _loaded(tmp_path, LABELS, status=status).warnings
    assert warning.startswith("status alone tells y: roc_auc 1 on training rows held back")
    assert warning.endswith("leave it out with 'data.drop=[status]'")
    assert not _loaded(tmp_path, LABELS, "data.drop=[status]", status=status).warnings


def test_a_value_that_is_missing_for_one_class_is_warned_of(tmp_path: Path) -> None:
    closed = np.where(LABELS == "no", np.nan, RNG.normal(size=ROWS))
    (warning,) = _loaded(tmp_path, LABELS, closed=closed).warnings
    assert warning.startswith("closed alone tells y: roc_auc 1 ")


def test_a_category_of_each_of_many_classes_is_warned_of(tmp_path: Path) -> None:
    classes = RNG.choice(["a", "b", "c", "d"], size=ROWS, p=[0.8, 0.1, 0.05, 0.05])
    (warning,) = _loaded(tmp_path, classes, code=[f"{label}{label}" for label in classes]).warnings
    assert warning.startswith("code alone tells y: balanced_accuracy 1 ")
    blurred = np.where(RNG.random(ROWS) < 0.2, "a", classes)
    assert not _loaded(tmp_path, classes, code=[f"{label}{label}" for label in blurred]).warnings


def test_a_copy_of_the_target_and_the_target_in_another_unit_are_warned_of(tmp_path: Path) -> None:
    grown = np.exp(2 * VALUES)
    copy, other = _loaded(tmp_path, grown, same=grown, cents=np.round(grown * 119)).warnings
    assert copy == "same is a copy of y; leave it out with 'data.drop=[same]'"
    assert other.startswith("cents alone tells y: r2 1 on training rows held back")


def test_a_copy_that_is_the_only_input_is_warned_of(tmp_path: Path) -> None:
    alone = "same, the only input, is a copy of y"
    counts, truths = RNG.integers(0, 4, ROWS), RNG.random(ROWS) < 0.5
    for target, copy in (
        (VALUES, VALUES),
        (LABELS, LABELS),
        (counts, counts),
        (counts, counts.astype(str)),
        (truths, truths),
    ):
        assert _loaded(tmp_path, target, "data.drop=[x]", same=copy).warnings == (alone,)
    assert not _loaded(tmp_path, counts, "data.drop=[x]", same=3 - counts).warnings
    assert not _loaded(tmp_path, LABELS, "data.drop=[x]", same=LABELS == "yes").warnings
    assert not _loaded(tmp_path, VALUES, "data.drop=[x]", same=2 * VALUES).warnings


def test_identifiers_and_good_inputs_are_not_warned_of(tmp_path: Path) -> None:
    codes = [f"c{number}" for number in RNG.permutation(ROWS) // 2]
    found = _loaded(tmp_path, LABELS, code=codes, near=VALUES)
    assert not found.warnings
    assert not _loaded(tmp_path, VALUES, code=codes, day=RNG.integers(0, 30, ROWS)).warnings


def test_numbers_that_look_like_codes_are_noted(tmp_path: Path) -> None:
    shop = RNG.integers(1, 61, ROWS)
    effect = RNG.normal(size=61)[shop]
    said = "shop: whole numbers whose order says little about y; if they are codes, set data.kinds.shop=categorical"
    assert said in _loaded(tmp_path, effect + 0.1 * VALUES, shop=shop).notes
    labels = np.where(effect + 0.1 * VALUES > 0, "yes", "no")
    assert said in _loaded(tmp_path, labels, shop=shop).notes
    for kind in ("categorical", "numeric"):
        assert said not in _loaded(tmp_path, labels, f"data.kinds.shop={kind}", shop=shop).notes


def test_whole_numbers_with_an_order_are_not_noted_as_codes(tmp_path: Path) -> None:
    age = RNG.integers(18, 90, ROWS)
    for effect in (age / 20, (age > 65) * 2.0, np.cos(age / 12), np.zeros(ROWS)):
        notes = _loaded(tmp_path, effect + 0.3 * VALUES, age=age).notes
        assert not [note for note in notes if note.startswith("age")]
