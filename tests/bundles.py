"""Small valid bundles without torch: graphs built by hand on the contract of real ones, so serving tests are quick.

Each answer is a clipped weighted sum of the inputs, which the tests can compute themselves.
"""

import hashlib
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from dle_bundle import bundle, documents, integrity, manifest, reference
from dle_bundle.features import measured
from dle_bundle.groups import Groups
from dle_bundle.schema import Field, Label, Outputs, Schema

WORKCLASSES = ("Private", "Self-emp", "State-gov")

INCOME = Schema(
    inputs=(
        Field(name="age", kind="numeric", required=True, observed_range=(17.0, 90.0), example=38.0, unit="years"),
        Field(name="workclass", kind="categorical", required=False, categories=WORKCLASSES, example="Private"),
        Field(name="hours-per-week", kind="numeric", required=False, observed_range=(1.0, 99.0), example=40.0),
        Field(name="married", kind="boolean", required=True, example=True),
        Field(name="since", kind="datetime", required=False, observed_range=("2001-01-01", "2020-01-01")),
        Field(name="zone", kind="categorical", required=False, categories=("1", "2"), json_type="integer", example=1),
    ),
    outputs=Outputs(target="income", task="binary", classes=("<=50K", ">50K"), positive_class=">50K", threshold=0.5),
)
"""Two classes; every kind of input."""

DIGIT = Schema(
    inputs=tuple(Field(name=f"x{index}", kind="numeric", required=True, example=0.5) for index in range(4)),
    outputs=Outputs(target="digit", task="multiclass", classes=(0, 1, 2)),
)
"""Three classes whose labels are whole numbers."""

PRICE = Schema(
    inputs=(
        Field(name="rooms", kind="numeric", required=True, example=3.0),
        Field(name="town", kind="categorical", required=False, categories=("A", "B"), example="A"),
    ),
    outputs=Outputs(target="price", task="regression"),
)
"""A value, no classes."""

SPAM = Schema(
    inputs=(Field(name="capitals", kind="numeric", required=False, example=1.0),),
    outputs=Outputs(target="spam", task="binary", classes=(False, True), positive_class=True, threshold=0.5),
)
"""Labels that are truth values; its one input is optional, so that `{}` is a row."""


def write(folder: Path, schema: Schema = INCOME, *, name: str = "income", version: int = 1) -> Path:
    """A bundle in `folder`, with digests as an exporter writes them."""
    folder.mkdir(parents=True)
    (folder / bundle.SCHEMA).write_bytes(documents.encode(schema))
    onnx.save(graph(schema), folder / bundle.MODEL)
    (folder / bundle.REFERENCE).write_bytes(documents.encode(_reference(schema)))
    (folder / bundle.PARITY).write_text("{}")
    (folder / bundle.CARD).write_text(f"# {name}\n")
    classes = schema.outputs.classes
    described = manifest.Manifest(
        format=manifest.FORMAT,
        name=name,
        version=version,
        task=schema.outputs.task,
        created="2026-01-01T00:00:00Z",
        tools={},
        outputs={"value": "value"} if classes is None else {"label": "label", "probabilities": "probabilities"},
        files={file: integrity.digest(folder / file) for file in bundle.FILES},
    )
    (folder / bundle.MANIFEST).write_bytes(documents.encode(described))
    return folder


