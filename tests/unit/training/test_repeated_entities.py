"""Columns that identify customers or patients with several rows each."""

import re
import shlex
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from dle_training.config import run_config
from dle_training.data import dataset, memory
from dle_training.data.dataset import Dataset

MONTHS, CUSTOMERS = 12, 60
ROWS = MONTHS * CUSTOMERS
RNG = np.random.default_rng(1)
WHO = np.repeat(np.arange(CUSTOMERS), MONTHS)
CODES = [f"C{4711 + 37 * number}" for number in WHO]
DATES = [f"2023-{month + 1:02}-01" for month in range(MONTHS)] * CUSTOMERS
AGES = RNG.integers(18, 90, CUSTOMERS)[WHO]
TOWNS = RNG.choice(["north", "south", "west"], CUSTOMERS)[WHO]
NUMBERS = RNG.permutation(10_000)[:CUSTOMERS]
SPENT = RNG.normal(size=ROWS)
TARGET = np.where(RNG.random(ROWS) < 0.5, "yes", "no")


def load(*settings: str, target: Any = TARGET, **columns: Any) -> Dataset:
    table = pa.table({"spent": SPENT, **columns, "y": target})
    return dataset.load(run_config.load(None, ["data.target=y", *settings]), memory.read(table))


def notes(*settings: str, target: Any = TARGET, **columns: Any) -> list[str]:
    return [note for note in load(*settings, target=target, **columns).notes if "identifier" in note]


@pytest.mark.parametrize("name", ["customer_id", "customerId", "customer", "Customer No.", "user name"])
def test_a_column_of_a_telling_name(name: str) -> None:
    (note,) = notes(**{name: CODES})
    assert note.startswith(
        f"{name}: looks like an identifier whose values repeat (60 values, about 12 rows each), and training and "
        "test share them; if the model will meet new values, test it on such values: --split "
    )
    assert notes(**{name: WHO})
    split, drop = re.findall(r"(?:--split|set) ('[^']*'|[^\s;]+)", note)
    found = load(f"split.by={shlex.split(split)[0]}", **{name: CODES})
    assert found.split_by == f"group:{name}"
    assert not any("identifier" in note for note in found.notes)
    (cure,) = shlex.split(drop)
    assert name in load(cure, **{name: CODES}).dropped


@pytest.mark.parametrize("name", ["user_age", "sales per customer", "paid", "machine speed", "index"])
def test_numbers_of_an_entity_are_no_identifier(name: str) -> None:
    assert not notes(**{name: AGES})


def test_values_with_constant_columns_beside_them() -> None:
    assert notes(x=CODES, age=AGES, town=TOWNS)
    assert notes(x=NUMBERS[WHO], age=AGES, town=TOWNS)
    assert notes(x=CODES, town=TOWNS, target=np.where(RNG.random(CUSTOMERS) < 0.5, "yes", "no")[WHO])
    assert not notes(x=CODES, town=TOWNS)
    assert not notes(x=WHO, age=AGES, town=TOWNS)  # as the number of a day with its month and season


@pytest.mark.parametrize(("rows_each", "entities"), [(12, 2_000), (1_200, 20)])
def test_large_tables_are_judged_by_some_entities(rows_each: int, entities: int) -> None:
    who, rng = np.repeat(np.arange(entities), rows_each), np.random.default_rng(2)
    codes = np.array([f"C{4711 + 37 * number}" for number in range(entities)])[who]
    rows = {"spent": rng.normal(size=len(who)), "target": rng.choice(["no", "yes"], len(who))}
    ages, towns = rng.integers(18, 90, entities)[who], rng.choice(["north", "south", "west"], entities)[who]
    assert notes(**rows, x=codes, age=ages, town=towns)
    assert not notes(**rows, x=codes, age=rng.permutation(ages), town=towns)


def test_values_with_a_date_for_each_row() -> None:
    assert notes(x=[f"Name {'abcdefghij'[number % 10]}{number}" for number in WHO], month=DATES)
    assert notes(x=NUMBERS[WHO], month=DATES)
    assert not notes(x=RNG.permutation(CODES), month=DATES)


def test_hours_of_a_day_are_no_identifier() -> None:
    """There is one row for each hour of each day, too."""
    days = [f"2023-03-{day + 1:02}" for day in range(30) for _ in range(24)]
    for hours in ([*range(24)], [900 * hour for hour in range(24)], [f"{hour:02}" for hour in range(24)]):
        assert not notes(hour=hours * 30, day=days)


def test_an_identifier_with_missing_values_gives_no_groups() -> None:
    (note,) = notes(customer_id=[None if row % 50 == 0 else code for row, code in enumerate(CODES)])
    assert "--split" not in note
    assert "(60 values, about 12 rows each)" in note
    assert "a split by group keeps them apart, but needs a value in every row" in note


def test_categories_are_no_identifiers() -> None:
    """Few values, values of very different numbers of rows, and values that hardly repeat."""
    assert not notes(shop_id=WHO % 19)
    towns = [f"town {int(number)}" for number in RNG.pareto(1, ROWS) * 3]
    assert not notes(zip=towns, county=[town[:6] for town in towns], state=[town[:6] for town in towns])
    assert not notes(customer_id=[f"C{number * 2 // 3}" for number in range(ROWS)])


def test_nobody_needs_a_hint_who_chose_the_split() -> None:
    assert not notes("split.by=stratified", customer_id=CODES)
    assert not notes("split.by=time:month", customer_id=CODES, month=DATES)
