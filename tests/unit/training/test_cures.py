"""Every setting that a message about a table proposes works when it is typed as printed."""

import ast
import re
import shlex
from collections.abc import Iterator
from contextlib import nullcontext
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import openpyxl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from dle_bundle.errors import InputError
from dle_bundle.proposals import for_python, in_python
from dle_training import api
from dle_training.config import run_config
from dle_training.data import dataset, sources
from dle_training.data.dataset import Dataset
from dle_training.settings.proposals import setting

N = 60
OTHER = [str(row % 7) for row in range(N)]
TARGET = ["hit" if row % 3 else "miss" for row in range(N)]


def write(path: Path, name: str, values: list[str], target: list[str]) -> str:
    quoted = [[f'"{text}"' for text in line] for line in zip(values, OTHER, target, strict=True)]
    path.write_text("\n".join([f'"{name}","other","y"', *map(",".join, quoted)]) + "\n", encoding="utf-8")
    return str(path)


@pytest.fixture(params=["shell", "python"])
def door(request: pytest.FixtureRequest) -> Iterator[None]:
    """Messages for the users of a command, and for those of `dle_training.train`."""
    with in_python() if request.param == "python" else nullcontext():
        yield


both_doors = pytest.mark.usefixtures("door")
_ARGUMENT = re.compile(r"[a-z]+=\{(?:[^{}]|\{[^{}]*\})*\}")


def load(source: str, *assignments: str) -> Dataset:
    """Read the source with settings as `--set` takes them, or as `dle_training.train` does."""
    given = [text for text in assignments if not _ARGUMENT.fullmatch(text)]
    arguments: dict[str, Any] = {}
    for text in (text for text in assignments if text not in given):
        arguments |= {name: ast.literal_eval(value) for name, value in [text.split("=", 1)]}
    flags = {"data.source": source, "data.target": "y", **dict(api.dotted(arguments))}
    return dataset.load(run_config.load(None, given, flags))


def proposed(message: str) -> list[str]:
    """The settings of a message, as a shell gives them to --set, or as Python takes them."""
    if for_python():
        return _ARGUMENT.findall(message)
    found = re.findall(r"(?:set|or|such as) ('(?:[^']|'\"'\"')*'|[a-z_]+\.[\w.-]+=(?:,|[^\s;,]+))", message)
    return [word for text in found for word in shlex.split(text)]


MIXED = [("soon" if row == 5 else str(row * 3 % 17)) for row in range(N)]
BRACKETS = [("n, a [x]" if row == 5 else str(row * 3 % 17)) for row in range(N)]
LATE = [("later" if row == 5 else f"{row % 28 + 1}.03.2024") for row in range(N)]
OTHER_DATES = [
    (f"{row // 28 + 11}.05.2024" if row > 57 else f"2024-{row // 28 + 1:02}-{row % 28 + 1:02}") for row in range(N)
]
FREE = [("Free" if row % 9 == 5 else f"${row * 7}.50") for row in range(N)]
FACTOR = [("5k" if row == 5 else str(row * 3 % 17)) for row in range(N)]
COMMAS = [f"{row % 9 + 1},{row * 7 % 1000:03}" for row in range(N)]


@both_doors
@pytest.mark.parametrize("name", ["plain", "two words", "a.b", "it's", 'a "b"', "naïve-1"])
@pytest.mark.parametrize(
    ("values", "count"),
    [(MIXED, 2), (BRACKETS, 2), (LATE, 2), (OTHER_DATES, 3), (COMMAS, 2), (FREE, 2), (FACTOR, 3)],
    ids=[
        "word among numbers",
        "punctuation among numbers",
        "word among dates",
        "other dates among dates",
        "ambiguous commas",
        "word among amounts",
        "factor among numbers",
    ],
)
def test_refusals(name: str, values: list[str], count: int, tmp_path: Path) -> None:
    source = write(tmp_path / "rows.csv", name.replace('"', '""'), values, TARGET)
    with pytest.raises(InputError) as caught:
        load(source)
    cures = proposed(str(caught.value))
    assert len(cures) == count, str(caught.value)
    for cure in cures:
        assert name in {field.name for field in load(source, cure).schema.inputs} | set(load(source, cure).dropped)


