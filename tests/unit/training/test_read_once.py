"""A training reads its source once, parses a column once, tokenises a text once and fits its objective once."""

import csv
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from tests import many_inputs

from dle_bundle import integrity
from dle_bundle.images import pixels
from dle_bundle.tables import columns
from dle_bundle.text import Tokenizer
from dle_training.config import run_config
from dle_training.data import dataset as datasets
from dle_training.data import sources
from dle_training.data.dataset import Dataset
from dle_training.optimization import objectives
from dle_training.runs import evaluate, prepare, train

N = 120
TEXTS = {"review": [f"{'good' if row % 2 else 'bad'} thing number {row} of many" for row in range(N)]}
NUMBERS = {"price": [str(row % 17 / 4) for row in range(N)], "old": [str(row % 5) for row in range(N)]}
NAMES = {"town": [f"town {row % 7}" for row in range(N)]}
DATES = {"born": [f"{1 + row % 28:02}.01.2020" for row in range(N)]}
LIKED = [("yes" if row % 2 else "no") if row != 50 else "" for row in range(N)]


@pytest.fixture
def table(tmp_path: Path) -> Path:
    content = {**TEXTS, **NUMBERS, **NAMES, **DATES, "liked": LIKED}
    with (tmp_path / "rows.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(content)
        writer.writerows(zip(*content.values(), strict=True))
    return tmp_path / "rows.csv"


def counted(monkeypatch: pytest.MonkeyPatch, owner: Any, name: str, key: Callable[..., Any]) -> Counter[Any]:
    """Counts the calls of a function by what `key` makes of their arguments."""
    calls: Counter[Any] = Counter()
    function = getattr(owner, name)

    def called(*arguments: Any, **options: Any) -> Any:
        calls.update([key(*arguments)])
        return function(*arguments, **options)

    monkeypatch.setattr(owner, name, called)
    return calls


def first(column: Any, *_: Any) -> Any:
    """A column by its first value."""
    return column[0].as_py()


def test_a_training_does_nothing_twice(table: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sources_read = counted(monkeypatch, sources, "read", lambda source, *_: source)
    fits = counted(monkeypatch, objectives, "fit", lambda task, *_: task)
    encoded: list[str] = []
    encode = Tokenizer._encodings

    def spied(self: Tokenizer, text: npt.NDArray[np.object_]) -> Any:
        encoded.extend(text.ravel().tolist())
        return encode(self, text)

    monkeypatch.setattr(Tokenizer, "_encodings", spied)
    settings = [
        "preset=fast",
        "training.epochs=1",
        "model.hidden=[4]",
        "device=cpu",
        "objective.class_weights=balanced",
    ]
    flags = {"data.source": str(table), "data.target": "liked"}
    made = prepare.prepare(run_config.load(None, settings, flags))
    train.train(prepare.create(tmp_path / "run", made), made)
    assert sources_read == {str(table): 1}
    assert fits == {"binary": 1}
    learnt = np.concatenate([made.dataset.split.train, made.dataset.split.validation])
    assert sorted(encoded) == sorted(np.array(TEXTS["review"])[learnt].tolist())


def test_an_evaluation_reads_its_source_once(table: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = ["preset=fast", "training.epochs=1", "model.hidden=[4]", "device=cpu", "data.keep_rows=0"]
    made = prepare.prepare(run_config.load(None, settings, {"data.source": str(table), "data.target": "liked"}))
    run = prepare.create(tmp_path / "run", made)
    train.train(run, made)
    (tmp_path / "other.csv").write_text("\n".join(table.read_text().splitlines()[:40]))
    sources_read = counted(monkeypatch, sources, "read", lambda source, *_: source)
    assert evaluate.evaluate_source(run, str(table)).on_test
    assert not evaluate.evaluate_source(run, str(tmp_path / "other.csv")).on_test
    assert sources_read == {str(table): 1, str(tmp_path / "other.csv"): 1}


def test_a_column_is_parsed_once(table: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    texts = counted(monkeypatch, columns, "categories", first)
    numbers = counted(monkeypatch, columns, "numbers", first)
    moments = counted(monkeypatch, columns, "moments", first)
    data = load(table)
    kinds = {field.name: field.kind for field in data.schema.inputs}
    assert kinds == {
        "review": "text", "price": "numeric", "old": "numeric", "town": "categorical", "born": "datetime"
    }  # fmt: skip
    for name, content in {**TEXTS, **NAMES}.items():
        assert texts[content[0]] == 1, name
    for name, content in NUMBERS.items():
        assert numbers[content[0]] == 1, name
    assert moments == {DATES["born"][0]: 1}


def load(table: Path) -> Dataset:
    return datasets.load(run_config.load(None, [], {"data.source": str(table), "data.target": "liked"}))


def test_an_image_file_is_read_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    many_inputs.write_sources(tmp_path)
    contents = counted(monkeypatch, pixels, "content", lambda place: place)
    digests = counted(monkeypatch, integrity, "digest", lambda path: path)
    for memory in ("1", "0.00001"):
        settings = [f"data.source={tmp_path / 'pictures'}", f"data.image_memory={memory}"]
        data = datasets.load(run_config.load(None, settings))
        files = sorted(str(path) for path in (tmp_path / "pictures").rglob("*.png"))
        assert contents == dict.fromkeys(files, 1)
        assert not digests
        assert datasets.digest(sources.read(str(tmp_path / "pictures")), data.schema) == data.digest
        contents.clear()
        digests.clear()


def test_what_inference_has_read_is_what_the_schema_reads(table: Path) -> None:
    data = load(table)
    again, faults = columns.to_groups(sources.read(str(table)).table, data.schema)
    assert not faults
    rows = np.concatenate([data.split.train, data.split.validation, data.split.test])
    assert len(rows) == N - 1
    for name in ("numeric", "categorical", "datetime", "text"):
        found, expected = getattr(data.groups, name)[rows], getattr(again, name)[rows]
        assert found.dtype == expected.dtype
        np.testing.assert_array_equal(found, expected)
    assert data.groups.text is not None
    assert data.groups.text[50].tolist() == [""], "a row without a target is read by nobody"
