"""The whole story of the data on small files, and reading another table by the schema of a run."""

from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet
import pytest
from PIL import Image

from dle_bundle.errors import InputError, RowFaults
from dle_training.config.run_config import DataConfig, ObjectiveConfig, RunConfig, SplitConfig
from dle_training.data import dataset, sources
from dle_training.data.dataset import Dataset
from dle_training.preprocessing.settings import PreprocessingConfig

N = 60


def columns() -> dict[str, list[Any]]:
    return {
        "id": list(range(N)),
        "age": [None if row == 5 else 20 + row % 9 for row in range(N)],
        "city": [("Rome" if row % 3 else "Oslo") for row in range(N)],
        "born": [f"2001-02-{1 + row % 28:02}" for row in range(N)],
        "member": ["true" if row % 2 else "false" for row in range(N)],
        "bought": [None if row in (7, 50) else ("no", "yes")[row % 2] for row in range(N)],
    }


def write(path: Path, content: dict[str, list[Any]]) -> str:
    table = pa.table(content)
    if path.suffix == ".csv":
        pyarrow.csv.write_csv(table, path)
    else:
        pyarrow.parquet.write_table(table, path)
    return str(path)


def load(source: str, **data: Any) -> Dataset:
    return dataset.load(RunConfig(data=DataConfig(source=source, **{"target": "bought", **data})))


@pytest.mark.parametrize("name", ["a.csv", "a.parquet"])
def test_the_whole_story(tmp_path: Path, name: str) -> None:
    data = load(write(tmp_path / name, columns()))
    kinds = {field.name: (field.kind, field.required) for field in data.schema.inputs}
    assert kinds == {
        "age": ("numeric", False),
        "city": ("categorical", True),
        "born": ("datetime", True),
        "member": ("boolean", True),
    }
    assert data.dropped["id"].startswith("row number, such as ")
    assert data.split_by == "stratified"
    assert data.schema.outputs.classes == ("no", "yes")
    assert data.notes == (
        "bought: 2 of 60 rows have no value and were left out",
        (
            "born: holds dates, but the split is stratified; if the model will predict later rows, test it on the "
            "latest rows: --split time:born"
        ),
    )
    rows = np.concatenate([data.split.train, data.split.validation, data.split.test])
    assert sorted(rows.tolist()) == [row for row in range(N) if row not in (7, 50)]
    # a row has one number everywhere
    assert len(data.groups) == len(data.target) == N
    towns = [town if bought else "" for town, bought in zip(columns()["city"], columns()["bought"], strict=True)]
    assert data.groups.categorical[:, 0].tolist() == towns
    assert data.target.tolist() == columns()["bought"]


def test_text_and_typed_columns_give_the_same(tmp_path: Path) -> None:
    text, typed = load(write(tmp_path / "a.csv", columns())), load(write(tmp_path / "a.parquet", columns()))
    assert text.schema == typed.schema
    np.testing.assert_array_equal(text.groups.numeric, typed.groups.numeric)
    np.testing.assert_array_equal(text.groups.datetime, typed.groups.datetime)


def test_observed_comes_from_the_training_part(tmp_path: Path) -> None:
    content = columns()
    content["split"] = ["train"] * 40 + ["validation"] * 10 + ["test"] * 10
    content["age"][40:] = [99] * 20
    content["city"][40:] = ["Bonn"] * 20
    content["born"][40:] = ["2030-01-01"] * 20
    content["late"] = [None] * 40 + list(range(20))
    data = load(write(tmp_path / "a.parquet", content))
    age, city, born, member = data.schema.inputs
    assert age.observed_range == (20, 28)
    assert (age.example, type(age.example)) == (23, int)
    assert city.categories == ("Rome", "Oslo")  # the most frequent first
    assert city.example == "Rome"
    assert born.observed_range == ("2001-02-01T00:00:00Z", "2001-02-28T00:00:00Z")
    assert str(born.example).startswith("2001-02-")
    assert member.example in (True, False)
    assert data.dropped["late"] == "no value in the training part"
    assert data.groups.numeric.shape == (N, 2)
    assert "split" in data.dropped


