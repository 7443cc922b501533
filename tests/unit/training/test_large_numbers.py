"""Differences of large numbers are learnt, served and counted: epoch seconds, offsets, targets of 1e9 ± 5."""

import csv
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from tests.inprocess import InProcess

from dle_bundle import bundle as bundles
from dle_bundle.tables import table_files
from dle_serving.feedback.ids import load_signing_keys
from dle_serving.offline.predict import predict
from dle_serving.settings import ServerSettings
from dle_training.config import run_config
from dle_training.data import target
from dle_training.data.columns import kinds
from dle_training.data.columns.column_settings import ColumnSettings
from dle_training.data.dataset import load
from dle_training.export.bundle import export_run
from dle_training.runs import evaluate, prepare, train
from dle_training.runs.folder import RunFolder

ROWS = 700
DRAW = np.random.default_rng(0)


def trained(folder: Path, columns: dict[str, Any], *settings: str) -> RunFolder:
    """A run on a CSV file of these columns, of which `y` is the target."""
    rows = zip(*(np.asarray(values).tolist() for values in columns.values()), strict=True)
    with (folder / "rows.csv").open("w", newline="") as file:
        csv.writer(file).writerows([list(columns), *rows])
    common = ["device=cpu", f"data.source={folder / 'rows.csv'}", "data.target=y", "model.hidden=[32]", "preset=fast"]
    prepared = prepare.prepare(run_config.load(None, [*common, "training.epochs=60", *settings]))
    assert not prepared.dataset.dropped
    run = prepare.create(folder / "run", prepared)
    train.train(run, prepared)
    return run


def scores(run: RunFolder) -> dict[str, Any]:
    return dict(evaluate.scores_on_test(run, train.open_model(run)))


@pytest.mark.parametrize("unit", [1, 1000])
def test_epoch_seconds_and_milliseconds(tmp_path: Path, unit: int) -> None:
    seconds = 1_700_000_000 + DRAW.integers(0, 120, ROWS)
    label = np.where(seconds % 120 < 60, "first", "second")
    run = trained(tmp_path, {"at": seconds * unit, "v": DRAW.normal(size=ROWS).round(3), "y": label})
    assert scores(run)["accuracy"] >= 0.95


def test_a_feature_with_an_offset(tmp_path: Path) -> None:
    x = DRAW.uniform(0, 10, ROWS)
    run = trained(tmp_path, {"x": (5e7 + x).round(3), "y": np.sin(x).round(4)}, "preprocessing.piecewise_bins=16")
    assert scores(run)["r2"] >= 0.98


def test_small_units(tmp_path: Path) -> None:
    a, b = DRAW.normal(size=(2, ROWS))
    run = trained(tmp_path, {"a": a * 1e-8, "b": b.round(4), "y": (3 * a + 0.05 * b).round(4)})
    assert scores(run)["r2"] >= 0.98


def test_a_target_with_an_offset(tmp_path: Path) -> None:
    """The differences of a target of 1e9 ± 5 are in the answers of files and of HTTP, in ids, in bins and in errors."""
    a, b = DRAW.normal(size=(2, ROWS)).round(4)
    y = (1e9 + 5 * a + b).round(3)
    run = trained(tmp_path, {"a": a, "b": b, "y": y})
    assert scores(run)["r2"] >= 0.98
    exported = export_run(run, tmp_path / "offset")
    outputs = exported.schema.outputs
    assert (outputs.mean, outputs.sd) == pytest.approx((1e9, np.std(y)), rel=0.1)
    assert exported.parity.largest_difference < 1e-5
    edges = np.array(bundles.load(tmp_path / "offset").reference.prediction.edges)
    assert (np.diff(edges) > 0.01).all()

    predict(tmp_path / "offset", tmp_path / "rows.csv", tmp_path / "out.csv")
    from_file = table_files.read(tmp_path / "out.csv").column("value").cast(pa.float64()).to_numpy()
    assert 1 - ((from_file - y) ** 2).sum() / ((y - y.mean()) ** 2).sum() >= 0.98

    service = InProcess(ServerSettings(bundles=(tmp_path / "offset",), home=tmp_path / "home"))
    rows = [{"a": one, "b": other} for one, other in zip(a[:50].tolist(), b[:50].tolist(), strict=True)]
    answers = service.post("/predict", json={"rows": rows}).json()["predictions"]
    values = np.array([answer["value"] for answer in answers])
    np.testing.assert_allclose(values - 1e9, from_file[:50] - 1e9, rtol=1e-4, atol=1e-4)
    keys = load_signing_keys(tmp_path / "home" / "token.keys", create=False)
    held = [keys.verify(answer["id"], 0, 1 << 40).answer for answer in answers]
    np.testing.assert_allclose(held, (values - outputs.mean) / outputs.sd, rtol=1e-5, atol=1e-6)
    items = [{"id": answer["id"], "actual": float(value)} for answer, value in zip(answers, y[:50], strict=True)]
    assert service.post("/feedback", json={"items": items}).json()["accepted"] == 50
    (cell,) = service.app.store.tally(service.app.repository.find().fingerprint.hex(), None)
    assert cell.absolute == pytest.approx(np.abs(values - y[:50]).sum(), rel=1e-4)
    service.close()


