"""Sources: files, bundled tables and arrays with a test part become tables with their facts."""

import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dle_bundle.errors import InputError, RowFaults
from dle_training.config import run_config
from dle_training.data import dataset, sources
from dle_training.data.dataset import Dataset
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
    ("source", "name"),
    [
        ("data/a.b.csv.gz", "a.b"),
        ("x.parquet", "x"),
        ("sklearn:wine", "wine"),
        ("x.npz", "x"),
        ("x.zip", "x"),
        ("x.csv.ZIP", "x"),
        ("-", "stdin"),
        (("data/a.csv", "b.csv"), "a"),
        ("of/may/*.csv", "may"),
        (("of/*/part?.csv", "b.csv"), "of"),
    ],
)
def test_default_name(source: sources.Place, name: str) -> None:
    assert sources.default_name(source) == name


def test_a_pattern_in_the_current_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert sources.default_name("*.csv") == tmp_path.name


@pytest.mark.parametrize(
    ("place", "said", "typed"),
    [
        ("a.csv", "a.csv", "--data a.csv"),
        (("a b.csv", "c.csv"), "2 files, a b.csv to c.csv", "--data 'a b.csv' --data c.csv"),
        ("-", "standard input", "--data - < FILE"),
    ],
)
def test_words_for_a_source(place: sources.Place, said: str, typed: str) -> None:
    assert (sources.said(place), sources.typed(place, "--data")) == (said, typed)


def write_halves(folder: Path, *, late: str = "3") -> tuple[str, str]:
    """Two files of 60 rows in all; `late` is a value of `n` in row 5 of the second."""
    lines = [f"{row % 9},town {row % 4},{'ab'[row % 2]}" for row in range(60)]
    lines[34] = f"{late},town 1,a"
    for name, part in (("a.csv", lines[:30]), ("b.csv", lines[30:])):
        (folder / name).write_text("\n".join(["n,town,y", *part]) + "\n")
    return str(folder / "a.csv"), str(folder / "b.csv")


def load(*assignments: str, source: sources.Place) -> Dataset:
    return dataset.load(run_config.load(None, ["data.target=y", *assignments], {"data.source": source}))


def test_several_files_are_one_source(tmp_path: Path) -> None:
    files = write_halves(tmp_path)
    made = prepare.prepare(run_config.load(None, ["data.target=y"], {"data.source": str(tmp_path / "[ab].csv")}))
    assert made.config.data.source == made.dataset.source == files
    assert len(made.dataset.target) == 60
    again = run_config.load(None, [], {"data.source": list(files), "data.target": "y"})
    assert prepare.prepare(again).dataset.digest == made.dataset.digest
    (tmp_path / "b.csv").write_text((tmp_path / "b.csv").read_text().replace("town 1", "town 5", 1))
    assert load(source=files).digest != made.dataset.digest


def test_a_column_is_understood_by_all_files(tmp_path: Path) -> None:
    files = write_halves(tmp_path, late="many")
    assert load(source=files[0]).schema.inputs[0].kind == "numeric"
    with pytest.raises(InputError, match=r"'n': .* in 1 of 60 rows: row 5 of \S*b\.csv 'many'"):
        load(source=files)
    kinds = {field.name: field.kind for field in load("data.kinds.n=categorical", source=files).schema.inputs}
    assert kinds == {"n": "categorical", "town": "categorical"}


def test_values_that_look_like_rows_are_shown_as_they_are(tmp_path: Path) -> None:
    files = write_halves(tmp_path, late="row 7")
    with pytest.raises(InputError, match=r"row 5 of \S*b\.csv 'row 7'; .*row 7[^ ].*") as caught:
        load(source=files)
    assert "row 7 of" not in str(caught.value)


def test_a_last_row_with_totals_in_any_file(tmp_path: Path) -> None:
    files = write_halves(tmp_path)
    with Path(files[0]).open("a") as file:
        file.write("Total,,\n")
    notes = sources.read(files).notes
    assert [note.startswith(f"{files[0]}: the last row has 'Total' in n") for note in notes] == [True]