@both_doors
@pytest.mark.parametrize("name", ["plain", "a.b"])
def test_notes(name: str, tmp_path: Path) -> None:
    points = [f"{row % 9 + 1}.{row * 7 % 1000:03}" for row in range(N)]
    words = ["None" if row % 4 == 0 else "Mild" if row % 3 else "Severe" for row in range(N)]
    source = write(tmp_path / "points.csv", name, points, TARGET)
    (cure,) = proposed(next(note for note in load(source).notes if "decimal point" in note))
    assert load(source, cure).groups.numeric[0, 0] == 1000 * load(source).groups.numeric[0, 0]
    source = write(tmp_path / "words.csv", name, words, TARGET)
    before = load(source)
    (cure,) = proposed(next(note for note in before.notes if "kept" in note))
    assert set(before.schema.inputs[0].categories or ()) == {"None", "Mild", "Severe"}
    after = load(source, cure).schema.inputs[0]
    assert set(after.categories or ()) == {"Mild", "Severe"}
    assert not after.required


@both_doors
def test_words_of_the_target(tmp_path: Path) -> None:
    target = ["None" if row % 4 == 0 else "Mild" if row % 3 else "Severe" for row in range(N)]
    source = write(tmp_path / "rows.csv", "x", OTHER, target)
    before = load(source)
    assert before.schema.outputs.classes == ("Mild", "None", "Severe")
    (cure,) = proposed(next(note for note in before.notes if "kept" in note))
    assert load(source, cure).schema.outputs.classes == ("Mild", "Severe")


@both_doors
def test_a_factor_among_the_numbers_of_a_target(tmp_path: Path) -> None:
    target = ["5k" if row == 5 else f"{row}.5" for row in range(N)]
    source = write(tmp_path / "rows.csv", "x", OTHER, target)
    with pytest.raises(InputError) as caught:
        load(source)
    numbers, missing, _ = proposed(str(caught.value))
    assert 5000 in load(source, numbers).target
    assert load(source, missing).schema.outputs.task == "regression"


@both_doors
def test_columns_of_objects(tmp_path: Path) -> None:
    rows = {name: [{"id": row} for row in range(N)] for name in ("user", "item")}
    pq.write_table(pa.table({**rows, "other": OTHER, "y": TARGET}), tmp_path / "rows.parquet")
    given: list[str] = []
    for names in (["user", "item"], ["user", "item"][1:]):
        with pytest.raises(InputError, match="leave it out with") as caught:
            load(str(tmp_path / "rows.parquet"), *given)
        cures = [
            text.partition("leave it out with ")[2].partition("\n")[0] for text in str(caught.value).split("holds ")[1:]
        ]
        assert len(cures) == len(names)
        given = [cures[0]] if for_python() else shlex.split(cures[0])
    assert [field.name for field in load(str(tmp_path / "rows.parquet"), *given).schema.inputs] == ["other"]


@pytest.mark.parametrize("name", ["plain", "two words", "a.b"])
def test_a_kind_that_does_not_fit_the_type(name: str, tmp_path: Path) -> None:
    rows = {name: [[row % 5, 2] for row in range(N)], "other": OTHER, "y": TARGET}
    pq.write_table(pa.table(rows), tmp_path / "rows.parquet")
    for kind in ("categorical", "numeric", "datetime"):
        given = setting("data.kinds", kind, name)
        with pytest.raises(InputError, match=r"take it out of data\.kinds, or leave it out with") as caught:
            load(str(tmp_path / "rows.parquet"), *shlex.split(given))
        cure = str(caught.value).partition("leave it out with ")[2]
        assert [field.name for field in load(str(tmp_path / "rows.parquet"), *shlex.split(cure)).schema.inputs] == [
            "other"
        ]


