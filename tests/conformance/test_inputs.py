"""Images, series and text mean the same whichever way they come in: as files, arrays, columns of tables or JSON."""

import base64
import csv
import json
from datetime import date
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.parquet
import pytest
from PIL import Image
from tests import bundles

from dle_bundle import in_memory
from dle_bundle.groups import Groups
from dle_bundle.images import pixels as images
from dle_bundle.rows.decoder import RowDecoder
from dle_bundle.schema import Field, ImageFit, ImageShape, Outputs, Schema, SequenceShape, SeriesLayout
from dle_bundle.tables import columns, forecast_tables, table_files
from dle_bundle.values.missing import NA_VALUES
from dle_bundle.values.numbers import NumberFormat
from dle_training.config.run_config import RunConfig
from dle_training.data.images import pictures

ROWS = 30
OUTPUTS = Outputs(target="y", task="regression")
KINDS = (".png", ".jpg", ".bmp", ".webp")


def grouped(path: Path, schema: Schema) -> Groups:
    folder = path if path.is_dir() else path.parent
    found, faults = columns.to_groups(table_files.read(path), schema, folder=folder)
    assert not faults
    return found


def from_json(schema: Schema, rows: list[dict[str, Any]]) -> Groups:
    return RowDecoder(schema).decode(json.dumps({"rows": rows}).encode())


def write(path: Path, table: pa.Table) -> Path:
    pyarrow.parquet.write_table(table, path)
    return path


