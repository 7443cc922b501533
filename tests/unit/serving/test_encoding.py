"""The bodies that are written from templates are the JSON that msgspec would write."""

from collections.abc import Sequence
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dle_bundle.schema import Label, Outputs
from dle_serving.feedback.ids import NO_CLASS, SigningKeys
from dle_serving.models.encoding import ResponseEncoder
from dle_serving.predictions import Predictions

KEYS = SigningKeys([b"k" * 32])


def encoder(outputs: Outputs, name: str = "model") -> ResponseEncoder:
    return ResponseEncoder(name, 3, outputs, KEYS, b"abcd")


def written(found: bytes, rows: list[dict[str, Any]], name: str = "model") -> None:
    """Assert that the body is that of these rows, whose ids are added."""
    body = msgspec.json.decode(found)
    with_ids = [
        {**({"id": each["id"]} if "id" in each else {}), **row}
        for each, row in zip(body["predictions"], rows, strict=True)
    ]
    assert found == msgspec.json.encode({"model": name, "version": 3, "predictions": with_ids})


LABELS: tuple[tuple[Label, ...], ...] = (
    ("<=50K", ">50K"),
    (False, True),
    (0, 1, 2),
    ("100%", "%b", "%(x)s", '"', "\\", "a\nb", "é", "日本", "", "{}", "a:b", "a,b"),
)


@pytest.mark.parametrize("labels", LABELS, ids=["text", "truth values", "numbers", "odd"])
@pytest.mark.parametrize("with_ids", [True, False])
def test_classes(labels: tuple[Label, ...], with_ids: bool) -> None:
    outputs = Outputs(target="y", task="multiclass" if len(labels) > 2 else "binary", classes=labels)
    rng = np.random.default_rng(0)
    table = rng.dirichlet(np.ones(len(labels)), 5).astype(np.float32)
    table[0] = 0
    table[0, 1] = 1
    classes = table.argmax(axis=1)
    sizes = [2, 0, 3]
    bodies = encoder(outputs).bodies(Predictions(classes, table), sizes, [with_ids] * 3)
    start = 0
    for body, size in zip(bodies, sizes, strict=True):
        rows = [
            {
                "label": labels[place],
                "probability": row[place],
                "probabilities": dict(zip(outputs.class_names, row, strict=True)),
            }
            for place, row in zip(
                classes[start : start + size].tolist(), table[start : start + size].tolist(), strict=True
            )
        ]
        written(body, rows)
        assert body.count(b'"id":') == (size if with_ids else 0)
        start += size


@given(st.lists(st.floats(-1e30, 1e30), max_size=6))
def test_values(values: list[float]) -> None:
    outputs = Outputs(target="y", task="regression", mean=3.0, sd=2.0)
    (body,) = encoder(outputs).bodies(Predictions(values=np.array(values, dtype=np.float64)), [len(values)], [False])
    written(body, [{"value": value} for value in values])


def test_forecasts() -> None:
    outputs = Outputs(target="y", task="regression", horizon=3)
    values = np.arange(6.0).reshape(2, 3) / 7
    (body,) = encoder(outputs).bodies(Predictions(values=values), [2], [True])
    written(body, [{"values": row} for row in values.tolist()])


def test_ids_where_they_are_wanted() -> None:
    outputs = Outputs(target="y", task="regression", mean=10.0, sd=2.0)
    answers = Predictions(values=np.array([10.0, 14.0, 8.0]))
    first, second, third = encoder(outputs, 'na"me').bodies(answers, [1, 1, 1], [True, False, True])
    written(second, [{"value": 14.0}], 'na"me')
    for body, value in ((first, 0.0), (third, -1.0)):
        (prediction,) = msgspec.json.decode(body)["predictions"]
        found = KEYS.verify(prediction["id"], 1 << 31, 1 << 31)
        assert (found.class_index, found.answer, found.fingerprint) == (None, value, b"abcd")


def test_ids_contain_class_and_confidence() -> None:
    outputs = Outputs(target="y", task="binary", classes=("a", "b"))
    table = np.array([[0.25, 0.75], [0.5, 0.5]], dtype=np.float32)
    (body,) = encoder(outputs).bodies(Predictions(np.array([1, 0]), table), [2], [True])
    found = [KEYS.verify(each["id"], 1 << 31, 1 << 31) for each in msgspec.json.decode(body)["predictions"]]
    assert [(each.class_index, each.answer) for each in found] == [(1, 0.75), (0, 0.5)]
    assert NO_CLASS not in [each.class_index for each in found]


@pytest.mark.parametrize("sizes", [[], [0], [0, 0]])
def test_no_rows(sizes: Sequence[int]) -> None:
    outputs = Outputs(target="y", task="binary", classes=("a", "b"))
    nothing = Predictions(np.empty(0, dtype=np.int64), np.empty((0, 2), dtype=np.float32))
    bodies = encoder(outputs).bodies(nothing, sizes, [True] * len(sizes))
    assert bodies == [b'{"model":"model","version":3,"predictions":[]}'] * len(sizes)