@pytest.mark.parametrize("name", ["plain", "two words", "a.b"])
def test_a_split_by_categories(name: str, tmp_path: Path) -> None:
    days = [f"{row % 28 + 1}~{row % 12 + 1}~2024" for row in range(N)]
    source = write(tmp_path / "rows.csv", name, days, TARGET)
    with pytest.raises(InputError) as caught:
        load(source, f"split.by=time:{name}")
    cures = re.findall(r"(?:as in|set) ('[^']*'|[^\s;]+)", caught.value.message)
    assert [shlex.split(cure)[0].partition("=")[0].partition(".")[2].partition(".")[0] for cure in cures] == [
        "date_formats",
        "kinds",
    ]
    (cure,) = shlex.split(cures[0].replace("%d.%m.%Y", "%d~%m~%Y"))
    assert load(source, f"split.by=time:{name}", cure).split_by == f"time:{name}"


def test_images(tmp_path: Path) -> None:
    from PIL import Image

    for name, level in (("dark", 10), ("light", 200)):
        (tmp_path / name).mkdir()
        for row in range(10):
            Image.new("L", (60, 20), level).save(tmp_path / name / f"{row}.png")
    settings = [f"data.source={tmp_path}", "preprocessing.image_size=16"]
    (note,) = dataset.load(run_config.load(None, settings, {})).notes
    expected = [("crop", 16, 16), ("stretch", 16, 16), ("crop", 8, 24)]
    for cure, wanted in zip(proposed(note), expected, strict=True):
        form = dataset.load(run_config.load(None, [*settings, cure], {})).schema.image[0].image
        assert form is not None
        assert (form.fit, form.height, form.width) == wanted
    (tmp_path / "dark" / "0.png").write_bytes(b"")
    with pytest.raises(InputError) as caught:
        dataset.load(run_config.load(None, settings, {}))
    (cure,) = proposed(caught.value.message)
    notes = dataset.load(run_config.load(None, [*settings, cure], {})).notes
    (cure,) = (cure for note in notes for cure in proposed(note) if cure.startswith("data."))
    with pytest.raises(InputError):
        dataset.load(run_config.load(None, [*settings, cure], {}))


@both_doors
def test_few_whole_numbers(tmp_path: Path) -> None:
    target = [str(row % 7 if row < N - 1 else 9) for row in range(N)]
    source = write(tmp_path / "rows.csv", "x", [str(row % 11) for row in range(N)], target)
    assert load(source).schema.outputs.task == "regression"
    whole = [str(row % 4) for row in range(N)]
    source = write(tmp_path / "whole.csv", "x", [str(row % 11) for row in range(N)], whole)
    classes = load(source)
    assert classes.schema.outputs.task == "multiclass"
    (cure,) = proposed(next(note for note in classes.notes if "taken as classes" in note))
    assert load(source, cure).schema.outputs.task == "regression"


@pytest.mark.parametrize("name", ["at", "sold at", "it's"])
def test_a_split_by_time(name: str, tmp_path: Path) -> None:
    days = [f"2024-{row % 12 + 1:02}-{row % 28 + 1:02}" for row in range(N)]
    source = write(tmp_path / "rows.csv", name, days, TARGET)
    (note,) = (note for note in load(source).notes if "--split" in note)
    _, cure = shlex.split(note[note.index("--split") :])
    flags = {"data.source": source, "data.target": "y", "split.by": cure}
    later = dataset.load(run_config.load(None, [], flags))
    assert later.split_by == f"time:{name}"
    assert not any("--split" in note for note in later.notes)