@pytest.mark.parametrize("fit", ["crop", "pad", "stretch"])
@pytest.mark.parametrize("channels", [1, 3])
def test_images(tmp_path: Path, channels: Any, fit: ImageFit, monkeypatch: pytest.MonkeyPatch) -> None:
    random = np.random.default_rng(channels)
    shape = ImageShape(channels=channels, height=20, width=24, fit=fit)
    schema = Schema(inputs=(Field(name="image", kind="image", required=True, image=shape),), outputs=OUTPUTS)
    folder = tmp_path / "images"
    folder.mkdir()
    for row in range(ROWS):
        sides = random.integers(10, 100, 2)
        pixels = random.integers(0, 256, (*sides, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / f"{row:02}{KINDS[row % len(KINDS)]}")
    paths = sorted(folder.iterdir())
    names, contents = [f"images/{path.name}" for path in paths], [path.read_bytes() for path in paths]
    with (tmp_path / "rows.csv").open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([["image"], *([name] for name in names)])
    texts = [base64.b64encode(content).decode() for content in contents]
    decoder = RowDecoder(schema)
    found = [
        grouped(folder, schema),
        grouped(tmp_path / "rows.csv", schema),
        grouped(write(tmp_path / "paths.parquet", pa.table({"image": names})), schema),
        grouped(write(tmp_path / "contents.parquet", pa.table({"image": pa.array(contents, pa.binary())})), schema),
        from_json(schema, [{"image": text} for text in texts]),
        from_json(schema, [{"image": f"data:image/png;base64,{text}"} for text in texts]),
        decoder.groups([decoder.image_row(content) for content in contents]),
    ]
    expected = np.stack([images.decode(content, shape) for content in contents])
    np.savez(tmp_path / "arrays.npz", X=expected)
    np.savez(tmp_path / "last.npz", image=expected.transpose(0, 2, 3, 1))
    found += [grouped(tmp_path / "arrays.npz", schema), grouped(tmp_path / "last.npz", schema)]
    monkeypatch.chdir(tmp_path)  # to which the paths of a table in memory are relative
    found.append(in_memory.read([{"image": text} for text in texts], schema)[0])
    found.append(in_memory.read(pa.table({"image": names}), schema)[0])
    trained = pictures.read(schema.inputs, table_files.read(folder), folder, RunConfig(), schema.na_values)
    assert trained is not None
    np.testing.assert_array_equal(trained.images, expected)
    for groups in found:
        np.testing.assert_array_equal(np.asarray(groups.image), expected)


MISSING = ("", "NA", " ? ", "-999", "\u00a0null")


@pytest.mark.parametrize("suffix", ["csv", "parquet"])
def test_missing_images_are_spelt_alike_in_training_and_prediction(tmp_path: Path, suffix: str) -> None:
    shape = ImageShape(channels=1, height=8, width=8)
    for level in (100, 200):
        Image.new("L", (8, 8), level).save(tmp_path / f"{level}.png")
    paths = ["100.png", *MISSING, " 200.png "]
    if suffix == "csv":
        with (tmp_path / "rows.csv").open("w", newline="", encoding="utf-8") as file:
            csv.writer(file).writerows([["id", "image"], *([row, path] for row, path in enumerate(paths))])
    else:
        write(tmp_path / "rows.parquet", pa.table({"image": paths}))
    table = table_files.read(tmp_path / f"rows.{suffix}")
    fields = (Field(name="image", kind="image", required=False, image=shape),)
    na_values = (*NA_VALUES, "-999")
    learnt = pictures.read(fields, table, tmp_path, RunConfig(), na_values)
    assert learnt is not None
    assert learnt.broken == {}
    schema = Schema(inputs=fields, outputs=OUTPUTS, na_values=na_values)
    answered = grouped(tmp_path / f"rows.{suffix}", schema)
    assert np.asarray(learnt.images)[:, 0, 0, 0].tolist() == [100, *[0] * len(MISSING), 200]
    np.testing.assert_array_equal(np.asarray(answered.image), np.asarray(learnt.images))
    needed = msgspec.structs.replace(schema, inputs=(msgspec.structs.replace(fields[0], required=True),))
    _, faults = columns.to_groups(table, needed, folder=tmp_path)
    assert [(fault.row, fault.code) for fault in faults] == [(row, "missing") for row in range(2, 2 + len(MISSING))]


def same_series(one: Groups, other: Groups) -> None:
    assert one.sequence is not None
    assert other.sequence is not None
    np.testing.assert_array_equal(one.sequence.view(np.uint32), other.sequence.view(np.uint32))
    np.testing.assert_array_equal(one.lengths, other.lengths)


@pytest.mark.parametrize("channels", [1, 3])
def test_series_of_any_length(tmp_path: Path, channels: int) -> None:
    random = np.random.default_rng(channels)
    shape = SequenceShape(channels=tuple("abc"[:channels]), max_steps=50)
    schema = Schema(
        inputs=(Field(name="series", kind="sequence", required=False, sequence=shape),),
        outputs=OUTPUTS,
        na_values=("", "-999"),
    )
    lists: list[Any] = [None]
    for _ in range(ROWS):
        steps = random.normal(0, 10.0 ** random.integers(-40, 40), (random.integers(1, 51), channels)).astype(object)
        steps[random.random(steps.shape) < 0.1] = None
        steps[random.random(steps.shape) < 0.1] = -999.0
        lists.append(steps.tolist())
    kind, large = pa.list_(pa.list_(pa.float64())), pa.large_list(pa.list_(pa.float64()))
    found = [
        from_json(schema, [{"series": steps} for steps in lists]),
        grouped(write(tmp_path / "lists.parquet", pa.table({"series": pa.array(lists, kind)})), schema),
        grouped(write(tmp_path / "large.parquet", pa.table({"series": pa.array(lists, large)})), schema),
    ]
    if channels == 1:
        flat = [None if steps is None else [step[0] for step in steps] for steps in lists]
        found.append(from_json(schema, [{"series": steps} for steps in flat]))
        table = pa.table({"series": pa.array(flat, pa.list_(pa.float64()))})
        found.append(grouped(write(tmp_path / "flat.parquet", table), schema))
    for groups in found[1:]:
        same_series(found[0], groups)


@pytest.mark.parametrize("channels", [1, 3])
def test_series_of_one_length(tmp_path: Path, channels: int) -> None:
    shape = SequenceShape(channels=tuple("abc"[:channels]), max_steps=50)
    inputs = (Field(name="sequence", kind="sequence", required=True, sequence=shape),)
    schema = Schema(inputs=inputs, outputs=OUTPUTS)
    steps = np.random.default_rng(channels).normal(0, 1, (ROWS, 20, channels)).astype(np.float32)
    steps[3, 5, 0] = np.nan
    np.savez(tmp_path / "first.npz", X=steps.transpose(0, 2, 1))
    np.savez(tmp_path / "last.npz", X=steps)
    np.savez(tmp_path / "wide.npz", X=steps.transpose(0, 2, 1).astype(np.float64))
    lists = [[[None if value != value else value for value in step] for step in row] for row in steps.tolist()]
    whole = from_json(schema, [{"sequence": row} for row in lists])
    for name in ("first", "last", "wide"):
        same_series(whole, grouped(tmp_path / f"{name}.npz", schema))
    table = pa.table({"sequence": pa.array(lists, pa.list_(pa.list_(pa.float32(), channels)))})
    same_series(whole, grouped(write(tmp_path / "fixed.parquet", table), schema))


def test_the_past_and_what_is_known(tmp_path: Path) -> None:
    """A long table as text and typed, as a file and in memory, and the rows of a request."""
    days = [(shop, day) for day in range(9, 0, -1) for shop in "xy"]
    table = pa.table(
        {
            "shop": [shop for shop, _ in days],
            "day": [date(2024, 1, day) for _, day in days],
            "sales": [None if day > 6 else 1.1 * day for _, day in days],
            "promo": [day % 2 for _, day in days],
            "sky": [("grey", " clear", "hail")[day % 3] for _, day in days],
            "town": [None if day > 6 else {"x": "A", "y": "B"}[shop] for shop, day in days],
        }
    )
    with (tmp_path / "rows.csv").open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([table.column_names, *(row.values() for row in table.to_pylist())])
    text = table_files.read(tmp_path / "rows.csv")
    typed = table_files.read(write(tmp_path / "rows.parquet", table))
    rows = [forecast_tables.rows(each, bundles.PROMOTION).table for each in (text, typed)]
    names = [field.name for field in bundles.PROMOTION.inputs]
    found = [
        *(columns.to_groups(each, bundles.PROMOTION)[0] for each in rows),
        *(in_memory.read(each, bundles.PROMOTION)[0] for each in (text, typed, typed.to_pandas(), typed.to_pylist())),
        *(from_json(bundles.PROMOTION, each.select(names).to_pylist()) for each in rows),
    ]
    assert found[0].known is not None
    assert found[0].known.tolist() == [[[1, 1, 0], [0, 0, 0], [1, 0, 1]]] * 2
    for groups in found:
        same_series(found[0], groups)
        np.testing.assert_array_equal(groups.known, found[0].known)
        assert groups.categorical.tolist() == [["A"], ["B"]]


TEXTS = ["it fits", ' wool,\n"quoted" ', "", None, "NA", "gru\u0308n 日本", "7", "nan", "\u00a0small\u3000", "true"]


def test_text(tmp_path: Path) -> None:
    schema = Schema(inputs=(Field(name="text", kind="text", required=False),), outputs=OUTPUTS)
    with (tmp_path / "rows.csv").open("w", newline="", encoding="utf-8") as file:
        csv.writer(file, quoting=csv.QUOTE_ALL).writerows([["text"], *([text or ""] for text in TEXTS)])
    plain = pa.array(TEXTS)
    found = [
        from_json(schema, [{"text": text} for text in TEXTS]),
        grouped(tmp_path / "rows.csv", schema),
        grouped(write(tmp_path / "plain.parquet", pa.table({"text": plain})), schema),
        grouped(write(tmp_path / "codes.parquet", pa.table({"text": plain.dictionary_encode()})), schema),
    ]
    tokens = bundles.tokenizer().tokens(np.asarray(found[0].text))
    for groups in found[1:]:
        np.testing.assert_array_equal(groups.text, found[0].text)
        np.testing.assert_array_equal(bundles.tokenizer().tokens(np.asarray(groups.text)), tokens)
    assert np.asarray(found[0].text)[[2, 3, 4, 7], 0].tolist() == ["", "", "NA", "nan"]


def test_amounts_of_a_series(tmp_path: Path) -> None:
    """Amounts of a forecast: in a long file, in a table in memory, and in the steps of a request."""
    formats = {"price": NumberFormat(thousands=",", unit="$"), "mass": NumberFormat(decimal=",", unit="kg")}
    shape = SequenceShape(channels=("price", "mass"), max_steps=50, window=4, number_formats=formats)
    layout = SeriesLayout(
        channels=("price", "mass"), number_formats=formats, sequence_id="shop", time="t", window=4, scaling="series"
    )
    schema = Schema(
        inputs=(
            Field(name="sequence", kind="sequence", required=True, sequence=shape),
            Field(name="shop", kind="categorical", required=True, categories=("a", "b")),
        ),
        outputs=OUTPUTS,
        layout=layout,
    )
    masses = ["NA", "1,5 kg", "2,5 kg", "3,5 kg"]
    rows = [
        {"shop": shop, "t": str(step), "price": f"${1000 * place + step:,}.50", "mass": masses[step]}
        for place, shop in enumerate("ab")
        for step in range(4)
    ]
    with (tmp_path / "rows.csv").open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([list(rows[0]), *(list(row.values()) for row in rows)])
    read = forecast_tables.rows(table_files.read(tmp_path / "rows.csv"), schema).table
    of_file, faults = columns.to_groups(read, schema)
    assert not faults
    of_memory, _ = in_memory.read(rows, schema)
    steps = {
        shop: [[row["price"], None if row["mass"] == "NA" else row["mass"]] for row in rows if row["shop"] == shop]
        for shop in "ab"
    }
    of_request = from_json(schema, [{"shop": shop, "sequence": each} for shop, each in steps.items()])
    assert of_file.sequence is not None
    assert of_file.sequence[1, :2].tolist()[1] == [1001.5, 1.5]
    for other in (of_memory, of_request):
        assert other.sequence is not None
        assert np.array_equal(other.sequence, of_file.sequence, equal_nan=True)
        assert other.categorical.tolist() == of_file.categorical.tolist() == [["a"], ["b"]]
