"""Predictions of folders, arrays, paths in tables and long tables: the graph's, a row for each image or series."""

import csv
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from tests import bundles, graphs

from dle_bundle.errors import InputError, RowFaults
from dle_bundle.groups import Groups
from dle_bundle.schema import Schema
from dle_serving.offline import loaded, reading
from dle_serving.offline.predict import predict

COUNT = 12
IMAGES = bundles.groups(bundles.PICTURE, COUNT, seed=9)


def pixels() -> Any:
    return np.asarray(IMAGES.image)


def read(path: Path) -> list[dict[str, str]]:
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def assert_answers(rows: list[dict[str, str]], schema: Schema, groups: Groups) -> None:
    names = [name for name in rows[0] if name.startswith(("probability_", "value"))]
    given = [[float(row[name]) for name in names] for row in rows]
    np.testing.assert_allclose(given, graphs.answers(schema, groups), rtol=1e-4, atol=1e-4)


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    return bundles.write(tmp_path / "bundle", bundles.PICTURE, name="picture")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "in"
    folder.mkdir()
    for index, image in enumerate(pixels()):
        (folder / f"{index:02}.png").write_bytes(bundles.png(image))
    return folder


def test_a_flat_folder(tmp_path: Path, pictures: Path, folder: Path) -> None:
    (folder / "notes.txt").write_text("no image")
    summary = predict(pictures, folder, tmp_path / "out.csv", keep=["photo"])
    assert (summary.rows, summary.predicted, summary.ignored) == (COUNT, COUNT, ())
    assert summary.left_out == (Path("notes.txt"),)
    rows = read(tmp_path / "out.csv")
    assert [row["photo"] for row in rows] == [f"{index:02}.png" for index in range(COUNT)]
    assert_answers(rows, bundles.PICTURE, IMAGES)


def test_class_folders_are_read_in_parts(
    tmp_path: Path, pictures: Path, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reading, "_PART_CELLS", 2_000)  # three images
    for index, path in enumerate(sorted(folder.glob("*.png"))):
        own = folder / ("a" if index < 5 else "b")
        own.mkdir(exist_ok=True)
        path.rename(own / path.name)
    summary = predict(pictures, folder, tmp_path / "out.csv", keep=["photo"])
    assert (summary.rows, summary.ignored) == (COUNT, ("label",))
    rows = read(tmp_path / "out.csv")
    assert [rows[0]["photo"], rows[-1]["photo"]] == ["a/00.png", "b/11.png"]
    assert_answers(rows, bundles.PICTURE, IMAGES)


def test_broken_images_are_all_told_or_go_into_the_file_of_errors(tmp_path: Path, pictures: Path, folder: Path) -> None:
    (folder / "03.png").write_bytes(b"no image")
    (folder / "07.png").write_bytes(bundles.png(pixels()[7])[:-40])
    with pytest.raises(RowFaults) as raised:
        predict(pictures, folder, tmp_path / "out.csv")
    assert [str(fault) for fault in raised.value.faults] == [
        "row 4, 'photo': 03.png: not an image",
        "row 8, 'photo': 07.png: truncated",
    ]
    assert not (tmp_path / "out.csv").exists()
    summary = predict(pictures, folder, tmp_path / "out.csv", errors=tmp_path / "errors.csv", keep=["photo"])
    assert (summary.rows, summary.predicted, summary.faulty) == (COUNT, COUNT - 2, 2)
    assert [(row["row"], row["code"]) for row in read(tmp_path / "errors.csv")] == [("4", "image"), ("8", "image")]
    good = np.array([index for index in range(COUNT) if index not in (3, 7)])
    assert_answers(read(tmp_path / "out.csv"), bundles.PICTURE, IMAGES.take(good))


def test_paths_in_a_table_are_relative_to_it(tmp_path: Path, pictures: Path, folder: Path) -> None:
    lines = ["id,photo", *(f"{index},{index:02}.png" for index in range(COUNT))]
    (folder / "rows.csv").write_text("\n".join(lines))
    summary = predict(pictures, folder / "rows.csv", tmp_path / "out.csv", keep=["id"])
    assert summary.ignored == ()
    rows = read(tmp_path / "out.csv")
    assert [row["id"] for row in rows] == [str(index) for index in range(COUNT)]
    assert_answers(rows, bundles.PICTURE, IMAGES)


@pytest.mark.parametrize("suffix", [".csv", ".parquet"])
def test_arrays_of_images(tmp_path: Path, pictures: Path, suffix: str) -> None:
    np.savez(tmp_path / "in.npz", photo=pixels().transpose(0, 2, 3, 1), id=np.arange(COUNT))
    out = tmp_path / f"out{suffix}"
    if suffix == ".csv":
        with pytest.raises(InputError, match="--keep photo: not text, numbers or dates"):
            predict(pictures, tmp_path / "in.npz", out, keep=["photo"])
        predict(pictures, tmp_path / "in.npz", out, keep=["id"])
        assert_answers(read(out), bundles.PICTURE, IMAGES)
    else:
        predict(pictures, tmp_path / "in.npz", out, keep=["photo", "id"])
        assert pq.read_table(out).column("id").to_pylist() == list(range(COUNT))


