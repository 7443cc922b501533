"""Window scaling: each window of a forecast by its own mean and spread, and the answer back again."""

from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.csv
import pytest
import torch
from msgspec.structs import replace
from tests import commands

from dle_bundle.errors import InputError
from dle_bundle.schema import Field, Outputs, Schema, SequenceShape, SeriesLayout
from dle_bundle.values.missing import NA_VALUES
from dle_serving import load
from dle_training.config import run_config
from dle_training.config.resolve import resolve
from dle_training.data import column_roles
from dle_training.data.series import windows
from dle_training.export.bundle import export_run
from dle_training.export.parity import VALUE_BOUND
from dle_training.optimization import objectives
from dle_training.preprocessing import series
from dle_training.preprocessing.series import WindowSeries
from dle_training.runs.evaluate import evaluate, evaluate_source, recorded
from dle_training.runs.prepare import create, prepare
from dle_training.runs.train import train

LAYOUT = SeriesLayout(channels=("load",), sequence_id="id", time="t", window=3)
NAN = float("nan")


def fitted(sequence: npt.NDArray[np.float64], target: int = 0) -> WindowSeries:
    lengths = np.full(len(sequence), sequence.shape[1])
    return WindowSeries(series.fit(sequence, lengths), series.fit_windows(sequence, target)).eval()


def run(module: WindowSeries, sequence: npt.NDArray[np.float64]) -> tuple[npt.NDArray[np.float64], torch.Tensor]:
    lengths = torch.full((len(sequence),), sequence.shape[1])
    rows = torch.from_numpy(sequence)
    return module(rows, lengths).numpy(), module.scale(rows, lengths)


def waves(*levels: float) -> npt.NDArray[np.float64]:
    """Windows (levels, 8, 1) of a wave around each level, whose size is a fifth of the level."""
    steps = 1 + 0.2 * np.sin(np.arange(8))
    return np.array([level * steps for level in levels], dtype=np.float64)[..., None]


def test_windows_of_any_level_look_alike() -> None:
    found, scale = run(fitted(waves(1, 100, 10_000)), waves(1, 100, 10_000))
    assert np.allclose(found[0, :, 0], found[1, :, 0], atol=1e-5)
    assert np.allclose(found[0, :, 0], found[2, :, 0], atol=1e-4)
    assert scale[:, 0].numpy() == pytest.approx(waves(1, 100, 10_000).mean(axis=(1, 2)), rel=1e-6)
    assert (found[:, :, 1] == found[:, :1, 1]).all()
    assert found[0, 0, 1] < found[1, 0, 1] < found[2, 0, 1]  # the level
    assert found[0, 0, 2] < found[1, 0, 2] < found[2, 0, 2]  # the log spread


def test_constant_and_mostly_zero_windows_have_a_floor() -> None:
    sparse = np.zeros((20, 8, 1), np.float64)
    sparse[::2, 3] = 4.0
    module = fitted(sparse)
    found, scale = run(module, sparse)
    assert np.isfinite(found).all()
    # half of the spread of a window with one 4 among seven zeros
    assert scale[1].tolist() == pytest.approx([0, 0.5 * 4 * (7 / 64) ** 0.5])
    assert (found[1, :, 0] == 0).all()
    constant = np.full((5, 8, 1), 7, np.float64)
    assert np.isfinite(run(fitted(constant), constant)[0]).all()


def test_missing_steps_do_not_count() -> None:
    rows = waves(1, 100)
    holes = rows.copy()
    holes[0, 2] = holes[1, :, 0] = NAN
    found, scale = run(fitted(np.concatenate([rows, holes])), holes)
    assert scale[0, 0].item() == pytest.approx(np.delete(rows[0, :, 0], 2).mean(), rel=1e-6)
    assert found[0, 2, 0] == 0
    assert found[0, :, 3].tolist() == [0, 0, 1, 0, 0, 0, 0, 0]
    assert np.isfinite(found[1]).all()
    assert torch.isfinite(scale).all()


def test_extreme_values_stay_finite() -> None:
    rows = waves(1, 100)
    rows[0, 1], rows[0, 2] = np.finfo(np.float64).max, -np.finfo(np.float64).max
    found, scale = run(fitted(waves(1, 100)), rows)
    assert np.isfinite(found).all()
    objective = objectives.fit("regression", np.array([[1.0, 3.0]]))
    assert torch.isfinite(objective.link(torch.full((2, 2), 1e6), scale)).all()