def test_rare_categories_count_as_unseen(tmp_path: Path) -> None:
    source = write(tmp_path / "a.parquet", columns())
    config = RunConfig(
        data=DataConfig(source=source, target="bought"), preprocessing=PreprocessingConfig(max_categories=1)
    )
    data = dataset.load(config)
    assert data.schema.inputs[1].categories == ("Rome",)
    assert "city: the rarest 1 of 2 categories counts as unseen" in data.notes


def test_integer_categories_have_integer_examples(tmp_path: Path) -> None:
    data = load(write(tmp_path / "a.parquet", columns()), kinds={"age": "categorical"})
    assert data.schema.inputs[0].json_type == "integer"
    assert isinstance(data.schema.inputs[0].example, int)


def test_added_spellings_of_missing(tmp_path: Path) -> None:
    content = columns()
    content["age"] = ["none" if row == 5 else "-9" if row == 8 else str(row % 9) for row in range(N)]
    source = write(tmp_path / "a.csv", content)
    with pytest.raises(InputError, match="row 6 'none'"):
        load(source)
    data = load(source, na_values=("none", "-9"))
    assert "none" in data.schema.na_values
    assert np.isnan(data.groups.numeric[5, 0])
    assert np.isnan(data.groups.numeric[8, 0])


def test_targets_without_a_value_do_not_count_in_inference(tmp_path: Path) -> None:
    content = columns()
    content["age"][7] = None
    content["age"][5] = 21
    content["height"] = ["tall" if row == 7 else str(row % 5) for row in range(N)]
    data = load(write(tmp_path / "a.csv", content))
    assert data.schema.inputs[0].required
    assert np.isnan(data.groups.numeric[7]).any()


def test_regression(tmp_path: Path) -> None:
    data = load(write(tmp_path / "a.parquet", columns()), target="age")
    assert data.schema.outputs.task == "multiclass"
    source = write(tmp_path / "a.parquet", columns())
    config = RunConfig(data=DataConfig(source=source, target="age"), objective=ObjectiveConfig(task="regression"))
    assert dataset.load(config).schema.outputs.task == "regression"
    assert dataset.load(config).split_by == "random"


def test_groups_stay_together(tmp_path: Path) -> None:
    content = columns() | {"house": [f"h{row // 3}" for row in range(N)]}
    source = write(tmp_path / "a.csv", content)
    data = dataset.load(RunConfig(data=DataConfig(source=source, target="bought"), split=SplitConfig(by="group:house")))
    assert data.split_by == "group:house"
    assert data.dropped["house"] == "says which rows belong together in the split"
    houses = [set(np.array(content["house"])[getattr(data.split, part)]) for part in ("train", "validation", "test")]
    assert sum(map(len, houses)) == N // 3
    assert sum(data.split.sizes().values()) == N - 2
    assert data.blocks is not None
    assert np.flatnonzero(data.blocks.first == -1).tolist() == [7, 50]


def test_the_latest_rows_test(tmp_path: Path) -> None:
    days = [f"{1 + row % 28:02}/{1 + row // 28:02}/2024" for row in range(N)]
    source = write(tmp_path / "a.csv", columns() | {"at": days, "age": [20 + row % 9 for row in range(N)]})
    config = RunConfig(
        data=DataConfig(source=source, target="bought", date_formats={"at": "%d/%m/%Y"}),
        split=SplitConfig(by="time:at"),
    )
    data = dataset.load(config)
    assert data.dropped["at"] == "says in which order rows are split"
    assert data.split.sizes() == {"train": 41, "validation": 8, "test": 9}
    assert data.split.train.max() < data.split.validation.min()
    assert data.split.validation.max() < data.split.test.min()
    slips = write(tmp_path / "b.csv", columns() | {"at": ["soon", *days[1:7], "NA", "", *days[9:]]})
    with pytest.raises(InputError, match="none in 2 of 58 rows") as caught:  # row 8 has no target
        dataset.load(msgspec.structs.replace(config, data=msgspec.structs.replace(config.data, source=slips)))
    assert caught.value.details == ("row 1: 'soon'", "row 9: ''")


