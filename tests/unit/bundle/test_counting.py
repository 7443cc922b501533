"""One vector for all counts: it must say what counting one by one says."""

from collections import Counter as Naive

import msgspec
import numpy as np
import pytest
from tests import bundles

from dle_bundle.drift import reference
from dle_bundle.drift.counting import BinCounter
from dle_bundle.drift.features import feature_names, monitored_features
from dle_bundle.drift.reference import Bins, Reference
from dle_bundle.groups import Groups
from dle_bundle.rows.decoder import RowDecoder
from dle_bundle.schema import Schema
from dle_bundle.text import Tokenizer


def built(schema: Schema, prediction: Bins) -> Reference:
    known = bundles.groups(schema, 1_000)
    return Reference(
        rows=1_000,
        features=reference.feature_bins(monitored_features(known, schema)),
        prediction_rows=1_000,
        prediction=prediction,
        calibration={},
        metrics={},
    )


CLASSES = Bins(names=("<=50K", ">50K"), fractions=(0.5, 0.5), categories=("<=50K", ">50K"))


def test_rows_are_counted_as_one_by_one() -> None:
    counter = BinCounter(found := built(bundles.INCOME, CLASSES), bundles.INCOME)
    rows = bundles.groups(bundles.INCOME, 300, seed=1, shift=0.4)
    rows.numeric[::7, 1] = np.nan
    rows.categorical[::5, 0] = ""
    rows.categorical[1::5, 0] = "never seen"
    tally = counter.read(counter.count(rows))
    assert list(tally.features) == list(found.features)
    for feature in monitored_features(rows, bundles.INCOME):
        bins = found.features[feature.name]
        naive = Naive(_bin(bins, value) for value in feature.values)
        counted = dict(zip(bins.names, tally.features[feature.name].tolist(), strict=True))
        assert counted == {name: naive[name] for name in bins.names}, feature.name
    assert tally.rows == 0


def _bin(bins: Bins, value: object) -> str:
    if bins.edges is None:
        known = {value: value for value in bins.categories or ()} | {"": "missing"}
        return known.get(str(value), "unseen")
    assert isinstance(value, float | np.floating)
    if np.isnan(value):
        return "missing"
    if value < bins.edges[0]:
        return "below"
    inner = zip(bins.names[1:-2], bins.edges[1:], strict=True)
    return next((name for name, high in inner if value < high), "above")


def test_answers_are_counted_with_their_own_promise() -> None:
    counter = BinCounter(built(bundles.INCOME, CLASSES), bundles.INCOME)
    sums = counter.count_classes(np.array([0, 1, 1]), np.array([0.6, 0.9, 1.0], np.float32))
    tally = counter.read(sums)
    assert tally.prediction.tolist() == [1, 2]
    assert tally.rows == 3
    assert tally.expected_correct == pytest.approx(2.5)
    assert tally.expected_variance == pytest.approx(0.24 + 0.09)
    assert sum(counts.sum() for counts in tally.features.values()) == 0


def test_classes_without_a_bin_of_their_own_are_other() -> None:
    prediction = Bins(names=("1", "other"), fractions=(0.5, 0.5), categories=("1",), others=("0", "2"))
    counter = BinCounter(built(bundles.DIGIT, prediction), bundles.DIGIT)
    tally = counter.read(counter.count_classes(np.array([0, 1, 2]), np.ones(3, np.float32)))
    assert tally.prediction.tolist() == [1, 2]


def test_values_of_a_regression_are_binned() -> None:
    prediction = reference.number_bins(np.arange(100, dtype=np.float32))
    counter = BinCounter(built(bundles.PRICE, prediction), bundles.PRICE)
    tally = counter.read(counter.count_values(np.array([-1, 0, 99, 1e6], np.float32)))
    assert (tally.prediction[0], tally.prediction[1], tally.prediction[-2]) == (1, 1, 1)
    assert tally.rows == 4
    assert tally.expected_correct == 0


def test_what_is_not_monitored_is_not_counted() -> None:
    found = built(bundles.DIGIT, Bins(names=("0", "1", "2"), fractions=(0.4, 0.3, 0.3), categories=("0", "1", "2")))
    few = {name: bins for name, bins in found.features.items() if name != "x1"}
    counter = BinCounter(Reference(**{**_fields(found), "features": few}), bundles.DIGIT)  # type: ignore[arg-type]
    tally = counter.read(counter.count(bundles.groups(bundles.DIGIT, 10)))
    assert list(tally.features) == ["x0", "x2", "x3"]
    assert all(counts.sum() == 10 for counts in tally.features.values())


@pytest.mark.parametrize("schema", [bundles.PICTURE, bundles.SIGNAL, bundles.REVIEW], ids=["image", "series", "text"])
def test_what_describes_images_series_and_text_is_counted(schema: Schema) -> None:
    schema = optional(schema)
    known, tokenizer = bundles.groups(schema, 1_000), bundles.tokenizer()
    bins = reference.feature_bins(monitored_features(known, schema, tokenizer))
    found = Reference(rows=1_000, features=bins, prediction_rows=1, prediction=CLASSES, calibration={}, metrics={})
    counter = BinCounter(found, schema, tokenizer)
    tally = counter.read(counter.count(known))
    assert list(tally.features) == list(feature_names(schema))
    for name, counts in tally.features.items():
        assert counts.sum() == 1_000
        np.testing.assert_allclose(counts / 1_000, bins[name].fractions, atol=0.01)
    moved = counter.read(counter.count(bundles.groups(schema, 1_000, seed=1, shift=2.0)))
    changed = [name for name in bins if np.abs(moved.features[name] - tally.features[name]).sum() > 600]
    assert changed
    nothing = counter.read(counter.count(missing(schema, 10, tokenizer)))
    for name, counts in nothing.features.items():
        assert counts[-1] == 10, f"{name} is missing"


def optional(schema: Schema) -> Schema:
    fields = tuple(msgspec.structs.replace(field, required=False) for field in schema.inputs)
    return msgspec.structs.replace(schema, inputs=fields)


def missing(schema: Schema, count: int, tokenizer: Tokenizer) -> Groups:
    rows = RowDecoder(schema).decode(msgspec.json.encode({"rows": [{}] * count}))
    return rows if rows.text is None else rows.with_tokens(tokenizer.tokens(rows.text))


def _fields(found: Reference) -> dict[str, object]:
    return {name: getattr(found, name) for name in Reference.__struct_fields__}