@pytest.mark.parametrize(
    "days",
    [
        [f"{row % 24:02}:30" for row in range(N)],
        [("" if row == 3 else f"2024-01-{row % 28 + 1:02}") for row in range(N)],
        ["2024-01-01" if row % 3 else "2024-12-31" for row in range(N)],
    ],
    ids=["times of the day", "a date is missing", "two dates"],
)
def test_no_split_by_time(days: list[str], tmp_path: Path) -> None:
    source = write(tmp_path / "rows.csv", "at", days, TARGET)
    for asked in ((), ("split.by=random",)):
        assert not any("--split" in note for note in load(source, *asked).notes)


@pytest.mark.parametrize("name", ["user_id", "user id", "user's id", "user.id"])
def test_a_split_by_the_entities_of_an_identifier(name: str, tmp_path: Path) -> None:
    users = [f"u{row % 20}" for row in range(N)]
    source = write(tmp_path / "rows.csv", name, users, TARGET)
    (note,) = (note for note in load(source).notes if "identifier" in note)
    _, cure, *_ = shlex.split(note[note.index("--split") :].partition("; ")[0])
    found = dataset.load(run_config.load(None, [], {"data.source": source, "data.target": "y", "split.by": cure}))
    assert found.split_by == f"group:{name}"
    parts = [{users[row] for row in rows} for rows in (found.split.train, found.split.validation, found.split.test)]
    assert sum(map(len, parts)) == 20
    (cure,) = proposed(note)
    assert name in load(source, cure).dropped


@pytest.mark.parametrize("name", ["sold", "sold on", "it's sold"])
def test_settings_of_a_forecast(name: str, tmp_path: Path) -> None:
    path = tmp_path / "rows.csv"
    days = [str(date(2024, 1, 1) + timedelta(days=row)) for row in range(N)]
    path.write_text(f'"{name}",y\n' + "".join(f"{day},{row % 7}.5\n" for row, day in enumerate(days)))
    (note,) = (note for note in load(str(path)).notes if "to forecast" in note)
    words = shlex.split(note[note.index("--set") :])
    layout = load(str(path), *words[1::2]).schema.layout
    assert layout is not None
    assert (words[::2], layout.time, layout.window) == (["--set"] * 2, name, 15)


ROWS = "".join(f"{row % 11},{row % 7},{TARGET[row]}\n" for row in range(N))
TABLE = "a,b,y\n" + ROWS