def test_answers_are_scaled_back() -> None:
    objective = objectives.fit("regression", np.array([[1.0, 3.0], [1.0, 3.0]]))
    window = torch.tensor([[1.0, 0.5], [10_000.0, 2_000.0]], dtype=torch.float64)
    targets = objective.encode(np.array([[1.5, 0.5], [12_000.0, 10_000.0]]), window)
    assert targets.tolist() == [[1, -1], [1, 0]]
    assert objective.link(targets, window).tolist() == [[1.5, 0.5], [12_000, 10_000]]
    assert objective.actual(targets, window).tolist() == [[1.5, 0.5], [12_000, 10_000]]
    single = objectives.fit("regression", np.array([1.0, 3.0]))
    assert single.link(torch.tensor([[2.0], [1.0]]), window).tolist() == [2, 12_000]


def arranged(*levels: float, assignments: tuple[str, ...] = ()) -> column_roles.Arranged:
    """Series of these levels as `dle-train` arranges them."""
    steps = np.arange(60)
    table = pa.table(
        {
            "id": [str(number) for number in range(len(levels)) for _ in steps],
            "t": [step for _ in levels for step in steps.tolist()],
            "load": np.concatenate([level * (1 + 0.2 * np.sin(steps)) for level in levels]),
        }
    )
    asked = ["data.sequence_id=id", "data.time=t", "data.window=8", "data.horizon=2", *assignments]
    return column_roles.arrange(table, run_config.load(None, asked), "load", NA_VALUES)


def scaling(layout: SeriesLayout | None, *assignments: str) -> str | None:
    shape = SequenceShape(channels=("load",), max_steps=100, window=8)
    by_series = layout is not None and layout.scaling == "series"
    ids = (Field(name="id", kind="categorical", required=True, categories=("0", "1")),) if by_series else ()
    schema = Schema(
        inputs=(Field(name="sequence", kind="sequence", required=True, sequence=shape), *ids),
        outputs=Outputs(target="load", task="regression", horizon=2),
        layout=layout,
    )
    resolved = resolve(run_config.load(None, ["device=cpu", *assignments]), schema, 100)
    chosen = resolved.preprocessing.window_scaling
    assert resolved.training.metric == ("loss" if chosen != "none" else "rmse")
    assert resolved.model.name == "tcn"  # the id of a series is no feature
    return chosen


def proposed(notes: tuple[str, ...]) -> str:
    """The setting in the note on scaling."""
    (note,) = (note for note in notes if "window_scaling" in note)
    assert "a linear model on validation: MASE" in note
    return note.partition("(")[2].partition(")")[0]


def test_the_scaling_is_chosen_on_validation() -> None:
    """Windows or series of different levels have the same shape; what is chosen for them is named with its scores."""
    far, near = arranged(1, 100, 10_000), arranged(1, 1.5)
    assert scaling(far.layout) in ("window", "series")
    assert any("differ by a factor of 1e+04" in note for note in far.notes)
    for found in (far, near, arranged(1)):
        assert found.layout is not None
        assert proposed(found.notes) == f"preprocessing.window_scaling={found.layout.scaling}"
    typed = arranged(1, 1.5, assignments=(proposed(near.notes),))
    assert scaling(typed.layout) == scaling(near.layout)
    for kind in ("window", "series", "none"):
        asked = arranged(1, 100, assignments=(f"preprocessing.window_scaling={kind}",))
        assert scaling(asked.layout) == kind
        assert not any("window_scaling" in note for note in asked.notes)
        assert ("id" in asked.table.column_names) == (kind == "series")


def test_a_trend_is_scaled_by_window() -> None:
    """A single series that grows beyond what training saw: what a window is scaled by decides."""
    steps = np.arange(300)
    noise = np.random.default_rng(0).normal(0, 0.2, 300)
    table = pa.table({"t": steps, "load": np.exp(steps / 50) * (1 + 0.1 * np.sin(steps) + 0.05 * noise)})
    asked = ["data.time=t", "data.window=8", "data.horizon=2"]
    found = column_roles.arrange(table, run_config.load(None, asked), "load", NA_VALUES)
    assert scaling(found.layout) == "window"


def test_only_windows_can_be_scaled() -> None:
    assert scaling(None) == "none"
    for kind in ("window", "series"):
        with pytest.raises(InputError, match=r"needs data\.window"):
            scaling(replace(LAYOUT, window=None), f"preprocessing.window_scaling={kind}")
    with pytest.raises(InputError, match="read without the series as an input"):
        scaling(replace(LAYOUT, scaling="window"), "preprocessing.window_scaling=series")
    with pytest.raises(InputError, match=r"windows of several series, named by data\.sequence_id"):
        arranged(1, assignments=("preprocessing.window_scaling=series",))


