"""Rows of every kind are kept as they are, within a budget."""

from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from msgspec.structs import replace as change

from dle_bundle.errors import InputError
from dle_bundle.groups import MISSING_TIME, Groups
from dle_bundle.images.pixels import ImageFiles
from dle_bundle.schema import Field, ImageShape, Outputs, Schema, SequenceShape
from dle_training.data.dataset import Dataset
from dle_training.data.splits.split import Split
from dle_training.runs import kept_rows

N = 2_500
"""More than are written at once."""
SHAPE = ImageShape(channels=3, height=4, width=5)
INPUTS = (
    Field(name="photo", kind="image", required=True, image=SHAPE),
    Field(name="price", kind="numeric", required=False),
    Field(name="town", kind="categorical", required=False),
    Field(name="pulse", kind="sequence", required=True, sequence=SequenceShape(channels=("a", "b"), max_steps=99)),
    Field(name="member", kind="boolean", required=False),
    Field(name="born", kind="datetime", required=False),
    Field(name="note", kind="text", required=False),
    Field(name="scan", kind="image", required=True, image=SHAPE),
    Field(name="heat", kind="sequence", required=True, sequence=SequenceShape(channels=("c",), max_steps=99)),
    Field(name="title", kind="text", required=False),
    Field(
        name="known",
        kind="sequence",
        required=True,
        sequence=SequenceShape(channels=("d", "e"), max_steps=3, ahead=3),
    ),
)
TARGETS: dict[str, tuple[Outputs, npt.NDArray[Any]]] = {
    "text": (Outputs(target="y", task="binary", classes=("", "yes")), np.array(["", "yes"] * (N // 2), dtype=object)),
    "whole": (Outputs(target="y", task="multiclass", classes=(1, 2)), np.array([1, 2] * (N // 2), dtype=object)),
    "truth": (
        Outputs(target="y", task="binary", classes=(False, True)), np.array([False, True] * (N // 2), dtype=object)
    ),
    "value": (Outputs(target="y", task="regression"), np.random.default_rng(1).normal(size=N)),
    "gaps": (
        Outputs(target="y", task="regression", horizon=2),
        np.where(np.arange(2 * N).reshape(N, 2) % 5, np.random.default_rng(1).normal(size=(N, 2)), np.nan),
    ),
    "horizon": (Outputs(target="y", task="regression", horizon=3), np.random.default_rng(1).normal(size=(N, 3))),
}  # fmt: skip


def groups() -> Groups:
    """Rows of every kind, with every kind of missing value and numbers of all sizes."""
    draw = np.random.default_rng(0)
    numeric = 10.0 ** draw.integers(-320, 308, (N, 2)) * draw.normal(size=(N, 2))
    numeric[::3, 0], numeric[1, 0], numeric[2, 0] = np.nan, -0.0, np.finfo(np.float64).max
    lengths = draw.integers(1, 12, N)
    sequence = draw.normal(size=(N, 11, 3))
    sequence[draw.random(sequence.shape) < 0.2] = np.nan
    sequence[np.arange(11) >= lengths[:, None]] = np.nan
    texts = np.array(["", "it fits", 'wool,\n"quoted"', "grün 日本 🙂", "\x00\u2028"], dtype=object)
    times = np.array([MISSING_TIME, 0, -62_135_596_800, 253_402_300_799], dtype=np.int64)
    return Groups(
        numeric=numeric,
        categorical=texts[draw.integers(0, 5, (N, 1))],
        datetime=times[draw.integers(0, 4, (N, 1))],
        image=draw.integers(0, 256, (N, 6, 4, 5), dtype=np.uint8),
        sequence=sequence,
        lengths=lengths,
        text=texts[draw.integers(0, 5, (N, 2))],
        known=np.where(draw.random((N, 3, 2)) < 0.2, np.nan, draw.normal(size=(N, 3, 2))),
    )


def same(one: Groups, other: Groups) -> None:
    """Raises unless both hold the same bits."""
    for field in fields(one):
        left, right = getattr(one, field.name), getattr(other, field.name)
        if left is None or right is None:
            assert left is right
            continue
        assert left.dtype == right.dtype
        if left.dtype == object:
            assert left.tolist() == right.tolist()
        else:
            assert left.shape == right.shape
            assert left.tobytes() == right.tobytes()


@pytest.mark.parametrize("target", TARGETS)
def test_every_kind_of_row_and_target_comes_back(tmp_path: Path, target: str) -> None:
    outputs, values = TARGETS[target]
    schema, rows = Schema(inputs=INPUTS, outputs=outputs), groups()
    chosen = np.random.default_rng(2).permutation(N)[: N - 7]
    kept_rows.write(tmp_path / "rows.parquet", rows, values, chosen, schema)
    found, known = kept_rows.read(tmp_path / "rows.parquet", schema)
    same(found, rows.take(chosen))
    assert known.dtype == values.dtype
    assert [type(label) for label in known[:2]] == [type(label) for label in values[chosen][:2]]
    np.testing.assert_array_equal(known, values[chosen])
    assert [path.name for path in tmp_path.iterdir()] == ["rows.parquet"]


@pytest.mark.parametrize("kind", ["numeric", "categorical", "datetime", "image", "sequence", "text"])
def test_rows_of_one_kind_alone(tmp_path: Path, kind: str) -> None:
    schema = Schema(inputs=tuple(field for field in INPUTS if field.kind == kind), outputs=TARGETS["value"][0])
    whole = groups()
    blank: dict[str, Any] = {
        "numeric": whole.numeric[:, :0], "categorical": whole.categorical[:, :0], "datetime": whole.datetime[:, :0],
        "image": None, "sequence": None, "lengths": None, "text": None, "known": None,
    }  # fmt: skip
    names = {"sequence", "lengths", "known"} if kind == "sequence" else {kind}
    own = {name: getattr(whole, name) for name in names}
    if kind == "numeric":
        own = {"numeric": whole.numeric[:, :1]}
    rows = Groups(**(blank | own))
    kept_rows.write(tmp_path / "rows.parquet", rows, TARGETS["value"][1], np.arange(9), schema)
    found = kept_rows.read(tmp_path / "rows.parquet", schema)[0]
    same(found, rows.take(np.arange(9)).trimmed())


@pytest.mark.parametrize("at_once", [1 << 22, 2 * 60])
def test_images_in_files_are_read(tmp_path: Path, at_once: int, monkeypatch: pytest.MonkeyPatch) -> None:
    from PIL import Image

    monkeypatch.setattr(kept_rows, "_PIXELS_AT_ONCE", at_once)
    pixels = np.random.default_rng(0).integers(0, 256, (4, 4, 5, 3), dtype=np.uint8)
    for row in range(4):
        Image.fromarray(pixels[row]).save(tmp_path / f"{row}.png")
    files = ImageFiles([str(tmp_path / f"{row}.png") for row in range(4)], SHAPE)
    schema = Schema(inputs=INPUTS[:1], outputs=TARGETS["value"][0])
    rows = replace(groups().take(slice(4)), image=files)
    kept_rows.write(tmp_path / "rows.parquet", rows, np.arange(4.0), np.array([3, 1, 0]), schema)
    found, _ = kept_rows.read(tmp_path / "rows.parquet", schema)
    np.testing.assert_array_equal(found.image, pixels[[3, 1, 0]].transpose(0, 3, 1, 2))


def test_a_file_that_is_gone_or_of_another_schema_is_refused(tmp_path: Path) -> None:
    outputs, values = TARGETS["value"]
    schema = Schema(inputs=INPUTS[1:3], outputs=outputs)
    path = tmp_path / "rows.parquet"
    with pytest.raises(InputError, match=r"rows.parquet: no readable rows of this run"):
        kept_rows.read(path, schema)
    kept_rows.write(path, groups(), values, np.arange(5), schema)
    renamed = change(schema, inputs=(change(INPUTS[1], name="cost"), INPUTS[2]))
    with pytest.raises(InputError, match=r"no readable rows of this run: .*cost"):
        kept_rows.read(path, renamed)
    path.write_bytes(path.read_bytes()[:-9])
    with pytest.raises(InputError, match="no readable rows"):
        kept_rows.read(path, schema)


def dataset(rows: Groups) -> Dataset:
    outputs, values = TARGETS["value"]
    split = Split(train=np.arange(100), validation=np.arange(100, 120), test=np.arange(120, 150))
    return Dataset("nowhere", "", Schema(inputs=INPUTS, outputs=outputs), rows, values, split, "random", {}, ())


def plain() -> Groups:
    """Rows of a table alone."""
    whole = groups()
    return Groups(whole.numeric, whole.categorical, whole.datetime)


@pytest.mark.parametrize(
    ("budget", "kept"),
    [(0, (0, 0)), (19, (0, 0)), (20, (0, 20)), (30, (30, 0)), (49, (30, 0)), (50, (30, 20)), (1_000, (30, 20))],
)
def test_parts_are_kept_whole_or_not_at_all_the_test_part_first(budget: int, kept: tuple[int, int]) -> None:
    assert kept_rows.count(dataset(plain()), budget) == {"test": kept[0], "validation": kept[1]}


def test_large_rows_count_as_many(tmp_path: Path) -> None:
    big = replace(plain(), image=np.zeros((N, 3, 20, 33), dtype=np.uint8))  # 1,980 pixels and 4 columns
    assert kept_rows.count(dataset(big), 59) == {"test": 0, "validation": 40 // 2}
    assert kept_rows.count(dataset(big), 60) == {"test": 30, "validation": 0}
    known = replace(plain(), known=np.zeros((N, 20, 99)))  # 1,980 values and 4 columns
    assert kept_rows.count(dataset(known), 59) == {"test": 0, "validation": 40 // 2}
    texts = replace(plain(), text=np.full((N, 1), "x" * 2_996, dtype=object))
    assert kept_rows.count(dataset(texts), 90) == {"test": 30, "validation": 0}
    lengths = np.full(N, 1)
    lengths[:120] = 1_000
    series = replace(plain(), sequence=np.zeros((N, 1_000, 1)), lengths=lengths)
    assert kept_rows.count(dataset(series), 49) == {"test": 30, "validation": 0}  # short ones count for their steps
    assert kept_rows.count(dataset(series), 51) == {"test": 30, "validation": 20}
