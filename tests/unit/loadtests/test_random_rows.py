"""Drawn rows: the service takes every one, they follow from the seed, and they stay where training was."""

import json
from random import Random
from typing import Any

import pytest
from tests.bundles import DIGIT, INCOME, PRICE, SPAM

import random_rows
from dle_bundle.rows import RowDecoder
from dle_bundle.schema import Schema


def draw(schema: Schema, seed: int = 0, count: int = 500) -> list[dict[str, Any]]:
    random = Random(seed)
    return [random_rows.row(schema, random) for _ in range(count)]


@pytest.mark.parametrize("schema", [INCOME, DIGIT, PRICE, SPAM], ids=lambda schema: schema.outputs.target)
def test_the_service_takes_them(schema: Schema) -> None:
    assert len(RowDecoder(schema).decode(json.dumps({"rows": draw(schema)}).encode())) == 500


def test_they_follow_from_the_seed() -> None:
    assert draw(INCOME, 1) == draw(INCOME, 1) != draw(INCOME, 2)


def test_values_vary_within_what_training_saw() -> None:
    rows = draw(INCOME)
    values = {field.name: {row[field.name] for row in rows} for field in INCOME.inputs}
    assert all(17 <= age <= 90 for age in values["age"])
    assert len(values["age"]) > 30
    assert values["workclass"] == {"Private", "Self-emp", "State-gov", None}
    assert values["married"] == {True, False}
    assert values["zone"] == {1, 2, None}
    assert all(since is None or "2001-01-01" <= since <= "2020-01-01T00:00:00" for since in values["since"])
    assert len(values["since"]) > 400


def test_most_predictions_turn_out_to_be_right() -> None:
    random = Random(0)
    told = [random_rows.actual(DIGIT.outputs, 1, random) for _ in range(500)]
    assert set(told) == {0, 1, 2}
    assert 350 < told.count(1) < 450
    values = {random_rows.actual(PRICE.outputs, 200.0, random) for _ in range(500)}
    assert len(values) == 500
    assert all(isinstance(value, float) and 50 < value < 350 for value in values)
