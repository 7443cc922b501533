"""Drawn rows: the service takes every one, they follow from the seed, and they stay where training was."""

import json
from random import Random
from typing import Any

import pytest
from tests.bundles import DIGIT, FORECAST, INCOME, PICTURE, PRICE, REVIEW, SIGNAL, SPAM

import random_rows
from dle_bundle.images import pixels
from dle_bundle.rows.decoder import RowDecoder
from dle_bundle.schema import ImageShape, Schema


def draw(schema: Schema, seed: int = 0, count: int = 500) -> list[dict[str, Any]]:
    random = Random(seed)
    return [random_rows.row(schema, random) for _ in range(count)]


SCHEMAS = (INCOME, DIGIT, PRICE, SPAM, PICTURE, SIGNAL, REVIEW, FORECAST)


@pytest.mark.parametrize("schema", SCHEMAS, ids=lambda schema: schema.outputs.target)
def test_the_service_takes_them(schema: Schema) -> None:
    assert len(RowDecoder(schema).decode(json.dumps({"rows": draw(schema)}).encode())) == 500


@pytest.mark.parametrize(
    "schema", [INCOME, PICTURE, SIGNAL, REVIEW, FORECAST], ids=lambda schema: schema.outputs.target
)
def test_they_follow_from_the_seed(schema: Schema) -> None:
    assert draw(schema, 1) == draw(schema, 1) != draw(schema, 2)


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
    near = random_rows.actual(FORECAST.outputs, [100.0, 200.0, 300.0], random)
    assert isinstance(near, list)
    assert [round(value, -2) for value in near] == [100, 200, 300]


@pytest.mark.parametrize("channels", [1, 3])
def test_images_are_drawn_to_size(channels: Any) -> None:
    shape = ImageShape(channels=channels, height=7, width=9)
    content = random_rows.png(shape, Random(0))
    assert pixels.measure(content) == (channels == 3, 7, 9)
    assert pixels.decode(content, shape).std() > 50


def test_series_are_as_long_as_training_saw() -> None:
    lengths = {len(row["signal"]) for row in draw(SIGNAL)}
    assert (min(lengths), max(lengths)) == (5, 30)
