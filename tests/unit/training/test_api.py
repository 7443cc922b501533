"""Python trains on a table in memory as dle-train does on a file, and its run does what the commands do."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from tests import people

import dle_serving
import dle_training
from dle_bundle.errors import DleError, InputError, RowFaults
from dle_training.config import run_config
from dle_training.data import memory
from dle_training.fitting.listeners import EpochRecord, TrainingPlan
from dle_training.fitting.progress import ProgressLines
from dle_training.runs.folder import RunFolder, read_facts
from dle_training.scoring.metrics import METRICS

SETTINGS: dict[str, Any] = {
    "preset": "fast", "training": {"epochs": np.int64(2)}, "model.hidden": (8,), "device": "cpu", "seed": 3,
    "baseline": False,
}  # fmt: skip


@pytest.fixture(scope="module")
def frame(tmp_path_factory: pytest.TempPathFactory) -> pd.DataFrame:
    path = people.write_people(tmp_path_factory.mktemp("people") / "people.csv", 200)
    return pd.read_csv(path, dtype=str, keep_default_na=False)


@pytest.fixture(scope="module")
def run(frame: pd.DataFrame, tmp_path_factory: pytest.TempPathFactory) -> dle_training.Run:
    return dle_training.train(frame, "buys", out=tmp_path_factory.mktemp("runs") / "buys", progress=False, **SETTINGS)


def test_a_sheet_of_a_workbook_is_scored(frame: pd.DataFrame, run: dle_training.Run, tmp_path: Path) -> None:
    with pd.ExcelWriter(tmp_path / "book.xlsx") as book:
        frame[:7].to_excel(book, sheet_name="few", index=False)
        frame[:9].to_excel(book, sheet_name="more", index=False)
    for sheet, rows in ((None, 7), ("more", 9)):
        with pytest.warns(UserWarning, match="were trained on"):
            assert run.evaluate(tmp_path / "book.xlsx", sheet=sheet).rows == rows
    with pytest.raises(InputError, match="no sheet is called 'most'"):
        run.evaluate(tmp_path / "book.xlsx", sheet="most")
    for source in (None, frame):
        with pytest.raises(InputError, match="sheet='more' needs a source"):
            run.evaluate(source, sheet="more")


def test_a_table_in_memory_trains_the_model_of_the_same_file(
    frame: pd.DataFrame, run: dle_training.Run, tmp_path: Path
) -> None:
    frame.to_csv(tmp_path / "people.csv", index=False)
    other = dle_training.train(tmp_path / "people.csv", "buys", out=tmp_path / "run", progress=False, **SETTINGS)
    assert run.config.data.source == "memory:DataFrame"
    assert (run.config.training.epochs, run.config.model.hidden, run.config.seed) == (2, (8,), 3)
    assert other.schema == run.schema
    assert other.notes == run.notes
    assert other.dropped == run.dropped
    assert other.validation == run.validation
    assert other.evaluate().test == run.evaluate().test
    assert other.predict(frame).equals(run.predict(frame))


def test_the_bundle_answers_as_the_run_does(frame: pd.DataFrame, run: dle_training.Run, tmp_path: Path) -> None:
    model = dle_serving.load(run.export(tmp_path / "buys", version=2))
    assert (model.manifest.name, model.manifest.version, model.schema) == ("buys", 2, run.schema)
    rows = frame.drop(columns="buys")
    theirs, mine = model.predict(rows), run.predict(rows)
    assert mine.schema == theirs.schema
    assert mine.column("label").equals(theirs.column("label"))
    np.testing.assert_allclose(mine.column("probability"), theirs.column("probability"), atol=1e-5)
    with pytest.raises(RowFaults):
        run.predict([{"age": "old"}])


def test_a_run_evaluates_itself_and_shows_its_report(frame: pd.DataFrame, run: dle_training.Run) -> None:
    page = run.report
    assert Path(page) == run.path / "report.html"
    assert page._repr_html_().startswith('<iframe srcdoc="&lt;!doctype html&gt;')
    assert run.evaluate().rows == read_facts(RunFolder(run.path)).rows["test"]
    with pytest.warns(UserWarning, match=r"rows were trained on .* evaluate\(\) without a table scores only the test"):
        assert run.evaluate(frame).rows == len(frame)
    assert repr(run) == f"<run {run.path}: buys, binary>"


def test_a_value_is_predicted_as_a_value(tmp_path: Path) -> None:
    rows = [{"x": 0.3 * x * x, "y": 2.0 * x + 0.5} for x in range(60)]
    run = dle_training.train(rows, "y", out=tmp_path / "run", progress=False, **SETTINGS)
    assert run.config.data.source == "memory:list"
    assert run.predict([{"x": 3.0}, {"x": 4}]).column_names == ["value"]
    assert dle_training.Run(run.path).predict(pa.table({"x": [3.0]})).num_rows == 1


def test_without_test_rows_the_same_table_gives_the_test_part(frame: pd.DataFrame, tmp_path: Path) -> None:
    run = dle_training.train(
        frame, "buys", out=tmp_path / "run", progress=False, **{**SETTINGS, "data": {"keep_rows": 0}}
    )
    with pytest.raises(InputError, match=r"dle_training\.Run\('.*run'\)\.evaluate\(table\)"):
        run.evaluate()
    assert run.evaluate(frame).rows == read_facts(RunFolder(run.path)).rows["test"]
    with pytest.warns(UserWarning, match="of 50 rows were trained on"):
        assert run.evaluate(frame[:50]).rows == 50


def test_an_interrupted_run_continues_with_its_table_alone(
    frame: pd.DataFrame, run: dle_training.Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr("dle_training.runs.train.fit", interrupt)
        dle_training.train(frame, "buys", out=tmp_path / "run", progress=False, **SETTINGS)
    with pytest.raises(InputError, match=r"run: training has not finished"):
        dle_training.Run(tmp_path / "run")
    with pytest.raises(InputError, match="leave out target, seed"):
        dle_training.train(frame, "buys", out=tmp_path / "run", resume=True, seed=1)
    with pytest.raises(InputError, match="memory:DataFrame has changed since"):
        dle_training.train(frame[:-1], out=tmp_path / "run", resume=True, progress=False)
    with pytest.raises(InputError, match="cannot be read again: continue there with the same table"):
        dle_training.train("memory:DataFrame", out=tmp_path / "run", resume=True, progress=False)
    for _ in range(2):  # the second time it is finished
        resumed = dle_training.train(frame, out=tmp_path / "run", resume=True, progress=False)
        assert resumed.validation == run.validation


def test_faults_of_settings_are_those_of_the_commands(frame: pd.DataFrame, tmp_path: Path) -> None:
    with pytest.raises(InputError) as caught:
        dle_training.train(frame, "buys", out=tmp_path / "run", training={"epoch": 3}, model={"hidden": 8}, sed=1)
    assert caught.value.details == (
        "training.epoch: unknown key (did you mean 'epochs'?)",
        "model.hidden: expected a list, such as [8], found 8",
        "sed: unknown key (did you mean 'seed'?)",
    )
    assert not (tmp_path / "run").exists()


def test_a_setting_without_its_section_is_proposed_with_it(frame: pd.DataFrame, tmp_path: Path) -> None:
    with pytest.raises(InputError) as caught:
        dle_training.train(frame, "buys", out=tmp_path / "run", epochs=3, name="mlp", split="random", folds=3)
    expected = "expected a mapping of by, validation, test, folds"
    names = " or ".join(f"{section}={{'name': 'mlp'}}" for section in ("model", "optimizer", "schedule"))
    assert caught.value.details == (
        "epochs: unknown key (did you mean training={'epochs': 3}?)",
        f"name: unknown key (did you mean {names}?)",
        f"split: {expected}, found 'random' (did you mean split={{'by': 'random'}}?)",
        "folds: unknown key (did you mean split={'folds': 3} or model={'pack': {'folds': 3}}?)",
    )


SERIES, ARRAY = pd.Series([1, 2], name="x"), np.zeros((3, 2))


@pytest.mark.parametrize(
    ("rows", "found"),
    [
        (SERIES, "a pandas Series, which is one column; pass a table that has it"),
        (pd.Series([1, "a"]), "a pandas Series, which is one column; pass a table that has it"),
        (pa.chunked_array([[1, 2]]), "a pyarrow ChunkedArray, which is one column"),
        (ARRAY, "a numpy ndarray; name the columns, as in pandas.DataFrame(values, columns=[…])"),
        ([[1, 2]], "a list of lists; name the columns"),
        ([1, "a"], "a list of numbers and texts; name the columns"),
        ({"x": [1, 2]}, "a dict; pass [row] for one row, pandas.DataFrame(columns) or pyarrow.table(columns) for col"),
        ((row for row in [{"x": 1}]), "a generator; pass list(rows)"),
        (3, "3"),
        (None, "None"),
    ],
    ids=[
        "Series",
        "row of pandas",
        "column of Arrow",
        "array",
        "rows without names",
        "one row without names",
        "columns",
        "generator",
        "number",
        "nothing",
    ],
)
def test_rows_that_are_no_table(rows: Any, found: str, run: dle_training.Run) -> None:
    expected = re.escape(f"expected a DataFrame, an Arrow table or a list of dicts, found {found}")
    for read in (dle_training.train, run.predict):
        with pytest.raises(InputError, match=expected):
            read(rows)
    if rows is not None:
        with pytest.raises(InputError, match=expected):
            run.evaluate(rows)


def test_a_path_is_no_rows_to_predict(run: dle_training.Run) -> None:
    with pytest.raises(InputError, match=r"found the text 'rows.csv'; read the file first"):
        run.predict("rows.csv")  # type: ignore[arg-type]
    nothing: list[Any] = [[], [{}], pd.DataFrame()]
    for rows in nothing:
        with pytest.raises(InputError, match="expected at least one row and one column"):
            dle_training.train(rows)


class Polars:
    """A table that Arrow reads by its protocol alone."""

    def __init__(self, frame: pa.Table) -> None:
        self._frame = frame

    def __arrow_c_stream__(self, requested_schema: object | None = None) -> object:
        return self._frame.__arrow_c_stream__(requested_schema)


def test_tables_of_all_libraries_train_the_same_model(tmp_path: Path) -> None:
    table = pa.table({"x": np.arange(60.0) ** 0.5, "y": np.cos(np.arange(60.0))})
    tables = {"arrow": table, "pandas": table.to_pandas(), "dicts": table.to_pylist(), "polars": Polars(table)}
    tables["batch"] = table.to_batches()[0]
    found = [
        dle_training.train(rows, "y", out=tmp_path / name, progress=False, **SETTINGS) for name, rows in tables.items()
    ]
    assert len({str(run.validation) for run in found}) == 1


@pytest.mark.parametrize(
    ("target", "found"),
    [(SERIES, "a pandas Series"), (ARRAY[:, 0], "a numpy ndarray"), (["y"], "a list of texts"), (True, "True")],
    ids=["Series", "array", "list", "truth value"],
)
def test_a_target_that_is_no_name(target: Any, found: str, frame: pd.DataFrame) -> None:
    expected = f"target: expected the name of a column, found {found}: make the values a column of the table"
    with pytest.raises(InputError, match=expected):
        dle_training.train(frame, target)


def test_columns_of_an_array_have_numbers_for_names(tmp_path: Path) -> None:
    frame = pd.DataFrame(np.random.default_rng(0).normal(size=(60, 3)))
    run = dle_training.train(frame, 2, out=tmp_path / "run", progress=False, **SETTINGS)
    assert run.schema.outputs.target == "2"
    assert [field.name for field in run.schema.inputs] == ["0", "1"]


def test_messages_name_calls_and_arguments(
    run: dle_training.Run, frame: pd.DataFrame, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What a user of Python reads, never an option of a command."""
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    days = pd.DataFrame({"day": pd.date_range("2024-01-01", periods=60), "x": np.arange(60) % 7, "y": np.arange(60.0)})
    dated = dle_training.train(days, "y", out=tmp_path / "dated", progress=False, **SETTINGS)
    faults = [note for note in dated.notes if "latest rows" in note]
    assert faults[0].endswith("latest rows: split={'by': 'time:day'}")
    later = dle_training.train(days, "y", out=tmp_path / "by", progress=False, split={"by": "time:day"}, **SETTINGS)
    assert later.config.split.by == "time:day"
    attempts: list[Callable[[], Any]] = [
        lambda: dle_training.train(frame, "buys", out=run.path),
        lambda: dle_training.train(frame, out=tmp_path / "none"),
        lambda: dle_training.train(frame, "buys", out=tmp_path),
        lambda: dle_training.train(frame, "buys", out=tmp_path / "none", device="cuda"),
        lambda: dle_training.train("nothing.csv"),
        lambda: run.export(tmp_path),
        lambda: run.export(tmp_path / "no name"),
        lambda: dle_serving.load(run.path),
    ]
    for attempt in attempts:
        with pytest.raises(DleError) as caught:
            attempt()
        faults.append(str(caught.value))
    assert (
        f"its run is finished: dle_training.Run({str(run.path)!r}).evaluate(), or choose another folder with out=…"
        in faults[1]
    )
    assert "name it with target='COLUMN'" in faults[2]
    assert faults[3].endswith("exists already: choose another folder with out=…")
    assert faults[4].endswith("use device='cpu'")
    assert faults[-1].endswith(f"it is a run: dle_training.Run({str(run.path)!r}).export(BUNDLE) makes a bundle of it")
    for fault in faults:
        assert not re.search(r"(^|\s)--[a-z]|dle-[a-z]+ ", fault), fault