def test_image_files(tmp_path: Path, pictures: Path, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(reading, "_PART_CELLS", 2_000)  # three images
    predict(pictures, "in/*.png", tmp_path / "out.csv")
    rows = read(tmp_path / "out.csv")
    assert [row["photo"] for row in rows] == [f"in/{index:02}.png" for index in range(COUNT)]
    assert_answers(rows, bundles.PICTURE, IMAGES)
    predict(pictures, [folder / "07.png", "in/02.png"], tmp_path / "out.csv")
    rows = read(tmp_path / "out.csv")
    assert [row["photo"] for row in rows] == [str(folder / "07.png"), "in/02.png"]
    assert_answers(rows, bundles.PICTURE, IMAGES.take(np.array([7, 2])))
    (folder / "03.png").write_bytes(b"no image")
    with pytest.raises(RowFaults) as raised:
        predict(pictures, "in/03.png", tmp_path / "out.csv")
    assert [str(fault) for fault in raised.value.faults] == ["row 1, 'photo': in/03.png: not an image"]


def test_images_that_no_model_takes(tmp_path: Path, folder: Path) -> None:
    bundle = bundles.write(tmp_path / "review", bundles.REVIEW, name="review")
    for source in (folder, folder / "01.png"):
        with pytest.raises(InputError, match=r"images, but the model has no image input; its inputs are text, age"):
            predict(bundle, source, tmp_path / "out.csv")
    (folder / "rows.csv").write_text("photo\n01.png\n")
    with pytest.raises(InputError, match=r"01\.png: an image, not a table; name images without other files"):
        predict(bundle, [folder / "rows.csv", folder / "01.png"], tmp_path / "out.csv")


def test_a_folder_without_images_is_refused(tmp_path: Path, pictures: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match="expected image files"):
        predict(pictures, tmp_path / "empty", tmp_path / "out.csv")


def test_series_in_arrays_and_in_lists(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reading, "_SERIES_ROWS", 7)
    bundle = bundles.write(tmp_path / "bundle", bundles.SIGNAL, name="signal")
    groups = bundles.groups(bundles.SIGNAL, COUNT, seed=9)
    lists = [row["signal"] for row in bundles.rows(bundles.SIGNAL, COUNT, seed=9)]
    lists[4] = [[1.0, 2.0], [3.0]]
    pq.write_table(pa.table({"signal": lists}), tmp_path / "in.parquet")
    predict(bundle, tmp_path / "in.parquet", tmp_path / "out.csv", errors=tmp_path / "errors.csv")
    assert [(row["row"], row["code"]) for row in read(tmp_path / "errors.csv")] == [("5", "sequence")]
    assert_answers(read(tmp_path / "out.csv"), bundles.SIGNAL, groups.take(np.delete(np.arange(COUNT), 4)))
    steps = np.random.default_rng(0).normal(0, 1, (COUNT, 20, 2)).astype(np.float32)
    np.savez(tmp_path / "in.npz", signal=steps)
    predict(bundle, tmp_path / "in.npz", tmp_path / "out.csv")
    assert_answers(read(tmp_path / "out.csv"), bundles.SIGNAL, as_groups(steps))


def as_groups(steps: Any) -> Groups:
    known = bundles.groups(bundles.SIGNAL, len(steps))
    lengths = np.full(len(steps), steps.shape[1])
    return Groups(known.numeric, known.categorical, known.datetime, sequence=steps, lengths=lengths)


def test_text_beside_a_number(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loaded, "_RUN_ROWS", 5)
    bundle = bundles.write(tmp_path / "bundle", bundles.REVIEW, name="review")
    rows = bundles.rows(bundles.REVIEW, COUNT, seed=9)
    with (tmp_path / "in.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, ["text", "age"])
        writer.writeheader()
        writer.writerows([*rows, {"text": " ", "age": 3}])
    summary = predict(bundle, tmp_path / "in.csv", tmp_path / "out.csv", errors=tmp_path / "errors.csv")
    assert (summary.predicted, summary.faulty) == (COUNT, 1)
    assert [row["code"] for row in read(tmp_path / "errors.csv")] == ["missing"]
    assert_answers(read(tmp_path / "out.csv"), bundles.REVIEW, bundles.groups(bundles.REVIEW, COUNT, seed=9))


def long_table(path: Path) -> Path:
    """Two meters by turns, hours backwards: 6 and 5 rows."""
    lines = ["meter,hour,load,place"]
    kept = [(hour, meter) for hour in range(5, -1, -1) for meter in (7, 3) if (hour, meter) != (0, 3)]
    lines += [f"{meter},{hour},{10 * hour + meter},here" for hour, meter in kept]
    path.write_text("\n".join(lines))
    return path


def test_long_tables_have_a_row_for_each_series(tmp_path: Path) -> None:
    bundle = bundles.write(tmp_path / "bundle", bundles.FORECAST, name="forecast")
    source = long_table(tmp_path / "in.csv")
    summary = predict(bundle, source, tmp_path / "out.csv", keep=["meter", "hour"])
    assert (summary.rows, summary.steps, summary.ignored) == (2, 6, ("place",))
    rows = read(tmp_path / "out.csv")
    assert list(rows[0]) == ["meter", "hour", "value"]
    assert [(row["meter"], row["hour"]) for row in rows] == [(meter, hour) for meter in "73" for hour in "678"]
    steps = np.array([[10 * hour + meter for hour in (2, 3, 4, 5)] for meter in (7, 3)], dtype=np.float32)[..., None]
    expected = graphs.answers(bundles.FORECAST, as_groups(steps)).reshape(-1)
    np.testing.assert_allclose([float(row["value"]) for row in rows], expected, rtol=1e-5)
    predict(bundle, source, tmp_path / "again.csv")
    assert read(tmp_path / "again.csv") == rows


PROMOTIONS = """shop,day,sales,promo,sky,town
x,2024-02-01,10,1,clear,A
x,2024-02-02,20,0,grey,
x,2024-02-03,30,1,clear,A
x,2024-02-04,40,0,grey,A
x,2024-02-05,,1,clear,
x,2024-02-06,,,grey,
x,2024-02-07,,1,clear,
"""


def test_known_columns_are_kept_and_their_faults_name_the_row_of_the_file(tmp_path: Path) -> None:
    bundle = bundles.write(tmp_path / "bundle", bundles.PROMOTION, name="promotion")
    (tmp_path / "x.csv").write_text(PROMOTIONS.replace("02-06,,,", "02-06,,0,"))
    (tmp_path / "y.csv").write_text(PROMOTIONS.replace("x,", "y,"))
    predict(bundle, tmp_path / "x.csv", tmp_path / "out.csv", keep=["shop", "promo", "town"])
    rows = read(tmp_path / "out.csv")
    assert [(row["shop"], row["day"], row["promo"], row["town"]) for row in rows] == [
        ("x", f"2024-02-{day:02}", promo, "A") for day, promo in ((5, "1"), (6, "0"), (7, "1"))
    ]
    expected = "y.csv, row 6, 'promo': a value is required for a step of the forecast"
    with pytest.raises(RowFaults, match=expected):
        predict(bundle, [tmp_path / "x.csv", tmp_path / "y.csv"], tmp_path / "out.csv")
    summary = predict(
        bundle, [tmp_path / "y.csv", tmp_path / "x.csv"], tmp_path / "out.csv", errors=tmp_path / "errors.csv"
    )
    assert (summary.rows, summary.predicted, summary.faulty) == (2, 1, 1)
    assert [(row["file"], row["row"], row["field"]) for row in read(tmp_path / "errors.csv")] == [
        (str(tmp_path / "y.csv"), "6", "promo")
    ]
    kept = read(tmp_path / "out.csv")
    assert [list(row.values())[:2] for row in kept] == [["x", f"2024-02-{day:02}"] for day in (5, 6, 7)]
    with pytest.raises(InputError, match=r"has shop, day, sales, promo, sky, town\n  - prom \(did you mean 'promo'"):
        predict(bundle, tmp_path / "x.csv", tmp_path / "out.csv", keep=["prom"])


def test_rows_with_series_say_where_they_are(tmp_path: Path) -> None:
    """A source that holds series already has a row for each, also for a model of long tables."""
    bundle = bundles.write(tmp_path / "bundle", bundles.FORECAST, name="forecast")
    rows = [{"sequence": [1.0, 2.0, 3.0, 4.0], "n": 0}, {"sequence": [1.0], "n": 1}, {"sequence": [4.0] * 4, "n": 2}]
    for name in ("a", "b"):
        pq.write_table(pa.Table.from_pylist(rows), tmp_path / f"{name}.parquet")
    files = [tmp_path / "a.parquet", tmp_path / "b.parquet"]
    summary = predict(bundle, files, tmp_path / "out.csv", errors=tmp_path / "errors.csv", keep=["n"])
    assert (summary.rows, summary.predicted) == (6, 6)
    assert [(row["file"], row["row"], row["n"]) for row in read(tmp_path / "out.csv")] == [
        (str(file), str(row), str(row - 1)) for file in files for row in (1, 2, 3)
    ]


def test_a_long_table_of_too_few_steps_is_refused(tmp_path: Path) -> None:
    bundle = bundles.write(tmp_path / "bundle", bundles.FORECAST, name="forecast")
    (tmp_path / "in.csv").write_text("meter,hour,load\n1,1,2\n1,2,3\n")
    with pytest.raises(InputError, match="a forecast needs 4 steps"):
        predict(bundle, tmp_path / "in.csv", tmp_path / "out.csv")
    np.savez(tmp_path / "in.npz", X=np.ones((3, 1, 4)))
    summary = predict(bundle, tmp_path / "in.npz", tmp_path / "out.csv")
    assert (summary.rows, summary.steps) == (3, None), "what is series already stays so"
