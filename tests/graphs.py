"""Graphs built by hand on the contract of real ones, without torch: quick to make, and easy to compute beside them.

Each answer is a weighted sum of what the inputs are reduced to: numbers clipped, the place of a category, an image's
mean, the mean step of each channel, the sum of the known steps of each channel, the sum of a text's tokens.
"""

import hashlib
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from dle_bundle.groups import Groups
from dle_bundle.schema import Label, Schema

Floats = np.ndarray[Any, np.dtype[np.float64]]

VALUES = ("Private", "Self-emp", "State-gov", "1", "2", "A", "B")
"""The categories that these graphs know."""
MIDDLE_LEVEL, MIDDLE_SUM = 128, 40
"""What is taken from an image's mean, and from the sum of a text's tokens."""
_KINDS = {
    "numeric": TensorProto.DOUBLE,
    "categorical": TensorProto.STRING,
    "datetime": TensorProto.INT64,
    "image": TensorProto.UINT8,
    "sequence": TensorProto.DOUBLE,
    "known": TensorProto.DOUBLE,
    "tokens": TensorProto.INT64,
}


def graph(schema: Schema) -> onnx.ModelProto:
    """score = Σ weightᵢ · inputᵢ, missing = 0; probabilities by softmax of score × (0, 1, …), or the score itself.

    Of a forecast the values are score × (1, 2, …).
    """
    nodes, initializers, inputs, sums = [], [], [], []
    for group, shape in _shapes(schema).items():
        inputs.append(helper.make_tensor_value_info(group, _KINDS[group], ["rows", *shape]))
        width = 1 if group in ("image", "tokens") else int(shape[-1])
        weights = numpy_helper.from_array(_weights(group, width).reshape(width, 1), f"{group}_weights")
        initializers.append(weights)
        nodes += [*_to_numbers(group), *_product(group)]
        sums.append(f"{group}_score")
    if schema.sequence:
        inputs.append(helper.make_tensor_value_info("lengths", TensorProto.INT64, ["rows"]))
    initializers += [
        numpy_helper.from_array(np.array(0, np.float32), "zero"),
        numpy_helper.from_array(np.array(0.0), "zero_number"),
        numpy_helper.from_array(np.array(1e-9, np.float32), "per_giga"),
        numpy_helper.from_array(np.array(-1e4), "low"),
        numpy_helper.from_array(np.array(1e4), "high"),
        numpy_helper.from_array(np.array(MIDDLE_LEVEL, np.float32), "middle_level"),
        numpy_helper.from_array(np.array(MIDDLE_SUM, np.float32), "middle_sum"),
        numpy_helper.from_array(np.array([1], np.int64), "second"),
        numpy_helper.from_array(np.array([1, 2, 3], np.int64), "pixels"),
    ]
    nodes += [helper.make_node("Sum", sums, ["score"])]
    classes, horizon = schema.outputs.classes, schema.outputs.horizon
    if classes is None and horizon > 1:
        steps = np.arange(1, horizon + 1, dtype=np.float32).reshape(1, -1)
        initializers.append(numpy_helper.from_array(steps, "steps"))
        nodes += [
            helper.make_node("MatMul", ["score", "steps"], ["scores"]),
            helper.make_node("Cast", ["scores"], ["value"], to=TensorProto.DOUBLE),
        ]
        outputs = [helper.make_tensor_value_info("value", TensorProto.DOUBLE, ["rows", horizon])]
    elif classes is None:
        nodes += [
            helper.make_node("Squeeze", ["score", "second"], ["scores"]),
            helper.make_node("Cast", ["scores"], ["value"], to=TensorProto.DOUBLE),
        ]
        outputs = [helper.make_tensor_value_info("value", TensorProto.DOUBLE, ["rows"])]
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


def score(groups: Groups) -> Floats:
    """What the graph computes before its link (N,), for tests to compare with; text must have been tokenised."""
    place = {"": 0.0, **{value: float(index + 1) for index, value in enumerate(VALUES)}}
    texts = np.array([[place.get(value, -1.0) for value in row] for row in groups.categorical], dtype=np.float64)
    times = np.where(groups.datetime == np.iinfo(np.int64).min, 0.0, groups.datetime * 1e-9)
    reduced = {
        "numeric": np.clip(np.nan_to_num(groups.numeric.astype(np.float64)), -1e4, 1e4),
        "categorical": texts,
        "datetime": times,
    }
    if groups.image is not None:
        reduced["image"] = np.asarray(groups.image).astype(np.float64).mean(axis=(1, 2, 3))[:, None] - MIDDLE_LEVEL
    if groups.sequence is not None:
        assert groups.lengths is not None
        reduced["sequence"] = np.nan_to_num(groups.sequence.astype(np.float64)).sum(axis=1) / groups.lengths[:, None]
    if groups.known is not None:
        reduced["known"] = np.nan_to_num(groups.known.astype(np.float64)).sum(axis=1)
    if groups.tokens is not None:
        reduced["tokens"] = groups.tokens.sum(axis=1, dtype=np.float64)[:, None] - MIDDLE_SUM
    total = np.zeros(len(groups))
    for group, values in reduced.items():
        if values.size:
            total = total + values @ _weights(group, values.shape[1]).astype(np.float64)
    return total