@both_doors
@pytest.mark.parametrize(
    "content",
    [
        ("Report 2023,,\n" + TABLE).encode(),
        (",,\nReport\n" + TABLE).encode(),
        ("TOA5,CR1000,CR1000,12345\n" + TABLE).encode(),
        TABLE.replace("hit", "häß").encode("cp1252"),
        TABLE.replace("hit", "Łódź").encode("cp1250"),
        (TABLE + "(60 rows)\n").encode(),
        TABLE.replace("\n", "\n-----,-----,---\n", 1).encode(),
    ],
    ids=[
        "padded title",
        "title",
        "wide line of a logger",
        "western encoding",
        "other encoding",
        "count of rows",
        "line below the header",
    ],
)
def test_files(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "rows.csv"
    path.write_bytes(content)
    with pytest.raises(InputError) as caught:
        load(str(path))
    cures = [cure for cure in proposed(caught.value.message) if "first" not in cure]
    assert cures, caught.value.message
    for cure in cures:
        found = load(str(path), cure)
        assert [field.name for field in found.schema.inputs] == ["a", "b"]
        assert len(found.target) == N


@both_doors
@pytest.mark.parametrize("units", ["°C,%,", '"m","kg",class'])
def test_units_below_the_header(units: str, tmp_path: Path) -> None:
    path = tmp_path / "rows.csv"
    path.write_text(TABLE.replace("\n", f"\n{units}\n", 1), encoding="utf-8")
    with pytest.raises(InputError, match="has words above numbers") as caught:
        load(str(path))
    left_out, names, data = proposed(caught.value.message)
    assert [field.name for field in load(str(path), left_out).schema.inputs] == ["a", "b"]
    assert len(load(str(path), left_out).target) == N
    with pytest.raises(InputError, match="no column 'y'"):
        load(str(path), names)
    if units.endswith(","):
        assert "1 of 61 rows has no value" in load(str(path), data).notes[0]
    else:
        with pytest.raises(InputError, match="with something else in 1 of"):
            load(str(path), data)


@both_doors
def test_a_row_of_totals_and_a_line_below_it(tmp_path: Path) -> None:
    path = tmp_path / "rows.csv"
    others = sum(map(int, OTHER))
    rows = "".join(f"shop {row % 9},{other},{TARGET[row]}\n" for row, other in enumerate(OTHER))
    path.write_text(f"shop,n,y\n{rows}Total,{others},\nPrinted: 2024\n")
    given: list[str] = []
    for found in ("Printed", "sums up"):
        with pytest.raises(InputError, match=found) as caught:
            load(str(path), *given)
        given = proposed(caught.value.message.replace("out with", "set"))
    assert len(load(str(path), *given).target) == N


def test_a_file_without_a_header(tmp_path: Path) -> None:
    path = tmp_path / "rows.csv"
    path.write_text(ROWS)
    with pytest.raises(InputError) as caught:
        load(str(path))
    none, first = proposed(caught.value.message)
    assert dataset.load(run_config.load(None, [f"data.source={path}", "data.target=c3", none], {})).target.size == N
    with pytest.raises(InputError, match="columns with different names"):
        load(str(path), first)


@both_doors
@pytest.mark.parametrize("given", ["data.delimiter=;", "data.delimiter=|"])
def test_a_separator_that_does_not_fit(given: str, tmp_path: Path) -> None:
    for mark in (",", "\t", "|", "~", "^"):
        if given == f"data.delimiter={mark}":
            continue
        path = tmp_path / "rows.csv"
        path.write_text(TABLE.replace(",", mark))
        with pytest.raises(InputError) as caught:
            load(str(path), *([given] if mark in ",\t|" else []))
        (cure,) = proposed(caught.value.message)
        assert len(load(str(path), cure).schema.inputs) == 2


@both_doors
@pytest.mark.parametrize("name", ["plain", "a.b"])
@pytest.mark.parametrize(
    ("values", "kind"),
    [
        (["None", "NA", ""], "categorical"),
        (["20240131", "20240201", "20240203"], "datetime"),
        (["1E10", "2E11", "3E5"], "categorical"),
        (["1", "2", "3.5", "-999"], "numeric"),
        (["2024-01-31", "2024-02-01", "2024-02-03", "9999-12-31"], "datetime"),
        (["007", "7", "12"], "categorical"),
        (["1.1", "1.10", "1.2"], "categorical"),
        (["01/2023", "02/2023", "12/2023"], "numeric"),
        (["2 PM", "3 PM", "10 PM"], "numeric"),
    ],
    ids=[
        "words alone",
        "dates in digits",
        "codes in powers of ten",
        "number that means missing",
        "date that means missing",
        "leading zeros",
        "versions",
        "months of one year",
        "hours of the afternoon",
    ],
)
def test_notes_on_other_meanings(name: str, values: list[str], kind: str, tmp_path: Path) -> None:
    source = write(tmp_path / "rows.csv", name, [values[row % len(values)] for row in range(N)], TARGET)
    before = load(source)
    notes = [note for note in before.notes if "latest rows" not in note]
    (cure,) = set(proposed(" ".join([*notes, *before.dropped.values()])))
    field = next(field for field in load(source, cure).schema.inputs if field.name == name)
    assert field.kind == kind
    assert field.required == (values[0] not in ("None", "1", "2024-01-31"))


@both_doors
@pytest.mark.parametrize("name", ["plain", "two words", "a.b", "it's", "naïve-1"])
def test_columns_of_a_forecast(name: str, tmp_path: Path) -> None:
    """A text that every series has one of, and one of which there are too many."""
    lines = [f'"shop","day","{name}","note","y"']
    lines += [f"{shop},{day},town {shop},note {day % 40},{day % 7}" for shop in "ab" for day in range(N)]
    (tmp_path / "rows.csv").write_text("\n".join(lines), encoding="utf-8")
    source = (str(tmp_path / "rows.csv"), "data.sequence_id=shop", "data.time=day", "data.window=4")
    before = load(*source)
    (cure,) = proposed(next(note for note in before.notes if "inputs of the series" in note))
    assert name in {field.name for field in load(*source, cure).schema.categorical}
    (cure,) = proposed(before.dropped["note"])
    after = load(*source, cure).schema.layout
    assert after is not None
    assert "note" in after.channels


@pytest.mark.parametrize("name", ["Data", "June 2024", "2023", "it's", 'a "b"'])
def test_sheets(name: str, tmp_path: Path) -> None:
    book = openpyxl.Workbook()
    book["Sheet"].append(["x", "other", "y"])
    book["Sheet"].append([1, 2, "hit"])
    sheet = book.create_sheet(name)
    sheet.append(["z", "other", "y"])
    for row in range(N):
        sheet.append([row % 5, OTHER[row], TARGET[row]])
    book.save(tmp_path / "book.xlsx")
    (note,) = sources.read(str(tmp_path / "book.xlsx")).notes
    (cure,) = proposed(note)
    made = load(str(tmp_path / "book.xlsx"), cure)
    assert [field.name for field in made.schema.inputs] == ["z", "other"]
    assert made.schema.text_format.sheet == name
    assert made.source == str(tmp_path / "book.xlsx")


def refused(source: str) -> str:
    """The one setting that the refusal of a source without `y` proposes."""
    with pytest.raises(InputError, match="no column 'y' to predict") as caught:
        load(source)
    (cure,) = proposed(caught.value.message)
    return cure


@both_doors
def test_the_target_of_another_sheet(tmp_path: Path) -> None:
    book = openpyxl.Workbook()
    for words in (["This book", "has data"], ["of", "May"], ["and", "June"]):
        book["Sheet"].append(words)
    book.create_sheet("Notes").append(["nothing"])
    sheet = book.create_sheet("The data")
    sheet.append(["z", "other", "y"])
    for row in range(N):
        sheet.append([row % 5, OTHER[row], TARGET[row]])
    book.save(tmp_path / "book.xlsx")
    cure = refused(str(tmp_path / "book.xlsx"))
    assert load(str(tmp_path / "book.xlsx"), cure).schema.text_format.sheet == "The data"


@pytest.mark.parametrize("suffix", ["csv", "xlsx"])
def test_the_target_in_a_later_row(suffix: str, tmp_path: Path) -> None:
    rows = [["Size", "", "Result"], ["z", "other", "y"]]
    rows += [[str(row % 5), OTHER[row], TARGET[row]] for row in range(N)]
    path = tmp_path / f"rows.{suffix}"
    if suffix == "csv":
        path.write_text("\n".join(map(",".join, rows)))
    else:
        book = openpyxl.Workbook()
        for cells in rows:
            book["Sheet"].append(cells)
        book.save(path)
    assert refused(str(path)) == "data.skip_rows=1"
    assert [field.name for field in load(str(path), "data.skip_rows=1").schema.inputs] == ["z", "other"]


def test_the_target_between_spaces(tmp_path: Path) -> None:
    path = tmp_path / "rows.csv"
    path.write_text("z other y\n" + "".join(f"{row % 5} {OTHER[row]} {TARGET[row]}\n" for row in range(N)))
    cure = refused(str(path))
    assert [field.name for field in load(str(path), cure).schema.inputs] == ["z", "other"]


def test_a_target_that_is_nowhere(tmp_path: Path) -> None:
    path = tmp_path / "rows.csv"
    path.write_text("z,other\n" + "".join(f"{row % 5},{OTHER[row]}\n" for row in range(N)))
    with pytest.raises(InputError) as caught:
        load(str(path))
    assert caught.value.message == "no column 'y' to predict"