def graph(schema: Schema) -> onnx.ModelProto:
    """score = Σ weightᵢ · inputᵢ, missing = 0; probabilities by softmax of score × (0, 1, …), or the score itself."""
    nodes, initializers, inputs, sums = [], [], [], []
    widths = {
        "numeric": len(schema.numeric),
        "categorical": len(schema.categorical),
        "datetime": len(schema.datetime),
    }
    kinds = {"numeric": TensorProto.FLOAT, "categorical": TensorProto.STRING, "datetime": TensorProto.INT64}
    for group, width in widths.items():
        if width:
            inputs.append(helper.make_tensor_value_info(group, kinds[group], ["rows", width]))
            weights = numpy_helper.from_array(_weights(group, width).reshape(width, 1), f"{group}_weights")
            initializers.append(weights)
            nodes += [*_to_numbers(group, schema), *_product(group)]
            sums.append(f"{group}_score")
    initializers += [
        numpy_helper.from_array(np.array(0, np.float32), "zero"),
        numpy_helper.from_array(np.array(1e-9, np.float32), "per_giga"),
        numpy_helper.from_array(np.array(-1e4, np.float32), "low"),
        numpy_helper.from_array(np.array(1e4, np.float32), "high"),
    ]
    nodes += [helper.make_node("Sum", sums, ["score"])]
    classes = schema.outputs.classes
    outputs = [helper.make_tensor_value_info("value", TensorProto.FLOAT, ["rows"])]
    if classes is None:
        initializers.append(numpy_helper.from_array(np.array([1], dtype=np.int64), "last"))
        nodes.append(helper.make_node("Squeeze", ["score", "last"], ["value"]))
    else:
        steps = np.arange(len(classes), dtype=np.float32).reshape(1, -1)
        initializers += [numpy_helper.from_array(steps, "steps"), _classes(classes)]
        nodes += [
            helper.make_node("MatMul", ["score", "steps"], ["logits"]),
            helper.make_node("Softmax", ["logits"], ["probabilities"], axis=1),
            helper.make_node("ArgMax", ["probabilities"], ["winner"], axis=1, keepdims=0),
            helper.make_node("Gather", ["classes", "winner"], ["label"]),
        ]
        outputs = [
            helper.make_tensor_value_info("label", _classes(classes).data_type, ["rows"]),
            helper.make_tensor_value_info("probabilities", TensorProto.FLOAT, ["rows", len(classes)]),
        ]
    whole = helper.make_graph(nodes, "model", inputs, outputs, initializers)
    domains = [helper.make_opsetid("", 20), helper.make_opsetid("ai.onnx.ml", 4)]
    model = helper.make_model(whole, opset_imports=domains, ir_version=10)
    onnx.checker.check_model(model, full_check=True)
    return model


def score(groups: Groups) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    """What the graph computes before its link, for tests to compare with."""
    place = {"": 0.0, **{value: float(index + 1) for index, value in enumerate(_VALUES)}}
    texts = np.array([[place.get(value, -1.0) for value in row] for row in groups.categorical], dtype=np.float64)
    times = np.where(groups.datetime == np.iinfo(np.int64).min, 0.0, groups.datetime * 1e-9)
    numbers = np.clip(np.nan_to_num(groups.numeric.astype(np.float64)), -1e4, 1e4)
    total = np.zeros(len(groups))
    for group, values in (("numeric", numbers), ("categorical", texts), ("datetime", times)):
        if values.size:
            total = total + values @ _weights(group, values.shape[1]).astype(np.float64)
    return total


_VALUES = (*WORKCLASSES, "1", "2", "A", "B")


def _weights(group: str, width: int) -> np.ndarray[tuple[int], np.dtype[np.float32]]:
    seed = int.from_bytes(hashlib.sha256(f"{group}{width}".encode()).digest()[:4], "little")
    return np.random.default_rng(seed).normal(0, 0.05, width).astype(np.float32)


def _to_numbers(group: str, schema: Schema) -> list[onnx.NodeProto]:
    if group == "numeric":
        return [
            helper.make_node("IsNaN", ["numeric"], ["is_missing"]),
            helper.make_node("Where", ["is_missing", "zero", "numeric"], ["filled"]),
            helper.make_node("Clip", ["filled", "low", "high"], ["numeric_numbers"]),
        ]
    if group == "categorical":
        encoder = helper.make_node(
            "LabelEncoder",
            ["categorical"],
            ["categorical_numbers"],
            domain="ai.onnx.ml",
            keys_strings=["", *_VALUES],
            values_floats=[float(index) for index in range(len(_VALUES) + 1)],
            default_float=-1.0,
        )
        return [encoder]
    smallest = helper.make_tensor("smallest", TensorProto.INT64, [], [np.iinfo(np.int64).min])
    return [
        helper.make_node("Constant", [], ["no_time"], value=smallest),
        helper.make_node("Equal", ["datetime", "no_time"], ["is_no_time"]),
        helper.make_node("Cast", ["datetime"], ["seconds"], to=TensorProto.FLOAT),
        helper.make_node("Mul", ["seconds", "per_giga"], ["giga"]),
        helper.make_node("Where", ["is_no_time", "zero", "giga"], ["datetime_numbers"]),
    ]