@pytest.mark.parametrize("scaling", ["none", "window"])
def test_a_series_with_an_offset(tmp_path: Path, scaling: str) -> None:
    """The differences of a channel and of a known channel of 1e9 ± 5 are in the answers of files and of HTTP."""
    hours = np.arange(600)
    draw = DRAW.normal(size=600).round(3)
    y = (1e9 + 5 * np.sin(hours) + draw).round(3)
    columns = {"hour": hours, "y": y, "plan": 1e9 + draw}
    form = ("data.time=hour", "data.window=12", "data.horizon=2", "data.known=[plan]", "model.name=dlinear")
    run = trained(tmp_path, columns, *form, f"preprocessing.window_scaling={scaling}")
    assert scores(run)["r2"] >= 0.98
    exported = export_run(run, tmp_path / "offset")
    assert exported.parity.largest_difference < 1e-5
    bins = bundles.load(tmp_path / "offset").reference.features
    assert (np.diff(bins["sequence.y.level"].edges or ()) > 1e-3).all()

    later = tmp_path / "later.csv"
    lines = (tmp_path / "rows.csv").read_text().splitlines()
    blank = [f"{hour},,{plan}" for hour, _, plan in (line.split(",") for line in lines[-2:])]
    later.write_text("\n".join([*lines[:-2], *blank]) + "\n")
    predict(tmp_path / "offset", later, tmp_path / "out.csv")
    from_file = table_files.read(tmp_path / "out.csv").column("value").cast(pa.float64()).to_numpy()
    np.testing.assert_allclose(from_file - y[-2:], 0, atol=2)

    service = InProcess(ServerSettings(bundles=(tmp_path / "offset",), home=tmp_path / "home"))
    steps = [[one, other] for one, other in zip(y[-14:-2].tolist(), columns["plan"][-14:-2].tolist(), strict=True)]
    row = {"sequence": steps, "known": [[plan] for plan in columns["plan"][-2:].tolist()]}
    (answer,) = service.post("/predict", json={"rows": [row]}).json()["predictions"]
    np.testing.assert_allclose(np.array(answer["values"]) - 1e9, from_file - 1e9, rtol=1e-4, atol=1e-4)
    service.close()


IDS = [123_456_789_012_345_678 + index for index in range(3)]


@pytest.mark.parametrize("column", [pa.chunked_array([IDS * 20]), pa.chunked_array([[str(each) for each in IDS * 20]])])
def test_long_whole_numbers_are_codes(column: Any) -> None:
    asked = ColumnSettings(("",), ("",))
    reading = kinds.read("code", column, asked, np.arange(60))
    assert (reading.kind, set(reading.known)) == ("categorical", {str(each) for each in IDS})
    assert "beyond ±2⁵³, such as 12345678901234567" in (reading.note or "")
    assert "data.kinds.code=numeric" in (reading.note or "")
    goal = target.infer("code", column, asked, None)
    assert goal.outputs.classes == tuple(IDS)
    assert set(goal.values) == set(IDS)
    assert "objective.task=regression" in goal.notes[-1]


def test_a_long_number_that_is_asked_for_is_rounded() -> None:
    reading = kinds.read("x", pa.chunked_array([IDS * 2]), ColumnSettings(("",), ("",), "numeric"), np.arange(6))
    assert reading.kind == "numeric"
    assert "rounded" in (reading.note or "")


@pytest.mark.parametrize("values", [[2**53, 1], [1e300, 2e300], ["9007199254740993.5", "1"], [2**53 + 1.0, 0.5]])
def test_other_large_numbers_are_numbers(values: list[Any]) -> None:
    assert (
        kinds.read("x", pa.chunked_array([values * 20]), ColumnSettings(("",), ("",)), np.arange(40)).kind == "numeric"
    )


@pytest.mark.parametrize(("values", "noted"), [([1.25e17, None], True), ([1e300, 2e300], False), ([5.0, 0.5], False)])
def test_codes_that_were_rounded_before_are_noted(values: list[Any], noted: bool) -> None:
    column = pa.chunked_array([values * 20], pa.float64())
    reading = kinds.read("x", column, ColumnSettings(("",), ("",)), np.arange(40))
    assert reading.kind == "numeric"
    assert ("such as 125000000000000000: if these are codes" in (reading.note or "")) is noted


def test_ranges_have_the_digits_that_tell_their_ends_apart(tmp_path: Path) -> None:
    rows = "\n".join(f"{1_700_000_000 + index % 97},{50_000_000 + index / 100},{index % 2}" for index in range(200))
    (tmp_path / "rows.csv").write_text(f"at,x,y\n{rows}\n")
    settings = [f"data.source={tmp_path / 'rows.csv'}", "data.target=y"]
    at, x = load(run_config.load(None, settings)).schema.inputs
    assert at.observed_range == (1_700_000_000.0, 1_700_000_096.0)
    assert x.observed_range is not None
    assert 50_000_000 <= float(x.observed_range[0]) < float(x.observed_range[1]) < 50_000_002