def answers(schema: Schema, found: Groups) -> Floats:
    """What the graph answers: probabilities (N, K), values (N,), or (N, horizon)."""
    total = score(found)
    if schema.outputs.classes is None:
        horizon = schema.outputs.horizon
        return total if horizon == 1 else total[:, None] * np.arange(1, horizon + 1)
    logits = total[:, None] * np.arange(len(schema.outputs.classes))
    raised = np.exp(logits - logits.max(axis=1, keepdims=True))
    return np.asarray(raised / raised.sum(axis=1, keepdims=True))


def _shapes(schema: Schema) -> dict[str, list[str | int]]:
    """The shape of each group that the schema has fields of, beside its rows."""
    shapes: dict[str, list[str | int]] = {
        group: [len(fields)]
        for group, fields in (
            ("numeric", schema.numeric),
            ("categorical", schema.categorical),
            ("datetime", schema.datetime),
        )
        if fields
    }
    if schema.image and (image := schema.image[0].image):
        shapes["image"] = [len(schema.image) * image.channels, image.height, image.width]
    if schema.sequence:
        shapes["sequence"] = ["steps", sum(len(field.sequence.channels) for field in schema.sequence if field.sequence)]
    for field in schema.known:
        assert field.sequence is not None
        shapes["known"] = [field.sequence.max_steps, len(field.sequence.channels)]
    if schema.text:
        shapes["tokens"] = ["tokens"]
    return shapes


def _weights(group: str, width: int) -> np.ndarray[tuple[int], np.dtype[np.float32]]:
    if group in ("image", "tokens"):
        return np.array([0.02], dtype=np.float32)
    seed = int.from_bytes(hashlib.sha256(f"{group}{width}".encode()).digest()[:4], "little")
    scale = 1.0 if group == "sequence" else 0.05
    return np.random.default_rng(seed).normal(0, scale, width).astype(np.float32)


def _to_numbers(group: str) -> list[onnx.NodeProto]:
    if group == "numeric":
        return [
            helper.make_node("IsNaN", ["numeric"], ["is_missing"]),
            helper.make_node("Where", ["is_missing", "zero_number", "numeric"], ["filled"]),
            helper.make_node("Clip", ["filled", "low", "high"], ["clipped"]),
            helper.make_node("Cast", ["clipped"], ["numeric_numbers"], to=TensorProto.FLOAT),
        ]
    if group == "categorical":
        encoder = helper.make_node(
            "LabelEncoder",
            ["categorical"],
            ["categorical_numbers"],
            domain="ai.onnx.ml",
            keys_strings=["", *VALUES],
            values_floats=[float(index) for index in range(len(VALUES) + 1)],
            default_float=-1.0,
        )
        return [encoder]
    if group == "image":
        return [
            helper.make_node("Cast", ["image"], ["levels"], to=TensorProto.FLOAT),
            helper.make_node("ReduceMean", ["levels", "pixels"], ["level"], keepdims=0),
            helper.make_node("Unsqueeze", ["level", "second"], ["column_of_levels"]),
            helper.make_node("Sub", ["column_of_levels", "middle_level"], ["image_numbers"]),
        ]
    if group == "sequence":
        return [
            helper.make_node("IsNaN", ["sequence"], ["is_no_step"]),
            helper.make_node("Where", ["is_no_step", "zero_number", "sequence"], ["known_steps"]),
            helper.make_node("ReduceSum", ["known_steps", "second"], ["exact_sum_of_steps"], keepdims=0),
            helper.make_node("Cast", ["exact_sum_of_steps"], ["sum_of_steps"], to=TensorProto.FLOAT),
            helper.make_node("Cast", ["lengths"], ["counts"], to=TensorProto.FLOAT),
            helper.make_node("Unsqueeze", ["counts", "second"], ["counts_of_rows"]),
            helper.make_node("Div", ["sum_of_steps", "counts_of_rows"], ["sequence_numbers"]),
        ]
    if group == "known":
        return [
            helper.make_node("IsNaN", ["known"], ["is_not_known"]),
            helper.make_node("Where", ["is_not_known", "zero_number", "known"], ["known_values"]),
            helper.make_node("ReduceSum", ["known_values", "second"], ["sum_of_known"], keepdims=0),
            helper.make_node("Cast", ["sum_of_known"], ["known_numbers"], to=TensorProto.FLOAT),
        ]
    if group == "tokens":
        return [
            helper.make_node("ReduceSum", ["tokens", "second"], ["sum_of_tokens"], keepdims=1),
            helper.make_node("Cast", ["sum_of_tokens"], ["real_sums"], to=TensorProto.FLOAT),
            helper.make_node("Sub", ["real_sums", "middle_sum"], ["tokens_numbers"]),
        ]
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