def test_windows_scaled_by_their_series() -> None:
    """Known series have the mean and spread of their training windows, others those of their own steps."""
    rows = waves(1, 100, 10_000)
    fitted = series.fit(rows, np.full(3, 8))
    windows = series.fit_windows(rows, target=0)
    own = series.fit_series(np.stack([rows[0], rows[1], rows[1] * 3]), np.array([2, 3, 3]), 1, 4, windows)
    assert own.spreads[0] == own.spreads[1] == (0,)
    module = WindowSeries(fitted, replace(windows, series=own)).eval()
    codes = torch.tensor([[0, 2], [0, 3], [0, 0]])  # the last one is unseen
    scale = module.scale(torch.from_numpy(rows), torch.full((3,), 8), codes)
    together = np.concatenate([rows[1], rows[1] * 3])
    expected = [rows[0].mean(), together.mean(), rows[2].mean()]
    assert scale[:, 0].tolist() == pytest.approx(expected, rel=1e-6)
    assert scale[:, 1].tolist() == pytest.approx([rows[0].std(), together.std(), rows[2].std()], rel=1e-5)
    found = module(torch.from_numpy(rows), torch.full((3,), 8), codes)
    assert np.allclose(found[1, :, 0], (rows[1, :, 0] - together.mean()) / together.std(), atol=1e-5)


@pytest.mark.parametrize("kind", ["window", "series"])
def test_a_panel_from_training_to_the_bundle(kind: str, tmp_path: Path) -> None:
    """Series at levels of 1 and 10,000: each is forecast at its own level, and the graph answers as PyTorch does."""
    lines = [
        f"{name},{hour},{level * (1 + 0.2 * np.sin(hour / 12 * 2 * np.pi) + hour % 7 / 500):.6g}"
        for name, level in (("7", 1), ("8", 10_000))
        for hour in range(150)
    ]
    (tmp_path / "panel.csv").write_text("\n".join(["id,t,load", *lines]))
    config = run_config.load(
        None,
        [
            f"data.source={tmp_path / 'panel.csv'}",
            *("data.target=load", "data.sequence_id=id", "data.time=t", "data.window=12", "data.horizon=2"),
            *("model.tcn.width=4", "model.tcn.depth=3", "training.epochs=40", "optimizer.lr=0.01", "device=cpu"),
            f"preprocessing.window_scaling={kind}",
        ],
    )
    prepared = prepare(config)
    assert prepared.config.preprocessing.window_scaling == kind
    assert prepared.config.model.name == "tcn"
    assert prepared.config.data.season == 12
    folder = create(tmp_path / "run", prepared)
    train(folder, prepared)
    scores = evaluate(folder).forecast
    assert scores is not None
    for name, level in (("7", 1), ("8", 10_000)):
        mae = scores.per_series[name].model.mae
        assert mae is not None
        assert mae < 0.1 * level
    assert recorded(folder).forecast == scores
    assert "mae of the linear model" in folder.report.read_text()
    assert export_run(folder, tmp_path / "bundle").parity.largest_difference <= VALUE_BOUND

    everything = evaluate_source(folder, str(tmp_path / "panel.csv")).evaluation.forecast
    assert everything is not None
    assert everything.model.mase is not None
    assert set(everything.per_series) == {"7", "8"}
    other = [line.replace("7,", "9,", 1) if line.startswith("7") else line for line in lines]
    (tmp_path / "other.csv").write_text("\n".join(["id,t,load", *other]))
    said = commands.run("dle-evaluate", folder.path, "--data", "other.csv", folder=tmp_path).stdout
    assert "MASE leaves out 1 of 2 series" in said
    bundle = load(tmp_path / "bundle")
    table = pyarrow.csv.read_csv(tmp_path / "panel.csv")
    last = {name: [float(line.split(",")[2]) for line in lines if line.startswith(name)][-12:] for name in ("7", "8")}
    rows = [{"id": name, "sequence": steps} for name, steps in last.items()]
    asked = rows if kind == "series" else [{"sequence": row["sequence"]} for row in rows]
    found = [row["value"] for row in bundle.predict(table).to_pylist()]
    assert [value for row in bundle.predict(asked).to_pylist() for value in row.values()] == found
    if kind == "series":
        with pytest.raises(InputError, match="id"):
            bundle.predict([{"sequence": last["7"]}])
        (unknown,) = bundle.predict([{"id": "9", "sequence": last["8"]}]).column("value_1").to_pylist()
        assert abs(unknown - last["8"][0]) < 3_000  # by its own window


def test_the_season_and_the_parts_are_those_of_the_windows() -> None:
    found = arranged(1, 100)
    assert found.layout is not None
    assert found.baselines is not None
    assert found.layout.season == found.baselines.season
    assert len(found.baselines.series) == len(found.table.column(windows.SPLIT))