def test_a_note_on_dates_that_order_rows(tmp_path: Path) -> None:
    source = write(tmp_path / "a.csv", columns() | {"at": [f"{1 + row % 12:02}/05/2024" for row in range(N)]})
    data = dataset.load(RunConfig(data=DataConfig(source=source, target="bought"), split=SplitConfig(by="time:at")))
    assert any(
        note.startswith("at: dates read as %m/%d/%Y (month first), though %d/%m/%Y fits as well") for note in data.notes
    )


def test_everything_wrong_at_once(tmp_path: Path) -> None:
    content = columns()
    content["age"][3] = float("inf")
    source = write(tmp_path / "a.parquet", content)
    config = RunConfig(
        data=DataConfig(source=source, target="bought", drop=("ages",)),
        split=SplitConfig(by="column:part"),
        objective=ObjectiveConfig(task="regression"),
    )
    with pytest.raises(InputError, match="4 problems must be fixed") as caught:
        dataset.load(config)
    assert [line for line in caught.value.details if "did you mean 'age'" in line]
    assert [line for line in caught.value.details if "no column 'part'" in line]
    assert [line for line in caught.value.details if "infinite values in 1 of 60 rows: row 4" in line]
    assert [line for line in caught.value.details if "'bought': a column of numbers" in line]


def test_an_unknown_column_in_the_configuration_alone_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"data.drop: no column 'citi' \(did you mean 'city'\?\)"):
        load(write(tmp_path / "a.csv", columns()), drop=("citi",))


def test_no_source() -> None:
    with pytest.raises(InputError, match="no data"):
        dataset.load(RunConfig())


def test_another_table_by_the_schema_of_a_run(tmp_path: Path) -> None:
    config = RunConfig(data=DataConfig(source=write(tmp_path / "a.parquet", columns()), target="bought"))
    data = dataset.load(config)
    other = {name: values[:9] for name, values in columns().items() if name != "id"}
    other["city"][0] = "Bonn"
    labelled = dataset.read_labelled(sources.read(write(tmp_path / "b.csv", other)), data.schema, config)
    assert labelled.target.tolist() == [value for value in other["bought"] if value]
    assert labelled.groups.categorical[:, 0].tolist() == ["Bonn", *other["city"][1:7], other["city"][8]]
    assert labelled.notes == ("bought: 1 of 9 rows has no value and was left out",)


def test_another_table_that_does_not_fit(tmp_path: Path) -> None:
    config = RunConfig(data=DataConfig(source=write(tmp_path / "a.parquet", columns()), target="bought"))
    schema = dataset.load(config).schema
    wrong = columns()
    del wrong["city"]
    wrong["member"] = ["maybe", *wrong["member"][1:7], "maybe", *wrong["member"][8:]]
    with pytest.raises(RowFaults) as faults:
        dataset.read_labelled(sources.read(write(tmp_path / "b.csv", wrong)), schema, config)
    # row 8 has no target, so it does not matter
    assert [(fault.row, fault.field, fault.code) for fault in faults.value.faults] == [
        (None, "city", "missing"),
        (1, "member", "type"),
    ]
    with pytest.raises(InputError, match=r"it knows no, yes"):
        dataset.read_labelled(
            sources.read(write(tmp_path / "c.csv", {**columns(), "bought": ["perhaps"] * N})), schema, config
        )
    with pytest.raises(InputError, match="no column 'bought'"):
        dataset.read_labelled(sources.read(write(tmp_path / "d.csv", {"age": [1, 2]})), schema, config)


@pytest.mark.parametrize("held_out", ["val", "validation"])
def test_a_folder_of_images_without_a_test_part(tmp_path: Path, held_out: str) -> None:
    for part, count in (("train", 10), (held_out, 3)):
        for label in ("cat", "dog"):
            place = tmp_path / part / label
            place.mkdir(parents=True)
            for index in range(count):
                Image.new("L", (8, 8), index).save(place / f"{index}.png")
    data = dataset.load(RunConfig(data=DataConfig(source=str(tmp_path))))
    assert data.split.sizes() == {"train": 16, "validation": 4, "test": 6}
    assert any("the validation part becomes the test part" in note for note in data.notes)
