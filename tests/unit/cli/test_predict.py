"""What `dle-predict` shows of values that training did not see, and of a workbook with several sheets."""

import json
from pathlib import Path

import msgspec
import openpyxl
import pytest
from tests import bundles, commands

from dle_bundle.values.numbers import NumberFormat


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    rooms = msgspec.structs.replace(
        bundles.PRICE.inputs[0], unit="%", number_format=NumberFormat(unit="%"), observed_range=(2.0, 80.0)
    )
    schema = msgspec.structs.replace(bundles.PRICE, inputs=(rooms, bundles.PRICE.inputs[1]))
    bundles.write(tmp_path / "bundle", schema, name="price")
    (tmp_path / "in.csv").write_text("rooms,town\n0.05,A\n0.5,B\n")
    return tmp_path


def test_values_that_training_did_not_see(folder: Path) -> None:
    done = commands.run("dle-predict", "bundle", "in.csv", "--out", "out.csv", folder=folder)
    line = next(line for line in done.stdout.splitlines() if "out of range in rooms" in line)
    assert " ".join(line.split()) == "out of range in rooms 2 rows, such as 0.05, 0.5; training saw 2 to 80 %"
    warning = (
        "rooms: all values are from 0.05 to 0.5, and training saw 2 to 80 %; if they are fractions, such as 0.05 for 5 "
        "%, multiply them by 100"
    )
    assert done.stderr == f"Warning: {warning}\n"
    done = commands.run("dle-predict", "bundle", "in.csv", "--out", "out.csv", "--json", folder=folder)
    assert json.loads(done.stdout)["out_of_range"] == {
        "rooms": {"rows": 2, "examples": [0.05, 0.5], "range": [2.0, 80.0], "warning": warning}
    }


def test_values_that_training_saw(folder: Path) -> None:
    (folder / "in.csv").write_text("rooms,town\n5%,A\n50%,B\n")
    done = commands.run("dle-predict", "bundle", "in.csv", "--out", "out.csv", folder=folder)
    assert "out of range" not in done.stdout
    assert not done.stderr
    document = commands.document("dle-predict", "bundle", "in.csv", "--out", "out.csv", folder=folder)
    assert document["out_of_range"] == {}


def test_a_sheet(folder: Path) -> None:
    book = openpyxl.Workbook()
    for name in ("Sheet", "June 2024"):
        sheet = book[name] if name in book.sheetnames else book.create_sheet(name)
        for line in ["rooms", "town"], ["5%", "A"]:
            sheet.append(line)
    book.save(folder / "in.xlsx")
    done = commands.run("dle-predict", "bundle", "in.xlsx", "--out", "out.csv", folder=folder)
    assert "another sheet, add --sheet 'June 2024'" in done.stdout
    chosen = ("--sheet", "June 2024")
    done = commands.run("dle-predict", "bundle", "in.xlsx", *chosen, "--out", "out.csv", folder=folder)
    assert "sheet" not in done.stdout
    refused = commands.refusal("dle-predict", "bundle", "in.csv", *chosen, "--out", "out.csv", folder=folder)
    assert "--sheet 'June 2024': the source has no workbook (.xlsx)" in refused