def test_faults_by_a_schema_name_the_file(tmp_path: Path) -> None:
    config = run_config.load(None, ["data.target=y"], {"data.source": write_halves(tmp_path)})
    schema = dataset.load(config).schema
    other = sources.read(write_halves(tmp_path, late="many"))
    with pytest.raises(RowFaults) as caught:
        dataset.read_labelled(other, schema, config)
    (fault,) = caught.value.faults
    assert (Path(fault.file or "").name, fault.row, fault.field) == ("b.csv", 5, "n")


def test_series_of_several_files(tmp_path: Path) -> None:
    for name, first in (("a", 0), ("b", 30)):
        lines = [f"{step},{step % 7},{step % 5}" for step in range(first, first + 30)]
        (tmp_path / f"{name}.csv").write_text("\n".join(["t,x,y", *lines]) + "\n")
    forecast = ("data.time=t", "data.window=4")
    assert len(load(*forecast, source=str(tmp_path / "*.csv")).target) > 40
    (tmp_path / "b.csv").write_text((tmp_path / "b.csv").read_text() + "30,1,1\nsoon,1,1\n")
    with pytest.raises(InputError) as caught:
        load(*forecast, source=str(tmp_path / "*.csv"))
    assert f"row 32 of {tmp_path / 'b.csv'}" in str(caught.value)


def test_standard_input_is_sent_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_halves(tmp_path)
    content = (tmp_path / "a.csv").read_bytes()
    config = run_config.load(None, ["data.target=y", "training.epochs=1"], {"data.source": "-"})
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(content)))
    made = prepare.prepare(config)
    assert made.config.data.source == "-"
    assert made.dataset.digest == sources.read(str(tmp_path / "a.csv")).digest
    run = prepare.create(tmp_path / "run", made)
    with pytest.raises(InputError, match=r"must be sent again: dle-train --resume --out \S+ < FILE"):
        prepare.reopen(run)
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(content)))
    assert prepare.reopen(run).dataset.digest == made.dataset.digest
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(content.replace(b"town 1", b"town 2"))))
    with pytest.raises(InputError, match="standard input has changed since"):
        prepare.reopen(run)


@pytest.mark.parametrize("source", ["absent.csv", "absent.npz", "absent"])
def test_no_such_file(source: str) -> None:
    with pytest.raises(InputError, match=r"absent.*no such file"):
        sources.read(source)


@pytest.mark.parametrize("source", ["a.png", ("a.png", "b.JPG"), "*.[pJ]*"])
def test_image_files_without_labels(source: sources.Place, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("a.png", "b.JPG"):
        Path(name).write_bytes(b"")
    sources.default_name(source)
    with pytest.raises(InputError, match="image files without a label; give a folder that has a folder of images for"):
        sources.read(source)


def test_a_sheet_of_what_is_no_workbook(tmp_path: Path) -> None:
    (tmp_path / "rows.csv").write_text("x\n1\n")
    for source in (str(tmp_path / "rows.csv"), "sklearn:iris"):
        with pytest.raises(InputError, match=r"--sheet May: .*no workbook"):
            sources.read(source, sheet="May")


@pytest.mark.parametrize(("name", "expected"), [("a.txt", ";"), ("a.csv", None)])
def test_a_detected_delimiter_is_kept(tmp_path: Path, name: str, expected: str | None) -> None:
    mark = expected or ","
    lines = [f"age{mark}town{mark}y"] + [f"{row % 9}{mark}town {row % 4}{mark}{'ab'[row % 2]}" for row in range(60)]
    (tmp_path / name).write_text("\n".join(lines) + "\n")
    made = prepare.prepare(run_config.load(None, [f"data.source={tmp_path / name}"]))
    assert made.config.data.delimiter == made.dataset.schema.text_format.delimiter == expected
    assert prepare.prepare(made.config).config == made.config
