"""Sources: files, bundled tables and arrays with a test part become tables with their facts."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dle_bundle.errors import InputError
from dle_training.config import run_config
from dle_training.data import sources
from dle_training.runs import prepare


def save(folder: Path, **arrays: Any) -> str:
    np.savez(folder / "arrays.npz", **arrays)
    return str(folder / "arrays.npz")


def test_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a.csv").write_text("x,y\n1,2\n")
    monkeypatch.chdir(tmp_path)
    source = sources.read("a.csv")
    assert source.table.to_pylist() == [{"x": "1", "y": "2"}]
    assert source.target is None
    assert sources.read(source.place).digest == source.digest
    (tmp_path / "a.csv").write_text("x,y\n1,3\n")
    assert sources.read("a.csv").digest != source.digest


@pytest.mark.parametrize("name", sources.SKLEARN_TABLES)
def test_bundled_tables(name: str) -> None:
    source = sources.read(f"sklearn:{name}")
    assert source.place == f"sklearn:{name}"
    assert source.target == source.table.column_names[-1] == "target"
    assert len(source.table) > 100
    assert source.digest == sources.read(f"sklearn:{name}").digest


def test_bundled_classes_have_their_names() -> None:
    assert set(sources.read("sklearn:iris").table.column("target").to_pylist()) == {"setosa", "versicolor", "virginica"}


def test_unknown_bundled_table() -> None:
    with pytest.raises(InputError, match=r"did you mean 'iris'.*there are sklearn:breast_cancer"):
        sources.read("sklearn:irs")


def test_arrays_with_a_test_part(tmp_path: Path) -> None:
    place = save(
        tmp_path,
        X_train=np.arange(4.0).reshape(2, 2),
        y_train=np.array([0, 1]),
        X_test=np.ones((1, 2)),
        y_test=np.array([1]),
        classes=np.array(["cat", "dog"]),
    )
    source = sources.read(place)
    assert source.target == "y"
    assert source.table.to_pydict() == {
        "x0": [0.0, 2.0, 1.0],
        "x1": [1.0, 3.0, 1.0],
        "y": ["cat", "dog", "dog"],
        "split": ["train", "train", "test"],
    }


def test_arrays_without_parts(tmp_path: Path) -> None:
    source = sources.read(save(tmp_path, X=np.ones((2, 1)), y=np.array([1.5, 2.5])))
    assert source.table.to_pydict() == {"x0": [1.0, 1.0], "y": [1.5, 2.5]}
    assert source.target == "y"


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"X": np.ones((2, 1)), "y": np.ones(3)}, "arrays of equal length"),
        ({"X": np.ones((2, 1, 1, 1)), "y": np.ones(2)}, "one or two dimensions, three for series"),
        ({"X_train": np.ones((2, 1)), "y_train": np.ones(2), "X_test": np.ones((2, 1))}, "expected the arrays"),
        (
            {"X_train": np.ones((2, 1)), "y_train": np.ones(2), "X_test": np.ones((2, 2)), "y_test": np.ones(2)},
            "the same width in all parts",
        ),
        ({"X": np.ones((2, 1)), "y": np.array([0, 2]), "classes": np.array(["a", "b"])}, "positions in `classes`"),
        ({"X_train": np.array(1.0), "y_train": np.array(1.0)}, "one row per example"),
        ({"X_train": np.ones((2, 1)), "y_train": np.array(1.0)}, "one row per example"),
        (
            {"X_train": np.ones((2, 1)), "y_train": np.ones(2), "X_test": np.ones((2, 1)), "y_test": np.ones((2, 1))},
            "cannot join the parts",
        ),
        ({"X": np.ones((2, 1)), "y": np.array([0, 1]), "classes": np.array("a")}, "classes: expected one dimension"),
        ({"X": np.ones((2, 1)) * 1j, "y": np.ones(2)}, "X: expected numbers.*complex128"),
        ({"X": np.ones((0, 1)), "y": np.ones(0)}, "no rows"),
    ],
)
def test_arrays_that_do_not_belong_together(tmp_path: Path, arrays: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        sources.read(save(tmp_path, **arrays))


@pytest.mark.parametrize(
    ("source", "name"), [("data/a.b.csv.gz", "a.b"), ("x.parquet", "x"), ("sklearn:wine", "wine"), ("x.npz", "x")]
)
def test_default_name(source: str, name: str) -> None:
    assert sources.default_name(source) == name


@pytest.mark.parametrize("source", ["absent.csv", "absent.npz", "absent"])
def test_no_such_file(source: str) -> None:
    with pytest.raises(InputError, match=r"absent.*no such file"):
        sources.read(source)


@pytest.mark.parametrize(("name", "expected"), [("a.txt", ";"), ("a.csv", None)])
def test_a_detected_delimiter_is_kept(tmp_path: Path, name: str, expected: str | None) -> None:
    mark = expected or ","
    lines = [f"age{mark}town{mark}y"] + [f"{row % 9}{mark}town {row % 4}{mark}{'ab'[row % 2]}" for row in range(60)]
    (tmp_path / name).write_text("\n".join(lines) + "\n")
    made = prepare.prepare(run_config.load(None, [f"data.source={tmp_path / name}"]))
    assert made.config.data.delimiter == made.dataset.schema.text_format.delimiter == expected
    assert prepare.prepare(made.config).config == made.config