def test_names_and_weights_may_hold_dots_and_numbers(tmp_path: Path) -> None:
    rows = {"a.b": [str(row % 5) for row in range(100)], "y": [row % 2 for row in range(100)]}
    weights = {0: np.float32(2.0)}
    run = dle_training.train(
        pa.table(rows), "y", out=tmp_path / "run", progress=False, data={"kinds": {"a.b": "categorical"}},
        objective={"class_weights": weights}, **SETTINGS,
    )  # fmt: skip
    assert run.schema.inputs[0].kind == "categorical"
    assert run.config.objective.class_weights == {"0": 2.0}


def test_a_configuration_file_and_a_default_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    config = run_config.load(None, ["preset=fast", "training.epochs=2", "model.hidden=[8]", "device=cpu"])
    Path("run.yaml").write_text(run_config.dump(config))
    rows = pa.table({"x": np.arange(60.0) ** 0.5, "y": np.cos(np.arange(60.0))})
    run = dle_training.train(rows, "y", config="run.yaml", progress=False, seed=5)
    assert run.path == Path("runs/Table")
    assert (run.config.training.epochs, run.config.seed) == (2, 5)
    with pytest.raises(InputError, match="runs/Table exists already"):
        dle_training.train(rows, "y", progress=False)


def test_progress_says_what_was_understood(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = pa.table({"x": np.arange(60.0) ** 0.5, "y": np.cos(np.arange(60.0))})
    dle_training.train(rows, "y", out=tmp_path / "run", **SETTINGS)
    written = capsys.readouterr().out.splitlines()
    assert written[0] == "Target: y, regression"
    assert "Rows: 42 train, 9 validation, 9 test (split random)" in written
    assert written[-1].startswith("epoch 1/2: loss ")


def test_a_notebook_replaces_the_line(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr("dle_training.fitting.progress._replaces_lines", lambda: True)
    shown = ProgressLines("fold 1 of 3")
    shown.on_start(TrainingPlan(epochs=9, steps=2, rows=20, metric=METRICS["rmse"], history=()))
    losses = {"train_loss": 0.5, "validation_loss": 0.25, "metric": 1.5, "lr": 0.1, "seconds": 1.0}
    records = [EpochRecord(epoch=epoch, rows_per_second=950.0, **losses) for epoch in (1, 2)]
    for count in (1, 2):
        shown.on_epoch(records[:count], 1)
    shown.on_end()
    first, second, third = capsys.readouterr().out.split("\r")
    assert first == ""
    assert second.startswith(
        "fold 1 of 3: epoch 1/9: loss 0.500 · val 0.250 · rmse 1.500 · best 1, 950 rows/s, left ≤ "
    )
    assert third.endswith("\n")


def test_the_digest_is_that_of_the_values() -> None:
    def digest(**columns: Any) -> str:
        return memory.read(pa.table(columns)).digest

    plain = digest(a=[1, 2, None], b=["x", None, "yz"])
    cut = pa.chunked_array([pa.array([7, 1])[1:], [2, None]])
    assert digest(a=cut, b=pa.chunked_array([["x", None], ["yz"]])) == plain
    others = [
        digest(a=[1, None, 2], b=["x", None, "yz"]),
        digest(a=[1, 2, None], b=["xy", None, "z"]),
        digest(a=[1, 2, None], c=["x", None, "yz"]),
        digest(a=[1.0, 2, None], b=["x", None, "yz"]),
    ]
    nested = [[[1, 2], None], [[1], [2]], [[], [1, 2]], [[{"k": 1}], []], [[{"k": None}], []], [b"1", None]]
    others += [digest(a=value) for value in nested]
    others += [digest(a=[pd.Timestamp(year, 1, 1)]) for year in (2020, 2021)]
    assert len({plain, *others}) == 1 + len(others)
    assert digest(a=pa.array(["x", None]).dictionary_encode()) == digest(a=pa.array(["x", None]).dictionary_encode())