def _product(group: str) -> list[onnx.NodeProto]:
    return [helper.make_node("MatMul", [f"{group}_numbers", f"{group}_weights"], [f"{group}_score"])]


def _classes(classes: tuple[Label, ...]) -> onnx.TensorProto:
    if isinstance(classes[0], str):
        texts: Any = [str(value).encode() for value in classes]
        return helper.make_tensor("classes", TensorProto.STRING, [len(classes)], texts)
    kind = TensorProto.BOOL if isinstance(classes[0], bool) else TensorProto.INT64
    return helper.make_tensor("classes", kind, [len(classes)], [int(value) for value in classes])


def groups(schema: Schema, count: int, seed: int = 0, shift: float = 0.0) -> Groups:
    """Rows as the reference knows them: normal numbers (moved by `shift` standard deviations), categories, times."""
    random = np.random.default_rng(seed)
    numbers = random.normal(shift, 1, (count, len(schema.numeric)))
    for index, field in enumerate(schema.numeric):
        low, high = field.observed_range or (-4.0, 4.0)
        assert isinstance(low, float)
        assert isinstance(high, float)
        whole = (numbers[:, index] > 0).astype(np.float64)
        numbers[:, index] = (
            whole if field.kind == "boolean" else (low + high + (high - low) / 4 * numbers[:, index]) / 2
        )
    texts = np.empty((count, len(schema.categorical)), dtype=object)
    for index, field in enumerate(schema.categorical):
        texts[:, index] = random.choice(np.array(field.categories, dtype=object), count)
    times = random.integers(1_000_000_000, 1_500_000_000, (count, len(schema.datetime)))
    return Groups(numbers.astype(np.float32), texts, times)


def rows(schema: Schema, count: int, seed: int = 0, shift: float = 0.0) -> list[dict[str, Any]]:
    """The rows of `groups` as a request has them."""
    found = groups(schema, count, seed, shift)
    by_name: dict[str, list[Any]] = {}
    for feature in measured(found, schema):
        field, values = feature.field, feature.values
        if field.kind == "datetime":
            by_name[field.name] = [datetime.fromtimestamp(value, UTC).isoformat() for value in values]
        else:
            by_name[field.name] = [bool(value) for value in values] if field.kind == "boolean" else values.tolist()
    return [dict(zip(by_name, row, strict=True)) for row in zip(*by_name.values(), strict=True)]


def answers(schema: Schema, found: Groups) -> np.ndarray[Any, np.dtype[np.float64]]:
    """What the graph answers: probabilities (N, K), or values (N,)."""
    total = score(found)
    if schema.outputs.classes is None:
        return total
    raised = np.exp(total[:, None] * np.arange(len(schema.outputs.classes)))
    return np.asarray(raised / raised.sum(axis=1, keepdims=True))


def _reference(schema: Schema) -> reference.Reference:
    known = groups(schema, 2_000)
    found = answers(schema, known)
    names = schema.outputs.class_names
    if names:
        counts = np.bincount(found.argmax(axis=1), minlength=len(names))
        prediction = reference.Bins(names=names, fractions=reference.smoothed(counts), categories=names)
        scores = {"accuracy": float(found.max(axis=1).mean())}  # as sure as right, as after calibration
    else:
        prediction = reference.number_bins(found.astype(np.float32))
        scores = {"mae": 0.5, "rmse": 0.6}
    return reference.Reference(
        rows=len(known),
        features=reference.feature_bins(measured(known, schema)),
        prediction_rows=len(known),
        prediction=prediction,
        calibration={"temperature": 1.0},
        metrics={"test": scores},
    )


EXAMPLE: Mapping[str, object] = {
    "age": 39,
    "workclass": "State-gov",
    "hours-per-week": 40,
    "married": False,
    "since": "2010-06-01T12:00:00Z",
    "zone": 2,
}
"""A row that INCOME takes."""
